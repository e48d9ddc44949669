//! Quality of service classes: who is evicted and killed first when memory is short.

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};

use crate::resources::{self, Amounts, CPU, MEMORY};

/// Ordered from the most to the least protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QosClass {
    /// Every container has limits for CPU and memory, and requests equal to them.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The class of a pod. Only CPU and memory count; pod-level resources, where they are set, decide alone.
pub fn class_of(spec: &PodSpec) -> QosClass {
    if let Some(resources) = &spec.resources {
        let (requests, limits) = (positive(Some(resources), true), positive(Some(resources), false));
        return classify(&requests, &limits, limits.len() == 2);
    }
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let sum = |requests| {
        let mut total = Amounts::new();
        for (name, amount) in containers().flat_map(|container| of(container, requests)) {
            *total.entry(name).or_insert(0) += amount;
        }
        total
    };
    let all_limited = containers().all(|container| of(container, false).len() == 2);
    classify(&sum(true), &sum(false), all_limited)
}

fn classify(requests: &Amounts, limits: &Amounts, all_limited: bool) -> QosClass {
    if requests.is_empty() && limits.is_empty() {
        QosClass::BestEffort
    } else if all_limited && requests == limits {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

fn of(container: &Container, requests: bool) -> Amounts {
    positive(container.resources.as_ref(), requests)
}

fn positive(resources: Option<&ResourceRequirements>, requests: bool) -> Amounts {
    let list = resources.and_then(|one| if requests { one.requests.as_ref() } else { one.limits.as_ref() });
    let mut amounts = resources::amounts(list);
    amounts.retain(|name, amount| matches!(name.as_str(), CPU | MEMORY) && *amount > 0);
    amounts
}

#[cfg(test)]
mod tests;
