//! What a namespace demands of its pods, as its labels say.

use api::FieldError;
use api::validation::Path;
use serde_json::Value;

use super::settings::Settings;

/// The newest version of the standards that this server knows.
pub(super) const NEWEST: u32 = 36;
const PREFIX: &str = "pod-security.kubernetes.io/";
const VERSION: &str = "must be \"latest\" or \"v1.x\"";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Nothing is forbidden.
    #[default]
    Privileged,
    /// What is known to lead to the host is forbidden.
    Baseline,
    /// Only what follows the practices of hardening is allowed.
    Restricted,
}

impl Level {
    pub(super) fn parse(text: &str) -> Option<Level> {
        match text {
            "privileged" => Some(Level::Privileged),
            "baseline" => Some(Level::Baseline),
            "restricted" => Some(Level::Restricted),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

/// A level of a version of the standards; none is the latest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) level: Level,
    pub(super) minor: Option<u32>,
}

impl std::fmt::Display for Demand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.minor {
            None => write!(f, "{}:latest", self.level.as_str()),
            Some(minor) => write!(f, "{}:v1.{minor}", self.level.as_str()),
        }
    }
}

/// What is refused, what is warned of, and what the audit log is told of.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) enforce: Demand,
    pub(super) warn: Demand,
    pub(super) audit: Demand,
    pub(super) faults: Vec<FieldError>,
}

/// A version of the standards.
pub(super) fn minor(text: &str) -> Result<Option<u32>, ()> {
    if text == "latest" {
        return Ok(None);
    }
    let digits = text.strip_prefix("v1.").ok_or(())?;
    let plain =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if plain { digits.parse().map(Some).map_err(drop) } else { Err(()) }
}

impl Policy {
    /// What a namespace's labels say, and the settings where they say nothing.
    pub(super) fn of(namespace: &Value, settings: &Settings) -> Policy {
        let labels = &namespace["metadata"]["labels"];
        let mut faults = Vec::new();
        let mut fault = |key: &str, value: &str, message: &str| {
            let at = Path::new("metadata");
            let at = at.child("labels");
            faults.push(FieldError::invalid(at.key(key), value, message));
        };
        // A level that cannot be read forbids most where it is enforced, and warns of nothing.
        let mut demand = |mode: &str, otherwise: Level, mut demand: Demand| {
            let (level_key, version_key) = (format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version"));
            let level = labels[&level_key].as_str();
            let read = level.and_then(Level::parse);
            if let Some(text) = level {
                demand.level = read.unwrap_or(otherwise);
                if read.is_none() {
                    fault(&level_key, text, "must be one of privileged, baseline, restricted");
                }
            }
            let version = labels[&version_key].as_str();
            if let Some(text) = version {
                demand.minor = minor(text).unwrap_or_else(|()| {
                    fault(&version_key, text, VERSION);
                    None
                });
            }
            (demand, level.is_some(), read.is_some(), version.is_some())
        };
        let (enforce, _, reads, _) = demand("enforce", Level::Restricted, settings.enforce);
        let (audit, ..) = demand("audit", Level::Privileged, settings.audit);
        let (mut warn, has_level, _, has_version) = demand("warn", Level::Privileged, settings.warn);
        if !has_level && reads && enforce.level > warn.level {
            warn.level = enforce.level;
            if !has_version {
                warn.minor = enforce.minor;
            }
        }
        Policy { enforce, warn, audit, faults }
    }
}
