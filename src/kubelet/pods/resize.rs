//! Resizing in place: CPU and memory of containers that run.
//!
//! Three amounts meet here. What the specification asks for is granted to the pod if the node has room for
//! it ([`Grant`]), and what was granted is then brought to the containers and the pod's cgroup. The last of
//! them is with the runtime's record of the container, so the plan that compares the two stays pure. A
//! grant is remembered by its worker; after a restart of the kubelet it is what the pod's status tells.
//! Absent: swap, and exclusive CPUs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use api::resources::{CPU, MEMORY};
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus, ResourceRequirements};
use serde_json::{Value, json};

use crate::runtime::state::{ContainerPhase, ContainerRecord, PodRuntime};
use crate::spec::PodExt;
use crate::spec::amount::{self, Resources};

/// A condition of a resize: why, and which generation of the pod asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Phase {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) generation: Option<i64>,
}

/// How far a pod's resize has come: its conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Not granted: `Deferred` or `Infeasible`.
    pub(crate) pending: Option<Phase>,
    /// Granted, and not all of it is done.
    pub(crate) running: Option<Phase>,
}

/// CPU in thousandths and memory in bytes; nothing is zero, as for the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) cpu_request: i64,
    pub(crate) cpu_limit: i64,
    pub(crate) memory_request: i64,
    pub(crate) memory_limit: i64,
}

impl Amounts {
    pub(crate) fn of(resources: Option<&ResourceRequirements>) -> Self {
        let requests = resources.and_then(|one| one.requests.as_ref());
        let limits = resources.and_then(|one| one.limits.as_ref());
        Amounts {
            cpu_request: amount::milli_cpu(requests).unwrap_or(0),
            cpu_limit: amount::milli_cpu(limits).unwrap_or(0),
            memory_request: amount::memory(requests).unwrap_or(0),
            memory_limit: amount::memory(limits).unwrap_or(0),
        }
    }
}

/// What a container is to be brought to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resize {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) from: Amounts,
    pub(crate) to: Amounts,
}

/// What a running container needs to have what it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Nothing,
    Update,
    /// Its resize policy wants it started anew.
    Restart,
}

pub(crate) fn need(container: &Container, record: &ContainerRecord) -> Need {
    let (to, Some(has)) = (Amounts::of(container.resources.as_ref()), record.resources.as_ref()) else {
        // Made by a kubelet that wrote nothing down.
        return Need::Nothing;
    };
    let from = Amounts::of(Some(has));
    if from == to {
        return Need::Nothing;
    }
    let restarts = |name: &str| {
        let mut policies = container.resize_policy.iter().flatten();
        policies.any(|one| one.resource_name == name && one.restart_policy == "RestartContainer")
    };
    let cpu = (from.cpu_request, from.cpu_limit) != (to.cpu_request, to.cpu_limit);
    let memory = (from.memory_request, from.memory_limit) != (to.memory_request, to.memory_limit);
    if (cpu && restarts(CPU)) || (memory && restarts(MEMORY)) { Need::Restart } else { Need::Update }
}

/// Whether containers that run have less or more than they were granted.
pub(crate) fn is_under_way(pod: &Pod, runtime: &PodRuntime) -> bool {
    resizable(pod).any(|container| {
        let record = runtime.latest(&container.name).filter(|one| one.phase == ContainerPhase::Running);
        record.is_some_and(|record| need(container, record) != Need::Nothing)
    })
}

fn resizable(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.init_containers().iter().chain(pod.containers())
}

/// Those that give something back come first, so that the others find room.
pub(crate) fn in_order(mut all: Vec<Resize>) -> Vec<Resize> {
    let growth =
        |one: &Resize| (one.to.memory_limit - one.from.memory_limit, one.to.cpu_limit - one.from.cpu_limit);
    all.sort_by_key(growth);
    all
}

