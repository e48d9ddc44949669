//! VolumeZone: volumes that are labelled with a zone or region are used there. Nodes without such labels are
//! not judged.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::volumes::{class_of_claim, volume_name, waits_for_consumer};
use k8s_openapi::api::core::v1::PersistentVolume;

use super::volume_binding::claim_hint;
use crate::framework::{
    Actions, Cycle, EventToRegister, FilterPlugin, Handle, Plugin, Points, PreFilterPlugin, PreFilterResult,
    QueueingHint, Resource, Status, StorageChange,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub(super) const NAME: &str = "VolumeZone";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
/// Labels with what they are called today.
const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", ZONE),
    ("failure-domain.beta.kubernetes.io/region", REGION),
    (ZONE, ZONE),
    (REGION, REGION),
];

pub(super) struct VolumeZone {
    handle: Handle,
}

impl VolumeZone {
    pub(super) fn new(handle: Handle) -> Self {
        VolumeZone { handle }
    }
}

/// A label of a volume, and the values that a node may have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Topology {
    label: &'static str,
    today: &'static str,
    values: BTreeSet<String>,
}

struct Topologies(Vec<Topology>);

fn topologies(volume: &PersistentVolume) -> Vec<Topology> {
    let labels = volume.metadata.labels.as_ref();
    let of = |(label, today): (&'static str, &'static str)| {
        // Several zones are joined by two underscores.
        let values: BTreeSet<String> = labels?.get(label)?.split("__").map(|one| one.trim().into()).collect();
        (!values.contains("")).then_some(Topology { label, today, values })
    };
    LABELS.into_iter().filter_map(of).collect()
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.pre_filter(self.clone()).filter(self);
    }

    fn events_to_register(&self) -> Vec<EventToRegister> {
        let come_or_change = Actions::ADD | Actions::UPDATE;
        vec![
            EventToRegister::hinted(Resource::StorageClass, Actions::ADD, |_, event| {
                let Some(StorageChange::Class { new, .. }) = event.storage else {
                    return QueueingHint::Queue;
                };
                QueueingHint::when(waits_for_consumer(Some(new)))
            }),
            EventToRegister::always(Resource::Node, Actions::ADD | Actions::UPDATE_NODE_LABEL),
            EventToRegister::hinted(Resource::PersistentVolumeClaim, come_or_change, claim_hint),
            EventToRegister::hinted(Resource::PersistentVolume, come_or_change, |_, event| {
                let Some(StorageChange::Volume { old, new }) = event.storage else {
                    return QueueingHint::Queue;
                };
                QueueingHint::when(old.is_none_or(|old| topologies(old) != topologies(new)))
            }),
        ]
    }
}

impl VolumeZone {
    fn of_pod(&self, pod: &PodInfo) -> Result<Vec<Topology>, Status> {
        let storage = &self.handle.storage;
        let gone = |what: &str, name: &str| Status::unresolvable(format!("{what} {name:?} not found"));
        let mut found = Vec::new();
        let volumes = pod.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        for source in volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()) {
            let name = &source.claim_name;
            let claim = storage.claim(pod.namespace(), name);
            let claim = claim.ok_or_else(|| gone("persistentvolumeclaim", name))?;
            let volume = volume_name(&claim);
            if !volume.is_empty() {
                let volume = storage.volume(volume).ok_or_else(|| gone("persistentvolume", volume))?;
                found.extend(topologies(&volume));
                continue;
            }
            let class = class_of_claim(&claim);
            if class.is_empty() {
                let why = "PersistentVolumeClaim had no pv name and storageClass name";
                return Err(Status::unresolvable(why));
            }
            let class = storage.class(class).ok_or_else(|| gone("storageclass.storage.k8s.io", class))?;
            if !waits_for_consumer(Some(&class)) {
                return Err(Status::unresolvable("PersistentVolume had no name"));
            }
        }
        Ok(found)
    }
}

impl PreFilterPlugin for VolumeZone {
    fn pre_filter(&self, cycle: &mut Cycle<'_>) -> (PreFilterResult, Status) {
        let (pod, state, _) = cycle.parts();
        let status = match pod.claims.is_empty() {
            true => Status::skip(),
            false => match self.of_pod(pod) {
                Ok(found) if found.is_empty() => Status::skip(),
                Ok(found) => {
                    state.write(Topologies(found));
                    Status::success()
                }
                Err(status) => status,
            },
        };
        (PreFilterResult::default(), status)
    }
}

impl FilterPlugin for VolumeZone {
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Status {
        let Some(Topologies(topologies)) = cycle.state.read() else { return Status::success() };
        if !LABELS.iter().any(|(label, _)| node.labels.contains_key(*label)) {
            return Status::success();
        }
        let fits = |one: &Topology| {
            let value = node.labels.get(one.label).or_else(|| node.labels.get(one.today));
            value.is_some_and(|value| one.values.contains(value))
        };
        match topologies.iter().all(fits) {
            true => Status::success(),
            false => Status::unresolvable("node(s) had no available volume zone"),
        }
    }
}
