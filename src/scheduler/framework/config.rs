//! Which profiles there are, and which plugins they can name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use client::ObjectApi;
use client::events::Recorder;
use supervisor::Stage;

use super::plugin::{Handle, Plugin, PluginSet};
use super::{Profile, WaitingPods};
use crate::plugins;

pub(super) type Factory = Box<dyn Fn(&Handle) -> Arc<dyn Plugin> + Send + Sync>;

/// The profiles to run, and the plugins that they can name.
pub struct Config {
    pub profiles: Vec<ProfileConfig>,
    registry: BTreeMap<String, Factory>,
}

/// A profile: names of plugins in the order in which they are asked, with the weights of their scores.
#[derive(Clone, Debug)]
pub struct ProfileConfig {
    pub scheduler_name: String,
    pub plugins: Vec<(String, i64)>,
}

impl Default for ProfileConfig {
    /// Upstream's default plugins, as far as they are there.
    fn default() -> Self {
        let plugins = plugins::DEFAULT.iter().map(|(name, weight)| (name.to_string(), *weight)).collect();
        ProfileConfig { scheduler_name: api::pod::DEFAULT_SCHEDULER.to_string(), plugins }
    }
}

impl Default for Config {
    /// The default profile and the plugins of this crate.
    fn default() -> Self {
        let mut config = Config { profiles: vec![ProfileConfig::default()], registry: BTreeMap::new() };
        plugins::register(&mut config);
        config
    }
}

impl Config {
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

/// All profiles by scheduler name.
pub(crate) struct Profiles {
    by_name: HashMap<String, Arc<Profile>>,
}

impl Profiles {
    pub(crate) fn new(
        config: &Config,
        api: &Arc<dyn ObjectApi>,
        waiting: &Arc<WaitingPods>,
        stage: &Stage,
    ) -> Result<Self, ConfigError> {
        let mut by_name = HashMap::new();
        for profile in &config.profiles {
            let name = profile.scheduler_name.clone();
            if by_name.contains_key(&name) {
                return Err(ConfigError::DuplicateProfile(name));
            }
            let recorder = Recorder::new(api.clone(), stage, &name, None);
            let (api, waiting) = (api.clone(), waiting.clone());
            let handle = Handle { scheduler_name: name.clone(), api, recorder, waiting };
            by_name.insert(name, Arc::new(Profile::new(profile, &config.registry, handle)?));
        }
        if by_name.is_empty() {
            return Err(ConfigError::NoProfile);
        }
        Ok(Profiles { by_name })
    }

    pub(crate) fn get(&self, scheduler_name: &str) -> Option<&Arc<Profile>> {
        self.by_name.get(scheduler_name)
    }
}
