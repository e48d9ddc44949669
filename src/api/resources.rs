//! What a pod asks for: requests and limits summed over its containers, as scheduler, kubelet and quota count
//! them.
//!
//! The rule (KEP-753 and KEP-2837): containers and restartable init containers run side by side and add up;
//! an ordinary init container runs next to the restartable ones before it, so the most demanding moment
//! counts; pod-level resources replace the sum for the resources they name; `overhead` is added. CPU is
//! counted in thousandths, all else in units.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub const CPU: &str = "cpu";
pub const MEMORY: &str = "memory";
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
pub const PODS: &str = "pods";

/// Amounts by resource name: `cpu` in thousandths, others in units (bytes, counts).
pub type Amounts = BTreeMap<String, i64>;

type Quantities = BTreeMap<String, Quantity>;

/// One amount as it is counted: thousandths for `cpu`, units for all else, rounded up.
pub fn amount(resource: &str, quantity: &Quantity) -> i64 {
    if resource == CPU { milli(quantity) } else { units(quantity) }
}

/// Amounts of a list such as `requests` or `allocatable`.
pub fn amounts(quantities: Option<&Quantities>) -> Amounts {
    quantities.into_iter().flatten().map(|(name, quantity)| (name.clone(), amount(name, quantity))).collect()
}

/// What the scheduler reserves for the pod: requests of its spec.
pub fn pod_requests(spec: &PodSpec) -> Amounts {
    summed(spec, |resources| resources.requests.as_ref(), &|container| {
        amounts(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
    })
}

/// What the pod may use at most. A container without a limit of a resource makes the sum meaningless as a
/// bound; like upstream, the sum counts those that have one.
pub fn pod_limits(spec: &PodSpec) -> Amounts {
    summed(spec, |resources| resources.limits.as_ref(), &|container| {
        amounts(container.resources.as_ref().and_then(|resources| resources.limits.as_ref()))
    })
}

/// What a pod holds on its node: during an in-place resize the larger of what it asks for and what it was
/// given.
pub fn held_requests(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let Some(status) = &pod.status else { return pod_requests(spec) };
    let statuses = || {
        let init = status.init_container_statuses.iter().flatten();
        status.container_statuses.iter().flatten().chain(init)
    };
    if statuses().all(|one| one.resources.is_none() && one.allocated_resources.is_none()) {
        return pod_requests(spec);
    }
    summed(spec, |resources| resources.requests.as_ref(), &|container| {
        let mut held =
            amounts(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
        if let Some(status) = statuses().find(|status| status.name == container.name) {
            raise(&mut held, &given(status));
        }
        held
    })
}

fn given(status: &ContainerStatus) -> Amounts {
    let mut given = amounts(status.allocated_resources.as_ref());
    raise(&mut given, &amounts(status.resources.as_ref().and_then(|resources| resources.requests.as_ref())));
    given
}

fn summed(
    spec: &PodSpec,
    pod_level: impl Fn(&ResourceRequirements) -> Option<&Quantities>,
    of: &dyn Fn(&Container) -> Amounts,
) -> Amounts {
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &of(container));
    }
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut moment = of(container);
        if is_restartable_init(container) {
            add(&mut total, &moment);
            add(&mut sidecars, &moment);
            raise(&mut peak, &sidecars);
        } else {
            add(&mut moment, &sidecars);
            raise(&mut peak, &moment);
        }
    }
    raise(&mut total, &peak);
    for (name, amount) in amounts(spec.resources.as_ref().and_then(pod_level)) {
        if is_pod_level(&name) {
            total.insert(name, amount);
        }
    }
    add(&mut total, &amounts(spec.overhead.as_ref()));
    total
}

/// Resources that `spec.resources` of a pod may name.
fn is_pod_level(resource: &str) -> bool {
    matches!(resource, CPU | MEMORY) || resource.starts_with("hugepages-")
}

/// An init container with `restartPolicy: Always`: a sidecar.
pub fn is_restartable_init(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total.entry(name.clone()).or_insert(0);
        *sum = sum.saturating_add(*amount);
    }
}

fn raise(total: &mut Amounts, floor: &Amounts) {
    for (name, amount) in floor {
        let own = total.entry(name.clone()).or_insert(0);
        *own = (*own).max(*amount);
    }
}

/// The quantity in thousandths, rounded up; 0 if it cannot be read (validation keeps such quantities out).
pub fn milli(quantity: &Quantity) -> i64 {
    quantity.0.parse::<crate::quantity::Quantity>().map_or(0, |quantity| quantity.milli_value())
}

/// The quantity in units, rounded up; 0 if it cannot be read.
pub fn units(quantity: &Quantity) -> i64 {
    quantity.0.parse::<crate::quantity::Quantity>().map_or(0, |quantity| quantity.value())
}

#[cfg(test)]
mod tests;
