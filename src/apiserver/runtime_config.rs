//! `--runtime-config`: upstream's way to turn parts of the API on and off.
//!
//! Everything that this server has is stable and on, so an entry can confirm it or be refused. Absent:
//! versions that are beta or alpha, and turning off what is built in.

use api::kinds;

/// Entries that stand for many versions.
const SHORTHANDS: [&str; 5] = ["api/all", "api/ga", "api/beta", "api/alpha", "api/legacy"];

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
}

/// Whether all entries name something that this server has.
pub fn check_runtime_config<'a>(
    entries: impl IntoIterator<Item = &'a str>,
) -> Result<(), RuntimeConfigError> {
    entries.into_iter().try_for_each(check)
}

fn check(entry: &str) -> Result<(), RuntimeConfigError> {
    let (key, value) = entry.split_once('=').map_or((entry, "true"), |(key, value)| (key, value));
    // Go's words for the two values; an empty one means true.
    let on = match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        other => {
            return Err(RuntimeConfigError::Value { key: key.to_string(), value: other.to_string() });
        }
    };
    if matches!(key, "api/beta" | "api/alpha") {
        // There are none, so either value holds.
        return Ok(());
    }
    if !SHORTHANDS.contains(&key) {
        known(key)?;
    }
    if on { Ok(()) } else { Err(RuntimeConfigError::Off(key.to_string())) }
}

fn known(key: &str) -> Result<(), RuntimeConfigError> {
    let parts: Vec<&str> = key.split('/').collect();
    let (group, version, resource) = match parts[..] {
        ["v1"] | ["api", "v1"] => ("", "v1", None),
        [group, version] => (group, version, None),
        [group, version, resource] => (group, version, Some(resource)),
        _ => return Err(RuntimeConfigError::Key(key.to_string())),
    };
    if !kinds::ALL.iter().any(|row| row.group == group) {
        return Err(RuntimeConfigError::Group(group.to_string()));
    }
    let named = format!("{group}/{version}");
    let mut rows = kinds::ALL.iter().filter(|row| row.group == group && row.version == version).peekable();
    if rows.peek().is_none() {
        return Err(RuntimeConfigError::Version(named));
    }
    match resource {
        Some(resource) if !rows.any(|row| row.plural == resource) => {
            Err(RuntimeConfigError::Resource { version: named, resource: resource.to_string() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
