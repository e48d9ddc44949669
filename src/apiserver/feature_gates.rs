//! `--feature-gates`: the features of Kubernetes v1.36, with its defaults.
//!
//! A gate that is set to what it is anyway is confirmed. What this server can turn on or off is in [`OWN`];
//! every other change is refused by name, so that nobody believes in a feature that is not there.

/// One feature a line: its name, its stage, its default, and whether that is fixed.
const UPSTREAM: &str = include_str!("feature_gates/upstream.txt");

/// Gates of features that this server has both ways.
const OWN: [&str; 1] = [COMPRESSION];
const COMPRESSION: &str = "APIResponseCompression";

/// Gates that stand for many.
const SPECIAL: [(&str, &str); 2] = [("AllAlpha", "Alpha"), ("AllBeta", "Beta")];

/// What the gates decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureGates {
    /// Whether large answers are compressed for clients that accept it.
    pub(crate) compression: bool,
}

impl Default for FeatureGates {
    fn default() -> Self {
        FeatureGates { compression: true }
    }
}

/// Why an entry means nothing here.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FeatureGateError {
    #[error("missing bool value for {0}")]
    NoValue(String),
    #[error("invalid value of {key}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax")]
    Value { key: String, value: String },
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
    #[error("cannot set feature gate {name} to {asked}, feature is locked to {default}")]
    Locked { name: String, asked: bool, default: bool },
    #[error("cannot set feature gate {name} to {asked}: this server has it only as {default}")]
    Fixed { name: String, asked: bool, default: bool },
}

struct Feature<'a> {
    /// `Alpha`, `Beta`, `GA` or `Deprecated`.
    stage: &'a str,
    default: bool,
    is_locked: bool,
}

/// All features, by name.
fn features() -> impl Iterator<Item = (&'static str, Feature<'static>)> {
    UPSTREAM.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (name, stage, default) = (words.next()?, words.next()?, words.next()? == "on");
        Some((name, Feature { stage, default, is_locked: words.next() == Some("locked") }))
    })
}

impl FeatureGates {
    /// Reads `NAME=BOOL` entries; of one gate the last counts.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, FeatureGateError> {
        let mut gates = FeatureGates::default();
        let mut named = Vec::new();
        for entry in entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty()) {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            let key = key.trim();
            if !entry.contains('=') {
                return Err(FeatureGateError::NoValue(key.to_string()));
            }
            let on = crate::runtime_config::go_bool(value.trim()).ok_or_else(|| {
                let (key, value) = (key.to_string(), value.trim().to_string());
                FeatureGateError::Value { key, value }
            })?;
            if let Some((_, stage)) = SPECIAL.into_iter().find(|(name, _)| *name == key) {
                gates.set_stage(key, stage, on)?;
            } else {
                named.push((key, on));
            }
        }
        // What is said of one feature outranks what is said of all.
        for (name, on) in named {
            gates.set(name, on)?;
        }
        Ok(gates)
    }

    fn set(&mut self, name: &str, on: bool) -> Result<(), FeatureGateError> {
        let known = features().find(|(own, _)| *own == name).map(|(_, known)| known);
        let known = known.ok_or_else(|| FeatureGateError::Unknown(name.to_string()))?;
        let default = known.default;
        if default != on && known.is_locked {
            return Err(FeatureGateError::Locked { name: name.to_string(), asked: on, default });
        }
        if default != on && !OWN.contains(&name) {
            return Err(FeatureGateError::Fixed { name: name.to_string(), asked: on, default });
        }
        if name == COMPRESSION {
            self.compression = on;
        }
        Ok(())
    }

    /// Sets every feature of a stage, which works only if none of them would become what this server has not.
    fn set_stage(&mut self, key: &str, stage: &str, on: bool) -> Result<(), FeatureGateError> {
        let of_stage = || features().filter(|(_, known)| known.stage == stage && !known.is_locked);
        if of_stage().any(|(name, known)| known.default != on && !OWN.contains(&name)) {
            return Err(FeatureGateError::Fixed { name: key.to_string(), asked: on, default: !on });
        }
        of_stage().filter(|(name, _)| OWN.contains(name)).try_for_each(|(name, _)| self.set(name, on))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read() {
        let names: Vec<&str> = features().map(|(name, _)| name).collect();
        assert_eq!(names.len(), UPSTREAM.lines().count());
        assert!(names.len() > 200 && names.is_sorted());
        for (name, known) in features() {
            assert!(["Alpha", "Beta", "GA", "Deprecated"].contains(&known.stage), "{name}");
        }
    }

    #[test]
    fn gates_have_upstreams_names_and_defaults() {
        let parse = |entries: &[&str]| FeatureGates::parse(entries.iter().copied());
        for good in ["DynamicResourceAllocation=true", "AllAlpha=false", "RelaxedServiceNameValidation=1", ""]
        {
            assert_eq!(parse(&[good]), Ok(FeatureGates::default()), "{good}");
        }
        assert!(!parse(&["APIResponseCompression=false"]).unwrap().compression);
        assert!(parse(&["APIResponseCompression=false", "APIResponseCompression=T"]).unwrap().compression);
        for (wrong, want) in [
            ("NoSuchFeature=true", "unrecognized feature gate: NoSuchFeature"),
            ("AllAlpha", "missing bool value for AllAlpha"),
            (
                "AllAlpha=maybe",
                "invalid value of AllAlpha=maybe, err: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            (
                "DynamicResourceAllocation=false",
                "cannot set feature gate DynamicResourceAllocation to false, feature is locked to true",
            ),
            (
                "RelaxedServiceNameValidation=false",
                "cannot set feature gate RelaxedServiceNameValidation to false: this server has it only as true",
            ),
            ("AllAlpha=true", "cannot set feature gate AllAlpha to true: this server has it only as false"),
        ] {
            assert_eq!(parse(&[wrong]).unwrap_err().to_string(), want);
        }
    }
}
