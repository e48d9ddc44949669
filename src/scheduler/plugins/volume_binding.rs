//! VolumeBinding: a pod goes where its volumes can be reached, and what is not bound yet is bound for the
//! node it goes to.
//!
//! Claims of classes that wait for their first consumer are matched with free volumes per node, the smallest
//! claim first; for the others a volume is to be made, if the class has a provisioner and its topology allows
//! the node. Reserve assumes the choice, PreBind writes it and waits until the binder is done. Absent:
//! capacities that CSI drivers publish, and scores by capacity (a gate that is off).

mod choice;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use api::volumes::{
    SELECTED_NODE, annotation, check_made_for, claim_name, class_of_claim, is_fully_bound, requested,
    volume_name, waits_for_consumer,
};
use client::{Api, BoxFuture};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use parking_lot::Mutex;

use crate::framework::{
    Actions, Cycle, CycleState, EventToRegister, FilterPlugin, Handle, ObservedEvent, Plugin, Points,
    PreBindPlugin, PreFilterPlugin, PreFilterResult, QueueingHint, ReservePlugin, Resource, Status,
    StorageChange,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::storage::{Storage, key_of, version_of};
use choice::{Choice, Claims, choose};

pub(super) const NAME: &str = "VolumeBinding";
/// How long a pod waits for its volumes before it is tried anew.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

pub(super) struct VolumeBinding {
    handle: Handle,
}

/// What PreFilter has found, and Filter has chosen per node.
struct Found {
    claims: Claims,
    by_node: Mutex<HashMap<String, Choice>>,
}

/// What Reserve has assumed, and PreBind is to write.
struct Reserved(Choice);

impl VolumeBinding {
    pub(super) fn new(handle: Handle) -> Self {
        VolumeBinding { handle }
    }

    fn storage(&self) -> &Storage {
        &self.handle.storage
    }
}

/// Queues a pod when a claim that it uses has come or changed.
pub(super) fn claim_hint(pod: &PodInfo, event: &ObservedEvent<'_>) -> QueueingHint {
    let Some(StorageChange::Claim { new }) = event.storage else { return QueueingHint::Queue };
    let uses = new.metadata.namespace.as_deref() == Some(pod.namespace())
        && pod.claims.iter().any(|own| Some(own) == new.metadata.name.as_ref());
    QueueingHint::when(uses)
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.pre_filter(self.clone()).filter(self.clone()).reserve(self.clone()).pre_bind(self);
    }

    fn events_to_register(&self) -> Vec<EventToRegister> {
        let come_or_change = Actions::ADD | Actions::UPDATE;
        vec![
            EventToRegister::hinted(Resource::StorageClass, come_or_change, |_, event| {
                let Some(StorageChange::Class { old, new }) = event.storage else {
                    return QueueingHint::Queue;
                };
                QueueingHint::when(old.is_none_or(|old| old.allowed_topologies != new.allowed_topologies))
            }),
            EventToRegister::hinted(Resource::PersistentVolumeClaim, come_or_change, claim_hint),
            EventToRegister::always(Resource::PersistentVolume, come_or_change),
            EventToRegister::always(Resource::Node, Actions::ADD | Actions::UPDATE_NODE_LABEL),
        ]
    }
}

/// The pod's claims, all there and usable, or that the pod must wait.
fn claims_of(storage: &Storage, pod: &PodInfo) -> Result<Vec<Arc<PersistentVolumeClaim>>, Status> {
    let mut found = Vec::new();
    let volumes = pod.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    for volume in volumes {
        let Some(name) = claim_name(&pod.pod, volume) else { continue };
        let is_made = volume.persistent_volume_claim.is_none();
        let Some(claim) = storage.claim(pod.namespace(), &name) else {
            return Err(Status::unresolvable(match is_made {
                true => format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                ),
                false => format!("persistentvolumeclaim {name:?} not found"),
            }));
        };
        if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
            let lost = volume_name(&claim);
            return Err(Status::unresolvable(format!(
                "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {lost:?}"
            )));
        }
        if claim.metadata.deletion_timestamp.is_some() {
            let why = format!("persistentvolumeclaim {name:?} is being deleted");
            return Err(Status::unresolvable(why));
        }
        if is_made {
            check_made_for(&pod.pod, &claim).map_err(|error| Status::unresolvable(error.to_string()))?;
        }
        found.push(claim);
    }
    Ok(found)
}

