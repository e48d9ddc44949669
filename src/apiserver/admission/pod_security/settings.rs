//! What the configuration says of Pod Security: what is demanded where a namespace says nothing, and who and
//! what is exempt.

use std::collections::BTreeSet;

use api::json::text;
use api::validation::{dns1123_label, dns1123_subdomain};
use serde::Deserialize;
use serde_json::Value;

use super::policy::{Demand, Level, minor};
use crate::admission::configuration::ConfigurationFault;

/// Without a configuration nothing is demanded and nobody exempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::admission) struct Settings {
    pub(super) enforce: Demand,
    pub(super) warn: Demand,
    pub(super) audit: Demand,
    users: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    runtime_classes: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    exemptions: Exemptions,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Exemptions {
    usernames: Vec<String>,
    namespaces: Vec<String>,
    runtime_classes: Vec<String>,
}

impl Settings {
    pub(super) fn exempts_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    pub(super) fn exempts_user(&self, name: &str) -> bool {
        self.users.contains(name)
    }

    pub(super) fn exempts_pod(&self, pod: &Value) -> bool {
        let class = text(pod, "spec.runtimeClassName");
        !class.is_empty() && self.runtime_classes.contains(class)
    }
}

/// The settings of a configuration, if they can be read.
pub(in crate::admission) fn configured(tree: &Value) -> Result<Settings, ConfigurationFault> {
    let read = Configuration::deserialize(tree).map_err(|error| ConfigurationFault(error.to_string()))?;
    let (version, kind) = (&read.api_version, &read.kind);
    let known = ["v1", "v1beta1", "v1alpha1"].iter().any(|known| {
        version.strip_prefix("pod-security.admission.config.k8s.io/").is_some_and(|own| own == *known)
    });
    if !known || kind != "PodSecurityConfiguration" {
        return Err(ConfigurationFault(format!("no kind {kind:?} is registered for version {version:?}")));
    }
    let defaults = &read.defaults;
    let enforce = demand("enforce", &defaults.enforce, &defaults.enforce_version)?;
    let warn = demand("warn", &defaults.warn, &defaults.warn_version)?;
    let audit = demand("audit", &defaults.audit, &defaults.audit_version)?;
    let is_name = |name: &str| {
        if name.is_empty() { vec!["username must not be empty".to_string()] } else { Vec::new() }
    };
    Ok(Settings {
        enforce,
        warn,
        audit,
        users: set("usernames", read.exemptions.usernames, is_name)?,
        namespaces: set("namespaces", read.exemptions.namespaces, dns1123_label)?,
        runtime_classes: set("runtimeClasses", read.exemptions.runtime_classes, dns1123_subdomain)?,
    })
}

fn demand(mode: &str, level: &str, version: &str) -> Result<Demand, ConfigurationFault> {
    let mut demand = Demand::default();
    if !level.is_empty() {
        demand.level = Level::parse(level).ok_or_else(|| {
            ConfigurationFault(format!(
                "defaults.{mode}: Invalid value: {level:?}: must be one of privileged, baseline, restricted"
            ))
        })?;
    }
    if !version.is_empty() {
        demand.minor = minor(version).map_err(|()| {
            ConfigurationFault(format!(
                "defaults.{mode}-version: Invalid value: {version:?}: must be \"latest\" or \"v1.x\""
            ))
        })?;
    }
    Ok(demand)
}

fn set(
    list: &str,
    names: Vec<String>,
    faults: impl Fn(&str) -> Vec<String>,
) -> Result<BTreeSet<String>, ConfigurationFault> {
    let mut set = BTreeSet::new();
    for (at, name) in names.into_iter().enumerate() {
        let faults = faults(&name);
        if !faults.is_empty() {
            let why = faults.join(", ");
            return Err(ConfigurationFault(format!(
                "exemptions.{list}[{at}]: Invalid value: {name:?}: {why}"
            )));
        }
        if set.contains(&name) {
            return Err(ConfigurationFault(format!("exemptions.{list}[{at}]: Duplicate value: {name:?}")));
        }
        set.insert(name);
    }
    Ok(set)
}
