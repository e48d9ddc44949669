//! All profiles of a scheduler, made from its configuration.

use std::collections::HashMap;
use std::sync::Arc;

use client::ObjectApi;
use client::events::Recorder;
use supervisor::Stage;

use super::config::{Config, ConfigError};
use super::plugin::Handle;
use super::{Profile, Storage, WaitingPods};

/// All profiles by scheduler name.
pub(crate) struct Profiles {
    by_name: HashMap<String, Arc<Profile>>,
}

impl Profiles {
    pub(crate) fn new(
        config: &Config,
        api: &Arc<dyn ObjectApi>,
        waiting: &Arc<WaitingPods>,
        storage: &Arc<Storage>,
        stage: &Stage,
    ) -> Result<Self, ConfigError> {
        let mut by_name = HashMap::new();
        for profile in &config.profiles {
            let name = profile.scheduler_name.clone();
            if by_name.contains_key(&name) {
                return Err(ConfigError::DuplicateProfile(name));
            }
            let recorder = Recorder::new(api.clone(), stage, &name, None);
            let (api, waiting, storage) = (api.clone(), waiting.clone(), storage.clone());
            let handle = Handle { scheduler_name: name.clone(), api, recorder, waiting, storage };
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
