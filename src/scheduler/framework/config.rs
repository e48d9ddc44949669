//! Which profiles there are, and which plugins they can name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PluginSet;
use super::plugin::{Handle, Plugin};

pub(super) type Factory = Box<dyn Fn(&Handle) -> Arc<dyn Plugin> + Send + Sync>;

/// The profiles to run, and the plugins that they can name.
pub struct Config {
    pub profiles: Vec<ProfileConfig>,
    pub(super) registry: BTreeMap<String, Factory>,
}

/// A profile: names of plugins in the order in which they are asked, with the weights of their scores.
#[derive(Clone, Debug)]
pub struct ProfileConfig {
    pub scheduler_name: String,
    pub plugins: Vec<(String, i64)>,
}

impl Config {
    /// No profiles, no plugins.
    pub(crate) fn empty() -> Self {
        Config { profiles: Vec::new(), registry: BTreeMap::new() }
    }

    /// Makes a plugin known by name. Each profile that names it gets its own.
    pub fn add_plugin(
        &mut self,
        name: &str,
        make: impl Fn(&Handle) -> Arc<dyn Plugin> + Send + Sync + 'static,
    ) {
        self.registry.insert(name.to_string(), Box::new(make));
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("no profiles are configured")]
    NoProfile,
    #[error("duplicate profile with scheduler name {0:?}")]
    DuplicateProfile(String),
    #[error("profile {0:?} names the plugin {1:?}, which does not exist")]
    UnknownPlugin(String, String),
    #[error("profile {0:?} names the plugin {1:?} twice")]
    DuplicatePlugin(String, String),
    #[error("profile {0:?} has more than {most} plugins", most = PluginSet::MOST)]
    TooManyPlugins(String),
    #[error("at least one bind plugin is needed for profile with scheduler name {0:?}")]
    NoBindPlugin(String),
    #[error("score plugin {1:?} of profile {0:?} needs a weight above zero")]
    NoWeight(String, String),
}