impl PreFilterPlugin for VolumeBinding {
    fn pre_filter(&self, cycle: &mut Cycle<'_>) -> (PreFilterResult, Status) {
        let none = PreFilterResult::default;
        let (pod, state, _) = cycle.parts();
        if pod.claims.is_empty() {
            return (none(), Status::skip());
        }
        let storage = self.storage();
        let all = match claims_of(storage, pod) {
            Ok(all) => all,
            Err(status) => return (none(), status),
        };
        let mut claims = Claims::default();
        for claim in all {
            if is_fully_bound(&claim) {
                let volume = storage.volume(volume_name(&claim));
                claims.bound.push(volume);
                continue;
            }
            let class = storage.class(class_of_claim(&claim));
            if !waits_for_consumer(class.as_deref()) || !volume_name(&claim).is_empty() {
                let why = "pod has unbound immediate PersistentVolumeClaims";
                return (none(), Status::unresolvable(why));
            }
            let name = class_of_claim(&claim).to_string();
            claims.volumes.entry(name).or_insert_with_key(|name| storage.volumes_of(name));
            claims.waiting.push((claim, class));
        }
        claims.waiting.sort_by_key(|(claim, _)| requested(claim));
        state.write(Found { claims, by_node: Mutex::default() });
        (none(), Status::success())
    }
}

impl FilterPlugin for VolumeBinding {
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Status {
        let found = match cycle.state.expect::<Found>() {
            Ok(found) => found,
            Err(status) => return status,
        };
        match choose(&found.claims, &node.name, &node.labels) {
            Ok(choice) => {
                found.by_node.lock().insert(node.name.clone(), choice);
                Status::success()
            }
            Err(status) => status,
        }
    }
}

impl ReservePlugin for VolumeBinding {
    fn reserve(&self, state: &mut CycleState, pod: &PodInfo, node: &str) -> Status {
        let chosen = state.read::<Found>().and_then(|found| found.by_node.lock().remove(node));
        let Some(choice) = chosen.filter(|choice| !choice.is_empty()) else { return Status::success() };
        let storage = self.storage();
        let choice = choice.assumed(node);
        let is_assumed = choice.volumes().all(|volume| storage.assume_volume(&pod.uid, volume))
            && choice.to_make.iter().all(|claim| storage.assume_claim(&pod.uid, claim));
        if !is_assumed {
            storage.revert(&pod.uid, choice.volumes(), &choice.to_make);
            return Status::error("the volumes of the pod have changed since they were looked at");
        }
        state.write(Reserved(choice));
        Status::success()
    }

    fn unreserve(&self, state: &CycleState, pod: &PodInfo, _: &str) {
        if let Some(Reserved(choice)) = state.read() {
            self.storage().revert(&pod.uid, choice.volumes(), &choice.to_make);
        }
    }
}

impl PreBindPlugin for VolumeBinding {
    fn pre_bind_pre_flight(&self, state: &CycleState, _: &PodInfo, _: &str) -> Status {
        if state.read::<Reserved>().is_some() { Status::success() } else { Status::skip() }
    }

