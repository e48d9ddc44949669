//! Which plugins run: upstream's names and defaults, changed by `--enable-admission-plugins` and
//! `--disable-admission-plugins`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::configuration::{Configuration, ConfigurationError, ConfigurationFault};

/// All plugins of upstream's server in the order in which they run, and whether they run by default.
const ALL: &[(&str, bool)] = &[
    ("AlwaysAdmit", false),
    ("NamespaceAutoProvision", false),
    ("NamespaceLifecycle", true),
    ("NamespaceExists", false),
    ("LimitPodHardAntiAffinityTopology", false),
    ("LimitRanger", true),
    ("ServiceAccount", true),
    // Off upstream, where whoever sets nodes up turns it on, as this server does.
    ("NodeRestriction", true),
    ("TaintNodesByCondition", true),
    ("AlwaysPullImages", false),
    ("ImagePolicyWebhook", false),
    ("PodSecurity", true),
    ("PodNodeSelector", false),
    ("Priority", true),
    ("DefaultTolerationSeconds", true),
    ("PodTolerationRestriction", false),
    ("EventRateLimit", false),
    ("ExtendedResourceToleration", false),
    ("DefaultStorageClass", true),
    ("StorageObjectInUseProtection", true),
    ("PodGroupProtection", true),
    ("OwnerReferencesPermissionEnforcement", false),
    ("PersistentVolumeClaimResize", true),
    ("RuntimeClass", true),
    ("CertificateApproval", true),
    ("CertificateSigning", true),
    ("ClusterTrustBundleAttest", true),
    ("CertificateSubjectRestriction", true),
    ("DefaultIngressClass", true),
    ("DenyServiceExternalIPs", false),
    ("PodTopologyLabels", true),
    ("PodGroupWorkloadExists", true),
    ("NodeDeclaredFeatureValidator", true),
    ("JobValidation", true),
    ("PodResizeValidator", true),
    ("MutatingAdmissionPolicy", true),
    ("MutatingAdmissionWebhook", true),
    ("ValidatingAdmissionPolicy", true),
    ("ValidatingAdmissionWebhook", true),
    ("ResourceQuota", true),
    ("AlwaysDeny", false),
];

/// Those that this server does not have, though it knows them.
const ABSENT: [&str; 6] = [
    "AlwaysAdmit",
    "AlwaysDeny",
    "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology",
    "NamespaceAutoProvision",
    "NamespaceExists",
];

/// The plugins that run, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugins {
    on: BTreeSet<&'static str>,
    pub(super) configuration: Arc<Configuration>,
}

/// Whether upstream has a plugin of this name.
pub(super) fn is_known(name: &str) -> bool {
    ALL.iter().any(|(own, _)| *own == name)
}

/// Why a choice of plugins is none; in upstream's words where upstream has some.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PluginError {
    #[error("{flag} plugin {name:?} is unknown")]
    Unknown { flag: &'static str, name: String },
    #[error("[{0}] in enable-admission-plugins and disable-admission-plugins overlapped")]
    Overlap(String),
    #[error("enable-admission-plugins plugin {0:?} is not part of this server yet")]
    Absent(String),
}

impl Default for Plugins {
    fn default() -> Self {
        let on = ALL.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
        Plugins { on, configuration: Arc::default() }
    }
}

impl Plugins {
    /// The default plugins with some more and some less.
    pub fn choose<'a>(
        enable: impl IntoIterator<Item = &'a str>,
        disable: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, PluginError> {
        let known = |flag, names: Vec<&'a str>| -> Result<Vec<(&'static str, bool)>, PluginError> {
            let find = |name: &'a str| {
                let found = ALL.iter().find(|(own, _)| *own == name).copied();
                found.ok_or_else(|| PluginError::Unknown { flag, name: name.to_string() })
            };
            names.into_iter().map(find).collect()
        };
        let more = known("enable-admission-plugins", enable.into_iter().collect())?;
        let less = known("disable-admission-plugins", disable.into_iter().collect())?;
        if let Some((name, _)) = more.iter().find(|one| less.contains(one)) {
            return Err(PluginError::Overlap((*name).to_string()));
        }
        if let Some((name, _)) = more.iter().find(|(name, on)| !on && ABSENT.contains(name)) {
            return Err(PluginError::Absent((*name).to_string()));
        }
        let mut plugins = Plugins::default();
        plugins.on.extend(more.iter().map(|(name, _)| *name));
        for (name, _) in less {
            plugins.on.remove(name);
        }
        Ok(plugins)
    }

    /// The same plugins as a file says that they behave (`--admission-control-config-file`).
    pub fn configured(self, file: Option<&Path>) -> Result<Self, ConfigurationError> {
        let configuration = file.map(Configuration::read).transpose()?.unwrap_or_default();
        if self.has("EventRateLimit") && configuration.event_limits.is_empty() {
            let (plugin, source) =
                ("EventRateLimit".to_string(), ConfigurationFault("it needs limits".to_string()));
            return Err(ConfigurationError::Plugin { plugin, source });
        }
        Ok(Plugins { configuration: Arc::new(configuration), ..self })
    }

    /// Whether a plugin runs.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.on.contains(name)
    }
}
