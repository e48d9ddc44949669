//! CPU and memory of containers and pods as cgroup numbers; quality-of-service classes.

use k8s_cri::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use super::amount::{self, Resources};
use super::{PodExt, is_sidecar};

const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const PERIOD: i64 = 100_000;
const MIN_QUOTA: i64 = 1000;

/// Who suffers first when the node runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    pub(crate) fn of(pod: &Pod) -> Self {
        let all = || pod.containers().iter().chain(pod.init_containers());
        let mut any = false;
        let mut guaranteed = true;
        for container in all() {
            let resources = container.resources.as_ref();
            for name in ["cpu", "memory"] {
                let request = positive(resources.and_then(|one| one.requests.as_ref()), name);
                let limit = positive(resources.and_then(|one| one.limits.as_ref()), name);
                any |= request.is_some() || limit.is_some();
                guaranteed &= limit.is_some() && (request.is_none() || request == limit);
            }
        }
        match (any, guaranteed) {
            (false, _) => Self::BestEffort,
            (true, true) => Self::Guaranteed,
            (true, false) => Self::Burstable,
        }
    }
}

fn positive(list: Option<&Resources>, name: &str) -> Option<i128> {
    amount::nanos(list?.get(name)?).filter(|nanos| *nanos > 0)
}

pub(crate) fn shares(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { MIN_SHARES } else { (milli_cpu * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

pub(crate) fn quota(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { 0 } else { (milli_cpu * PERIOD / 1000).max(MIN_QUOTA) }
}

/// The resources of a container's own cgroup. `node_memory` in bytes decides how likely the container is to be killed when
/// memory runs out.
pub(crate) fn of_container(
    pod: &Pod,
    container: &Container,
    node_memory: i64,
    no_swap: bool,
) -> LinuxContainerResources {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|one| one.requests.as_ref());
    let limits = resources.and_then(|one| one.limits.as_ref());
    let cpu_limit = amount::milli_cpu(limits).unwrap_or(0);
    let cpu_request = amount::milli_cpu(requests).or(amount::milli_cpu(limits)).unwrap_or(0);
    let memory_limit = amount::memory(limits).unwrap_or(0);
    LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: quota(cpu_limit),
        cpu_shares: shares(cpu_request),
        memory_limit_in_bytes: memory_limit,
        memory_swap_limit_in_bytes: if no_swap { memory_limit } else { 0 },
        oom_score_adj: oom_score(pod, container, node_memory),
        ..Default::default()
    }
}

fn oom_score(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    // Priority 2000000000 and more is the system's own.
    if pod.spec_ref().priority.is_some_and(|priority| priority >= 2_000_000_000) {
        return -997;
    }
    match Qos::of(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let requests = container.resources.as_ref().and_then(|one| one.requests.as_ref());
            let request = amount::memory(requests).unwrap_or(0);
            let score = 1000 - (1000 * i128::from(request) / i128::from(node_memory.max(1)));
            i64::try_from(score).unwrap_or(3).clamp(3, 999)
        }
    }
}

/// Limits of a pod's cgroup; `None` means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PodLimits {
    pub(crate) shares: i64,
    pub(crate) quota: Option<i64>,
    pub(crate) memory: Option<i64>,
}

pub(crate) fn of_pod(pod: &Pod) -> PodLimits {
    let (cpu_request, _) = total(pod, requests_or_limits, "cpu");
    let (cpu_limit, all_cpu) = total(pod, |one| one.limits.as_ref(), "cpu");
    let (memory_limit, all_memory) = total(pod, |one| one.limits.as_ref(), "memory");
    let milli = |nanos: i128| i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX);
    match Qos::of(pod) {
        Qos::BestEffort => PodLimits { shares: MIN_SHARES, quota: None, memory: None },
        _ => PodLimits {
            shares: shares(milli(cpu_request)),
            quota: all_cpu.then(|| quota(milli(cpu_limit))),
            memory: all_memory.then(|| i64::try_from(memory_limit / 1_000_000_000).unwrap_or(i64::MAX)),
        },
    }
}

fn requests_or_limits(resources: &ResourceRequirements) -> Option<&Resources> {
    resources.requests.as_ref().or(resources.limits.as_ref())
}

/// What a pod needs of a resource at most at a time, in billionths: its containers and sidecars together, or one init
/// container beside the sidecars before it; and whether every container names an amount.
fn total(pod: &Pod, pick: impl Fn(&ResourceRequirements) -> Option<&Resources>, name: &str) -> (i128, bool) {
    let amount_of = |container: &Container| {
        container.resources.as_ref().and_then(&pick).and_then(|list| list.get(name)).and_then(amount::nanos)
    };
    let mut all = true;
    let mut sidecars = 0;
    let mut highest = 0;
    for container in pod.init_containers() {
        let amount = amount_of(container);
        all &= amount.is_some_and(|amount| amount > 0);
        let amount = amount.unwrap_or(0);
        if is_sidecar(container) {
            sidecars += amount;
            highest = highest.max(sidecars);
        } else {
            highest = highest.max(sidecars + amount);
        }
    }
    let mut together = sidecars;
    for container in pod.containers() {
        let amount = amount_of(container);
        all &= amount.is_some_and(|amount| amount > 0);
        together += amount.unwrap_or(0);
    }
    let overhead = pod.spec_ref().overhead.as_ref().and_then(|list| list.get(name)).and_then(amount::nanos);
    (together.max(highest) + overhead.unwrap_or(0), all)
}

/// What the scheduler counts for a pod: CPU in thousandths and memory in bytes.
pub(crate) fn requested(pod: &Pod) -> (i64, i64) {
    let (cpu, _) = total(pod, |one| one.requests.as_ref(), "cpu");
    let (memory, _) = total(pod, |one| one.requests.as_ref(), "memory");
    (
        i64::try_from(cpu / 1_000_000).unwrap_or(i64::MAX),
        i64::try_from(memory / 1_000_000_000).unwrap_or(i64::MAX),
    )
}

#[cfg(test)]
mod tests;