    fn pre_bind<'a>(
        &'a self,
        state: &'a CycleState,
        pod: &'a PodInfo,
        node: &'a str,
    ) -> BoxFuture<'a, Status> {
        Box::pin(async move {
            let Some(Reserved(choice)) = state.read() else { return Status::success() };
            let gone = self.storage().begin_binding(&pod.uid);
            let bound = async {
                let written = self.write(choice).await?;
                self.wait(&written, node).await
            };
            let outcome = tokio::select! {
                outcome = tokio::time::timeout(LONGEST_WAIT, bound) => {
                    outcome.unwrap_or(Err(BindError::TimeIsUp))
                }
                () = gone.cancelled() => Err(BindError::PodGone),
            };
            self.storage().end_binding(&pod.uid);
            // The reason is a text, not the API's answer: the pod is there even if a volume is not.
            outcome
                .map_or_else(|why| Status::error(format!("binding volumes: {why}")), |()| Status::success())
        })
    }
}

/// Why the volumes of a pod were not bound.
#[derive(Debug, thiserror::Error)]
enum BindError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("context deadline exceeded")]
    TimeIsUp,
    #[error("pod does not exist any more")]
    PodGone,
    #[error("the scheduler stops")]
    Stopping,
    #[error("persistentvolume {0:?} not found")]
    NoVolume(String),
    #[error("persistentvolumeclaim {0:?} not found")]
    NoClaim(String),
    #[error("ClaimRef got reset for pv {0:?}")]
    Unclaimed(String),
    #[error("provisioning failed for PVC {0:?}")]
    Provisioning(String),
}

/// What has been written, to be compared with what the informers show.
struct Written {
    bindings: Vec<(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)>,
    to_make: Vec<Arc<PersistentVolumeClaim>>,
}

impl VolumeBinding {
    async fn write(&self, choice: &Choice) -> Result<Written, BindError> {
        let volumes: Api<PersistentVolume> = Api::all(self.handle.api.clone());
        let mut written = Written { bindings: Vec::new(), to_make: Vec::new() };
        for (volume, claim) in &choice.bindings {
            let volume = volumes.update(volume).await?;
            written.bindings.push((volume, claim.clone()));
        }
        for claim in &choice.to_make {
            let namespace = claim.metadata.namespace.as_deref().unwrap_or("");
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.handle.api.clone(), namespace);
            written.to_make.push(claims.update(claim).await?);
        }
        Ok(written)
    }

    /// Returns once all are bound.
    async fn wait(&self, written: &Written, node: &str) -> Result<(), BindError> {
        let mut changed = self.storage().subscribe();
        loop {
            changed.mark_unchanged();
            if self.is_bound(written, node)? {
                return Ok(());
            }
            if changed.changed().await.is_err() {
                return Err(BindError::Stopping);
            }
        }
    }

    fn is_bound(&self, written: &Written, node: &str) -> Result<bool, BindError> {
        let storage = self.storage();
        let mut all = true;
        for (volume, claim) in &written.bindings {
            let name = volume.metadata.name.as_deref().unwrap_or("");
            let now = storage.stored_volume(name).ok_or_else(|| BindError::NoVolume(name.to_string()))?;
            if version_of(&now.metadata) < version_of(&volume.metadata) {
                return Ok(false);
            }
            let named = now.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
            if named.and_then(|named| named.uid.as_deref()).unwrap_or("").is_empty() {
                return Err(BindError::Unclaimed(name.to_string()));
            }
            all &= is_fully_bound(&*self.stored(claim)?);
        }
        for claim in &written.to_make {
            let now = self.stored(claim)?;
            if version_of(&now.metadata) < version_of(&claim.metadata) {
                return Ok(false);
            }
            let name = now.metadata.name.as_deref().unwrap_or("");
            if annotation(&now.metadata.annotations, SELECTED_NODE) != Some(node) {
                return Err(BindError::Provisioning(name.to_string()));
            }
            all &= is_fully_bound(&now);
        }
        Ok(all)
    }

    fn stored(&self, claim: &PersistentVolumeClaim) -> Result<Arc<PersistentVolumeClaim>, BindError> {
        let name = claim.metadata.name.as_deref().unwrap_or("");
        let now = self.storage().stored_claim(&key_of(&claim.metadata));
        now.ok_or_else(|| BindError::NoClaim(name.to_string()))
    }
}

#[cfg(test)]
mod tests;
