//! VolumeRestrictions: a claim for a single pod (`ReadWriteOncePod`) is used by one pod at a time, and disks
//! that one node may attach once are not shared on it.

use std::sync::Arc;

use api::volumes::access_modes;
use k8s_openapi::api::core::v1::{Pod, Volume};

use super::volume_binding::claim_hint;
use crate::framework::{
    Actions, Cycle, EventToRegister, FilterPlugin, Handle, Plugin, Points, PreFilterPlugin, PreFilterResult,
    QueueingHint, Resource, Status,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub(super) const NAME: &str = "VolumeRestrictions";
const IN_USE: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
const DISK: &str = "node(s) had no available disk";

pub(super) struct VolumeRestrictions {
    handle: Handle,
}

impl VolumeRestrictions {
    pub(super) fn new(handle: Handle) -> Self {
        VolumeRestrictions { handle }
    }
}

/// Another pod has a claim that this pod wants for itself.
struct InUse(bool);

fn volumes(pod: &Pod) -> &[Volume] {
    pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default()
}

/// Kinds of disks that cannot be attached twice.
fn is_exclusive(volume: &Volume) -> bool {
    volume.gce_persistent_disk.is_some()
        || volume.aws_elastic_block_store.is_some()
        || volume.rbd.is_some()
        || volume.iscsi.is_some()
}

fn is_same_disk(one: &Volume, other: &Volume) -> bool {
    let read_only = |one: Option<bool>, other: Option<bool>| one == Some(true) && other == Some(true);
    if let (Some(one), Some(other)) = (&one.gce_persistent_disk, &other.gce_persistent_disk) {
        return one.pd_name == other.pd_name && !read_only(one.read_only, other.read_only);
    }
    if let (Some(one), Some(other)) = (&one.aws_elastic_block_store, &other.aws_elastic_block_store) {
        return one.volume_id == other.volume_id;
    }
    if let (Some(one), Some(other)) = (&one.iscsi, &other.iscsi) {
        return one.iqn == other.iqn && !read_only(one.read_only, other.read_only);
    }
    if let (Some(one), Some(other)) = (&one.rbd, &other.rbd) {
        return one.monitors.iter().any(|monitor| other.monitors.contains(monitor))
            && one.pool == other.pool
            && one.image == other.image
            && !read_only(one.read_only, other.read_only);
    }
    false
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.pre_filter(self.clone()).filter(self);
    }

    fn events_to_register(&self) -> Vec<EventToRegister> {
        let come_or_change = Actions::ADD | Actions::UPDATE;
        vec![
            EventToRegister::hinted(Resource::AssignedPod, Actions::DELETE, |pod, event| {
                let Some(gone) = event.old_pod else { return QueueingHint::Queue };
                let shares = gone.metadata.namespace.as_deref() == Some(pod.namespace())
                    && api::volumes::claim_names(gone).any(|claim| pod.claims.contains(&claim));
                let conflicts = volumes(&pod.pod)
                    .iter()
                    .any(|own| volumes(gone).iter().any(|other| is_same_disk(own, other)));
                QueueingHint::when(shares || conflicts)
            }),
            EventToRegister::always(Resource::Node, Actions::ADD),
            EventToRegister::hinted(Resource::PersistentVolumeClaim, come_or_change, claim_hint),
        ]
    }
}

impl VolumeRestrictions {
    /// The names of the claims that the pod wants for itself.
    fn exclusive_claims(&self, pod: &PodInfo) -> Result<Vec<String>, Status> {
        let mut found = Vec::new();
        for source in volumes(&pod.pod).iter().filter_map(|one| one.persistent_volume_claim.as_ref()) {
            let name = &source.claim_name;
            let claim = self.handle.storage.claim(pod.namespace(), name);
            let missing = || Status::unresolvable(format!("persistentvolumeclaim {name:?} not found"));
            let claim = claim.ok_or_else(missing)?;
            if access_modes(&claim).iter().any(|mode| mode == "ReadWriteOncePod") {
                found.push(name.clone());
            }
        }
        Ok(found)
    }
}

impl PreFilterPlugin for VolumeRestrictions {
    fn pre_filter(&self, cycle: &mut Cycle<'_>) -> (PreFilterResult, Status) {
        let (pod, state, cache) = cycle.parts();
        let has_disks = volumes(&pod.pod).iter().any(is_exclusive);
        let mut in_use = false;
        if !pod.claims.is_empty() {
            match self.exclusive_claims(pod) {
                Ok(claims) => in_use = claims.iter().any(|name| cache.uses_of(pod.namespace(), name) > 0),
                Err(status) => return (PreFilterResult::default(), status),
            }
        }
        if !has_disks && !in_use {
            return (PreFilterResult::default(), Status::skip());
        }
        state.write(InUse(in_use));
        (PreFilterResult::default(), Status::success())
    }
}

impl FilterPlugin for VolumeRestrictions {
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Status {
        let own = volumes(&cycle.pod.pod);
        let is_attached = |disk: &Volume| {
            node.pods.values().any(|pod| volumes(&pod.pod).iter().any(|other| is_same_disk(disk, other)))
        };
        if own.iter().filter(|volume| is_exclusive(volume)).any(is_attached) {
            return Status::unschedulable(DISK);
        }
        match cycle.state.read() {
            Some(InUse(true)) => Status::unschedulable(IN_USE),
            _ => Status::success(),
        }
    }
}
