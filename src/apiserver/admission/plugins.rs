//! Which plugins run: upstream's names and defaults, changed by `--enable-admission-plugins` and
//! `--disable-admission-plugins`.

use std::collections::BTreeSet;

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

/// The plugins that run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugins(BTreeSet<&'static str>);

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
        Plugins(ALL.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect())
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
        if let Some((name, _)) = more.iter().find(|(_, on)| !on) {
            return Err(PluginError::Absent((*name).to_string()));
        }
        let mut plugins = Plugins::default();
        for (name, _) in less {
            plugins.0.remove(name);
        }
        Ok(plugins)
    }

    /// Whether a plugin runs.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}
