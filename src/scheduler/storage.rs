//! Claims, volumes and classes as plugins see them: as the API has them, and on top of that what has been
//! decided for pods that are being bound.
//!
//! A volume that was chosen for a claim, or a node that was selected for one, counts at once, so that the
//! next pod does not get the same. What was assumed ends with a newer version from the API or with the pod
//! that it was assumed for. The maps have a lock of their own, held for a moment: plugins look while the
//! scheduler's lock is held, and bindings wait beside it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::volumes::class_of_volume;
use client::Change;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::RwLock;
use supervisor::CancellationToken;
use tokio::sync::watch;

use crate::pod::Key;

#[derive(Default)]
pub struct Storage {
    state: RwLock<State>,
    /// Rises with every change.
    version: watch::Sender<u64>,
    /// Pods whose volumes are being bound, by uid: cancelled once the pod is gone.
    binding: RwLock<HashMap<String, CancellationToken>>,
}

#[derive(Default)]
struct State {
    claims: HashMap<Key, Known<PersistentVolumeClaim>>,
    volumes: HashMap<String, Known<PersistentVolume>>,
    /// Class and name of every volume.
    by_class: BTreeSet<(String, String)>,
    classes: BTreeMap<String, Arc<StorageClass>>,
}

/// An object, and what it is assumed to be: for the pod of this uid.
struct Known<T> {
    api: Arc<T>,
    assumed: Option<(String, Arc<T>)>,
}

impl<T> Known<T> {
    fn current(&self) -> &Arc<T> {
        self.assumed.as_ref().map_or(&self.api, |(_, assumed)| assumed)
    }
}

pub(crate) fn version_of(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn name_of(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or("")
}

pub(crate) fn key_of(metadata: &ObjectMeta) -> Key {
    (metadata.namespace.clone().unwrap_or_default(), name_of(metadata).to_string())
}

impl Storage {
    /// The claim, with what is assumed of it.
    pub fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        let key = (namespace.to_string(), name.to_string());
        self.state.read().claims.get(&key).map(|known| known.current().clone())
    }

    pub fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.state.read().volumes.get(name).map(|known| known.current().clone())
    }

    /// The claim as the API has it.
    pub(crate) fn stored_claim(&self, key: &Key) -> Option<Arc<PersistentVolumeClaim>> {
        self.state.read().claims.get(key).map(|known| known.api.clone())
    }

    pub(crate) fn stored_volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.state.read().volumes.get(name).map(|known| known.api.clone())
    }

    pub fn class(&self, name: &str) -> Option<Arc<StorageClass>> {
        self.state.read().classes.get(name).cloned()
    }

    /// Volumes of a class, by name.
    pub(crate) fn volumes_of(&self, class: &str) -> Vec<Arc<PersistentVolume>> {
        let state = self.state.read();
        let of_class = state.by_class.range((class.to_string(), String::new())..);
        let of_class = of_class.take_while(|(own, _)| own == class);
        of_class
            .filter_map(|(_, name)| state.volumes.get(name))
            .map(|known| known.current().clone())
            .collect()
    }

    pub(crate) fn claim_changed(&self, change: &Change<PersistentVolumeClaim>) {
        let key = key_of(&change.latest().metadata);
        {
            let claims = &mut self.state.write().claims;
            match &change.new {
                None => drop(claims.remove(&key)),
                Some(new) => drop(claims.insert(key, Known { api: new.clone(), assumed: None })),
            }
        }
        self.changed();
    }

    pub(crate) fn volume_changed(&self, change: &Change<PersistentVolume>) {
        let name = name_of(&change.latest().metadata).to_string();
        {
            let mut state = self.state.write();
            if let Some(old) = &change.old {
                state.by_class.remove(&(class_of_volume(old).to_string(), name.clone()));
            }
            match &change.new {
                None => drop(state.volumes.remove(&name)),
                Some(new) => {
                    state.by_class.insert((class_of_volume(new).to_string(), name.clone()));
                    state.volumes.insert(name, Known { api: new.clone(), assumed: None });
                }
            }
        }
        self.changed();
    }

    pub(crate) fn class_changed(&self, change: &Change<StorageClass>) {
        let name = name_of(&change.latest().metadata).to_string();
        let classes = &mut self.state.write().classes;
        match &change.new {
            None => drop(classes.remove(&name)),
            Some(new) => drop(classes.insert(name, new.clone())),
        }
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Counts the volume as this for a pod. Whether what it was made from is still what the API has.
    pub(crate) fn assume_volume(&self, pod: &str, volume: &Arc<PersistentVolume>) -> bool {
        let mut state = self.state.write();
        let known = state.volumes.get_mut(name_of(&volume.metadata));
        let known = known.filter(|known| version_of(&known.api.metadata) == version_of(&volume.metadata));
        let Some(known) = known.filter(|known| known.assumed.is_none()) else { return false };
        known.assumed = Some((pod.to_string(), volume.clone()));
        true
    }

    /// As [`Storage::assume_volume`]; what another pod has assumed already stays, and counts for both.
    pub(crate) fn assume_claim(&self, pod: &str, claim: &Arc<PersistentVolumeClaim>) -> bool {
        let mut state = self.state.write();
        let known = state.claims.get_mut(&key_of(&claim.metadata));
        let known = known.filter(|known| version_of(&known.api.metadata) == version_of(&claim.metadata));
        let Some(known) = known else { return false };
        known.assumed.get_or_insert_with(|| (pod.to_string(), claim.clone()));
        true
    }

    /// Takes back what is assumed for a pod of these objects.
    pub(crate) fn revert<'a>(
        &self,
        pod: &str,
        volumes: impl IntoIterator<Item = &'a Arc<PersistentVolume>>,
        claims: impl IntoIterator<Item = &'a Arc<PersistentVolumeClaim>>,
    ) {
        let mut state = self.state.write();
        for volume in volumes {
            if let Some(known) = state.volumes.get_mut(name_of(&volume.metadata)) {
                known.assumed.take_if(|(owner, _)| owner == pod);
            }
        }
        for claim in claims {
            if let Some(known) = state.claims.get_mut(&key_of(&claim.metadata)) {
                known.assumed.take_if(|(owner, _)| owner == pod);
            }
        }
    }

    /// Is woken by every change of a claim or volume.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What is cancelled once the pod is gone, until [`Storage::end_binding`].
    pub(crate) fn begin_binding(&self, pod: &str) -> CancellationToken {
        self.binding.write().entry(pod.to_string()).or_default().clone()
    }

    pub(crate) fn end_binding(&self, pod: &str) {
        self.binding.write().remove(pod);
    }

    pub(crate) fn pod_gone(&self, pod: &str) {
        if let Some(token) = self.binding.read().get(pod) {
            token.cancel();
        }
    }
}
