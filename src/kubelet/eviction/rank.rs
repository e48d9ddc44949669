//! Which pod goes first, which exceed limits of their own, and what is said of it. Pure; the order and the
//! words are upstream's.

use std::cmp::Reverse;

use api::quantity::Quantity;
use api::resources::{EPHEMERAL_STORAGE, MEMORY, pod_limits, pod_requests, units};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::Shortage;
use crate::spec::PodExt;
use crate::stats::{ContainerMeasured, PodMeasured};

/// What is short. Memory is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Starved {
    Memory,
    Disk,
    Inodes,
    Pids,
}

impl Starved {
    /// The resource that is to be given back.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Starved::Memory => "memory",
            Starved::Disk => "ephemeral-storage",
            Starved::Inodes => "inodes",
            Starved::Pids => "pids",
        }
    }
}

/// Bytes as a quantity.
pub(crate) fn bytes(value: u64) -> String {
    Quantity::bytes(i64::try_from(value).unwrap_or(i64::MAX)).to_string()
}

fn request(pod: &Pod, resource: &str) -> i64 {
    pod_requests(pod.spec_ref()).get(resource).copied().unwrap_or(0)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// How far a pod is above what it asked for; inodes and processes cannot be asked for.
fn excess(one: &PodMeasured, of: Starved) -> i64 {
    match of {
        Starved::Memory => signed(one.memory.working_set).saturating_sub(request(&one.pod, MEMORY)),
        Starved::Disk => signed(one.disk().bytes).saturating_sub(request(&one.pod, EPHEMERAL_STORAGE)),
        Starved::Inodes => signed(one.disk().inodes),
        Starved::Pids => signed(one.processes),
    }
}

/// The pod that goes first: above its request, then of low priority, then the most above its request.
pub(crate) fn first(candidates: Vec<&PodMeasured>, of: Starved) -> Option<&PodMeasured> {
    candidates.into_iter().min_by_key(|one| {
        let priority = one.pod.spec_ref().priority.unwrap_or(0);
        let excess = excess(one, of);
        let is_above = of == Starved::Pids || excess > 0;
        (Reverse(is_above), priority, Reverse(excess))
    })
}

/// Why a pod is evicted for the node's sake.
pub(crate) fn message(one: &PodMeasured, shortage: &Shortage) -> String {
    let Shortage { of, threshold, available } = shortage;
    let resource = of.resource();
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {threshold}, available: {available}. "
    );
    for container in &one.containers {
        let Some(definition) = one.pod.find_container(&container.name) else { continue };
        let used = match of {
            Starved::Memory => container.memory.working_set,
            Starved::Disk => disk_of(container),
            Starved::Inodes | Starved::Pids => continue,
        };
        let asked = asked(definition, resource);
        if signed(used) > asked.as_deref().map_or(0, units_of) {
            let asked = asked.unwrap_or_else(|| "0".to_string());
            let (name, used) = (&container.name, bytes(used));
            text.push_str(&format!(
                "Container {name} was using {used}, request is {asked}, has larger consumption of {resource}. "
            ));
        }
    }
    text
}

fn units_of(text: &str) -> i64 {
    units(&k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.to_string()))
}

fn asked(container: &Container, resource: &str) -> Option<String> {
    let requests = container.resources.as_ref()?.requests.as_ref()?;
    requests.get(resource).map(|quantity| quantity.0.clone())
}

fn disk_of(container: &ContainerMeasured) -> u64 {
    container.layer.bytes.saturating_add(container.logs.bytes)
}

fn storage_limit(container: &Container) -> Option<String> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    let limit = limits.get(EPHEMERAL_STORAGE).filter(|limit| units(limit) > 0)?;
    Some(limit.0.clone())
}

/// Whether a pod has a limit that only measuring can enforce.
pub(crate) fn has_storage_limit(pod: &Pod) -> bool {
    let of_volumes = pod.spec_ref().volumes.iter().flatten().any(|volume| {
        volume
            .empty_dir
            .as_ref()
            .is_some_and(|empty| empty.size_limit.as_ref().is_some_and(|size| units(size) > 0))
    });
    of_volumes || pod_limits(pod.spec_ref()).contains_key(EPHEMERAL_STORAGE)
}

/// Which limit on local storage a pod exceeds.
pub(crate) fn exceeded(one: &PodMeasured) -> Option<String> {
    for volume in one.pod.spec_ref().volumes.iter().flatten() {
        let Some(size) = volume.empty_dir.as_ref().and_then(|empty| empty.size_limit.as_ref()) else {
            continue;
        };
        let used = one.storage.volumes.get(&volume.name).map_or(0, |used| signed(used.bytes));
        if units(size) > 0 && used > units(size) {
            let (name, size) = (&volume.name, &size.0);
            return Some(format!("Usage of EmptyDir volume {name:?} exceeds the limit {size:?}. "));
        }
    }
    if let Some(limit) = pod_limits(one.pod.spec_ref()).get(EPHEMERAL_STORAGE).copied()
        && signed(one.disk().bytes) > limit
    {
        let limit = bytes(u64::try_from(limit).unwrap_or(0));
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
        ));
    }
    one.containers.iter().find_map(|container| {
        let limit = storage_limit(one.pod.find_container(&container.name)?)?;
        let name = &container.name;
        (signed(disk_of(container)) > units_of(&limit))
            .then(|| format!("Container {name} exceeded its local ephemeral storage limit {limit:?}. "))
    })
}