/// CPU and memory that the node has granted, by container, and to the pod as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Grant {
    containers: BTreeMap<String, ResourceRequirements>,
    whole: Option<ResourceRequirements>,
}

impl Grant {
    /// What the specification asks for.
    pub(crate) fn asked(pod: &Pod) -> Self {
        let one =
            |container: &Container| (container.name.clone(), container.resources.clone().unwrap_or_default());
        Grant { containers: resizable(pod).map(one).collect(), whole: pod.spec_ref().resources.clone() }
    }

    /// What was granted before this kubelet began: what the status tells of containers that run, and what
    /// is asked for by those that do not.
    pub(crate) fn adopted(pod: &Pod, known: &PodStatus) -> Self {
        let mut grant = Grant::asked(pod);
        let lists = [&known.init_container_statuses, &known.container_statuses];
        for status in lists.into_iter().flat_map(|list| list.iter().flatten()) {
            let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
            if let (true, Some(had), Some(asked)) =
                (runs, &status.resources, grant.containers.get_mut(&status.name))
            {
                *asked = with_scalable(asked, had);
            }
        }
        grant
    }

    /// The pod with what it was granted in place of what it asks for.
    pub(crate) fn applied<'a>(&self, pod: &'a Pod) -> Cow<'a, Pod> {
        if *self == Grant::asked(pod) {
            return Cow::Borrowed(pod);
        }
        let mut granted = pod.clone();
        if let Some(spec) = &mut granted.spec {
            spec.resources.clone_from(&self.whole);
            let init = spec.init_containers.iter_mut().flatten();
            for container in spec.containers.iter_mut().chain(init) {
                if let Some(resources) = self.containers.get(&container.name) {
                    container.resources = Some(resources.clone());
                }
            }
        }
        Cow::Owned(granted)
    }
}

/// Requirements with the CPU and memory of others: no more of them can be resized.
fn with_scalable(asked: &ResourceRequirements, had: &ResourceRequirements) -> ResourceRequirements {
    let merged = |asked: &Option<Resources>, had: &Option<Resources>| {
        let mut merged = asked.clone().unwrap_or_default();
        for name in [CPU, MEMORY] {
            match had.as_ref().and_then(|had| had.get(name)) {
                Some(amount) => drop(merged.insert(name.to_string(), amount.clone())),
                None => drop(merged.remove(name)),
            }
        }
        Some(merged).filter(|merged| !merged.is_empty())
    };
    ResourceRequirements {
        requests: merged(&asked.requests, &had.requests),
        limits: merged(&asked.limits, &had.limits),
        ..asked.clone()
    }
}

/// What a status shows of a container: the CPU and memory that it has, and all else as it was granted.
pub(crate) fn shown(container: &Container, record: &ContainerRecord) -> Option<ResourceRequirements> {
    match (&record.resources, record.phase) {
        (Some(has), ContainerPhase::Running) => {
            let granted = container.resources.clone().unwrap_or_default();
            Some(with_scalable(&granted, has))
        }
        _ => container.resources.clone(),
    }
}

/// The message of an event: what is asked for, as upstream prints it.
pub(crate) fn message(prefix: &str, pod: &Pod, generation: Option<i64>, error: &str) -> String {
    let list = |containers: &[Container]| -> Vec<Value> {
        let one = |container: &Container| json!({"name": container.name, "resources": container.resources.clone().unwrap_or_default()});
        containers.iter().map(one).collect()
    };
    let mut parts = Vec::new();
    if !pod.init_containers().is_empty() {
        parts.push(format!("\"initContainers\":{}", Value::from(list(pod.init_containers()))));
    }
    parts.push(format!("\"containers\":{}", Value::from(list(pod.containers()))));
    parts.push(format!("\"generation\":{}", generation.unwrap_or(0)));
    if !error.is_empty() {
        parts.push(format!("\"error\":{}", Value::from(error)));
    }
    format!("{prefix}: {{{}}}", parts.join(","))
}

#[cfg(test)]
mod tests;
