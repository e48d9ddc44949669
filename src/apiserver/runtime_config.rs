//! `--runtime-config`: upstream's way to turn parts of the API on and off.
//!
//! Stable versions are on. A version that is beta or alpha can be turned on where its kinds are those of the
//! stable version under another name ([`kinds::early`]); the others are known by name and refused, so that
//! nobody waits for them. Absent: turning off what is stable.

use api::{KindRow, kinds};

/// Entries that stand for many versions, the later ones outranking the earlier.
const SHORTHANDS: [&str; 5] = ["api/all", "api/ga", "api/beta", "api/alpha", "api/legacy"];

/// Versions of v1.36, or kinds of them, that this server has not.
const LEFT_OUT: [(&str, &str, &[&str]); 10] = [
    ("certificates.k8s.io", "v1alpha1", &["clustertrustbundles"]),
    ("certificates.k8s.io", "v1beta1", &["clustertrustbundles", "podcertificaterequests"]),
    ("coordination.k8s.io", "v1alpha2", &["leasecandidates"]),
    ("coordination.k8s.io", "v1beta1", &["leasecandidates"]),
    ("internal.apiserver.k8s.io", "v1alpha1", &["storageversions"]),
    ("resource.k8s.io", "v1alpha3", &["devicetaintrules", "resourcepoolstatusrequests"]),
    (
        "resource.k8s.io",
        "v1beta1",
        &["deviceclasses", "resourceclaims", "resourceclaimtemplates", "resourceslices"],
    ),
    ("resource.k8s.io", "v1beta2", &["devicetaintrules"]),
    ("scheduling.k8s.io", "v1alpha2", &["podgroups", "workloads"]),
    ("storagemigration.k8s.io", "v1beta1", &["storageversionmigrations"]),
];

/// Why an entry means nothing here.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RuntimeConfigError {
    #[error("runtime-config invalid key {0}")]
    Key(String),
    #[error("invalid value of {key}: {value:?}: invalid syntax")]
    Value { key: String, value: String },
    #[error("unknown api groups {0}")]
    Group(String),
    #[error("group version {0} that has not been registered")]
    Version(String),
    #[error("group version {version} has no resource {resource:?}")]
    Resource { version: String, resource: String },
    #[error("{0} cannot be turned off by this server yet")]
    Off(String),
    #[error("{0} cannot be turned on: this server does not have it")]
    Absent(String),
}

/// What is served beside the stable versions.
#[derive(Clone, Debug, Default)]
pub struct RuntimeConfig {
    /// Keys and whether they are on, in the order of the flag.
    entries: Vec<(String, bool)>,
}

/// A group, a version, and a resource if the entry is about one.
type Named<'a> = (&'a str, &'a str, Option<&'a str>);

impl RuntimeConfig {
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, RuntimeConfigError> {
        let mut config = RuntimeConfig::default();
        for entry in entries {
            let (key, value) = entry.split_once('=').unwrap_or((entry, "true"));
            let on = if value.is_empty() { Some(true) } else { go_bool(value) };
            let on = on.ok_or_else(|| {
                let (key, value) = (key.to_string(), value.to_string());
                RuntimeConfigError::Value { key, value }
            })?;
            check(key, on)?;
            config.entries.push((key.to_string(), on));
        }
        Ok(config)
    }

    /// The rows that are served beside those of the table.
    pub(crate) fn rows(&self) -> Vec<KindRow> {
        kinds::early().into_iter().filter(|row| self.is_on(row)).collect()
    }

    /// What `api/all`, `api/beta` or `api/alpha` ask for and this server does not have.
    pub fn left_out(&self) -> Vec<String> {
        let asked = |(_, version, _): &&(&str, &str, &[&str])| self.of_shorthands(version) == Some(true);
        let names = LEFT_OUT.iter().filter(asked);
        names.map(|(group, version, kinds)| format!("{group}/{version} {}", kinds.join(", "))).collect()
    }

    /// What is said last of a key.
    fn said(&self, key: &str) -> Option<bool> {
        self.entries.iter().rev().find(|(own, _)| own == key).map(|(_, on)| *on)
    }

    fn of_shorthands(&self, version: &str) -> Option<bool> {
        let stage = if version.contains("alpha") { "api/alpha" } else { "api/beta" };
        self.said(stage).or_else(|| self.said("api/all"))
    }

    fn is_on(&self, row: &KindRow) -> bool {
        let version = row.api_version();
        let own = self.said(&format!("{version}/{}", row.plural)).or_else(|| self.said(&version));
        own.or_else(|| self.of_shorthands(&row.version)).unwrap_or(false)
    }
}

/// Go's words for the two values.
pub(crate) fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn check(key: &str, on: bool) -> Result<(), RuntimeConfigError> {
    if matches!(key, "api/beta" | "api/alpha") {
        return Ok(());
    }
    if SHORTHANDS.contains(&key) {
        return if on { Ok(()) } else { Err(RuntimeConfigError::Off(key.to_string())) };
    }
    let (group, version, resource) = named(key)?;
    if kinds::early().iter().any(|row| is_of(row, group, version, resource)) {
        return Ok(());
    }
    if is_left_out(group, version, resource) {
        return if on { Err(RuntimeConfigError::Absent(key.to_string())) } else { Ok(()) };
    }
    known(group, version, resource)?;
    if on { Ok(()) } else { Err(RuntimeConfigError::Off(key.to_string())) }
}

fn named(key: &str) -> Result<Named<'_>, RuntimeConfigError> {
    match key.split('/').collect::<Vec<_>>()[..] {
        ["v1"] | ["api", "v1"] => Ok(("", "v1", None)),
        [group, version] => Ok((group, version, None)),
        [group, version, resource] => Ok((group, version, Some(resource))),
        _ => Err(RuntimeConfigError::Key(key.to_string())),
    }
}

fn is_of(row: &KindRow, group: &str, version: &str, resource: Option<&str>) -> bool {
    row.group == group && row.version == version && resource.is_none_or(|plural| row.plural == plural)
}

fn is_left_out(group: &str, version: &str, resource: Option<&str>) -> bool {
    LEFT_OUT.iter().any(|(own, of, kinds)| {
        *own == group && *of == version && resource.is_none_or(|plural| kinds.contains(&plural))
    })
}

/// Whether this is something stable, and else what is wrong with it.
fn known(group: &str, version: &str, resource: Option<&str>) -> Result<(), RuntimeConfigError> {
    let is_group = kinds::ALL.iter().any(|row| row.group == group);
    if !is_group && !LEFT_OUT.iter().any(|(own, ..)| *own == group) {
        return Err(RuntimeConfigError::Group(group.to_string()));
    }
    let named = format!("{group}/{version}");
    let early = kinds::early();
    let mut rows = kinds::ALL.iter().copied().chain(&early);
    let is_version = rows.any(|row| is_of(row, group, version, None)) || is_left_out(group, version, None);
    if !is_version {
        return Err(RuntimeConfigError::Version(named));
    }
    match resource {
        Some(plural) if !kinds::ALL.iter().any(|row| is_of(row, group, version, resource)) => {
            Err(RuntimeConfigError::Resource { version: named, resource: plural.to_string() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
