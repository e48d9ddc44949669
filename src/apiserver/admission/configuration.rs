//! `--admission-control-config-file`: how plugins behave, as upstream's `AdmissionConfiguration`.
//!
//! Read once, when the server starts; whatever cannot be read or is not heeded is refused. Plugins whose
//! configuration is not supported are those that upstream configures and this server does not have, and the
//! limited resources of ResourceQuota.

use std::path::{Path, PathBuf};

use api::json::text;
use serde::Deserialize;
use serde_json::Value;

use super::event_rate_limit::{self, Limit};
use super::plugins::is_known;
use super::pod_node_selector::{self, Selectors};
use super::pod_security::{self, Settings};
use super::pod_toleration_restriction as tolerations;

/// Why a configuration is none.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error("unable to read admission control configuration from {path:?}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path:?}: {why}")]
    Syntax { path: PathBuf, why: String },
    #[error("there is no admission plugin {0:?}")]
    Unknown(String),
    #[error("the admission plugin {0:?} takes no configuration in this server")]
    Unsupported(String),
    #[error("configuration of the admission plugin {plugin:?}")]
    Plugin { plugin: String, source: ConfigurationFault },
}

/// What is wrong with the configuration of one plugin.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigurationFault(pub(super) String);

/// How the plugins behave that can be configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Configuration {
    pub(super) pod_security: Settings,
    pub(super) node_selectors: Selectors,
    pub(super) tolerations: tolerations::Configuration,
    pub(super) event_limits: Vec<Limit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(default)]
    plugins: Vec<Plugin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
    name: String,
    /// A file with the configuration, relative to this one.
    #[serde(default)]
    path: String,
    #[serde(default)]
    configuration: Option<Value>,
}

fn read(path: &Path) -> Result<Value, ConfigurationError> {
    let failed = |source| ConfigurationError::Read { path: path.to_path_buf(), source };
    let syntax = |why: String| ConfigurationError::Syntax { path: path.to_path_buf(), why };
    let bytes = std::fs::read(path).map_err(failed)?;
    let (tree, twice) =
        api::schema::decode_yaml(&bytes).map_err(|error| syntax(error.message().to_string()))?;
    match twice.first() {
        Some(twice) => Err(syntax(twice.clone())),
        None => Ok(tree),
    }
}

impl Configuration {
    /// Reads a file and those that it names.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigurationError> {
        let tree = read(path)?;
        let mut all = Configuration::default();
        if tree["podNodeSelectorPluginConfig"].is_object() {
            // Older than `AdmissionConfiguration`, and still accepted upstream.
            all.configure("PodNodeSelector", &tree)?;
            return Ok(all);
        }
        let syntax = |why: String| ConfigurationError::Syntax { path: path.to_path_buf(), why };
        let file = File::deserialize(&tree).map_err(|error| syntax(error.to_string()))?;
        let version = file.api_version.strip_prefix("apiserver.config.k8s.io/");
        if !matches!(version, Some("v1" | "v1alpha1")) || file.kind != "AdmissionConfiguration" {
            let (kind, version) = (file.kind, file.api_version);
            return Err(syntax(format!("no kind {kind:?} is registered for version {version:?}")));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        for plugin in file.plugins {
            match (plugin.configuration, plugin.path.as_str()) {
                (Some(tree), _) => all.configure(&plugin.name, &tree)?,
                (None, "") => all.configure(&plugin.name, &Value::Null)?,
                (None, path) => all.configure(&plugin.name, &read(&folder.join(path))?)?,
            }
        }
        Ok(all)
    }

    fn configure(&mut self, plugin: &str, tree: &Value) -> Result<(), ConfigurationError> {
        if !is_known(plugin) {
            return Err(ConfigurationError::Unknown(plugin.to_string()));
        }
        if tree.is_null() {
            return Ok(());
        }
        let wrong = |source| ConfigurationError::Plugin { plugin: plugin.to_string(), source };
        match plugin {
            "PodSecurity" => self.pod_security = pod_security::configured(tree).map_err(wrong)?,
            "PodNodeSelector" => self.node_selectors = pod_node_selector::configured(tree).map_err(wrong)?,
            "PodTolerationRestriction" => self.tolerations = tolerations::configured(tree).map_err(wrong)?,
            "EventRateLimit" => self.event_limits = event_rate_limit::configured(tree).map_err(wrong)?,
            // Says which version it is of and nothing else.
            _ if !text(tree, "kind").is_empty() && tree.as_object().is_some_and(|tree| tree.len() <= 2) => {}
            _ => return Err(ConfigurationError::Unsupported(plugin.to_string())),
        }
        Ok(())
    }
}
