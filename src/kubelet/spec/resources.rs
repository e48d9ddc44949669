//! CPU and memory of containers and pods as cgroup numbers; quality-of-service classes.

use api::qos::QosClass;
use api::resources::{CPU, MEMORY, pod_limits, pod_requests};
use k8s_cri::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::PodExt;
use super::amount::{self, Resources};

const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const PERIOD: i64 = 100_000;
const MIN_QUOTA: i64 = 1000;

/// A pod's quality of service.
pub(crate) fn class_of(pod: &Pod) -> QosClass {
    api::qos::class_of(pod.spec_ref())
}

pub(crate) fn shares(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { MIN_SHARES } else { (milli_cpu * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

pub(crate) fn quota(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { 0 } else { (milli_cpu * PERIOD / 1000).max(MIN_QUOTA) }
}

/// The resources of a container's own cgroup. `node_memory` in bytes decides how likely the container is to
/// be killed when memory runs out.
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
    match class_of(pod) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
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

impl PodLimits {
    /// Room for either.
    pub(crate) fn widest(self, other: PodLimits) -> PodLimits {
        let wider = |one: Option<i64>, other: Option<i64>| Some(one?.max(other?));
        PodLimits {
            shares: self.shares.max(other.shares),
            quota: wider(self.quota, other.quota),
            memory: wider(self.memory, other.memory),
        }
    }
}

pub(crate) fn of_pod(pod: &Pod) -> PodLimits {
    if class_of(pod) == QosClass::BestEffort {
        return PodLimits { shares: MIN_SHARES, quota: None, memory: None };
    }
    let spec = pod.spec_ref();
    let (requests, limits) = (pod_requests(spec), pod_limits(spec));
    // A request that is not set is the limit, as the API server's defaults have it.
    let cpu = requests.get(CPU).or(limits.get(CPU)).copied().unwrap_or(0);
    let bound = |name: &str| limits.get(name).copied().filter(|_| all_limit(pod, name));
    PodLimits { shares: shares(cpu), quota: bound(CPU).map(quota), memory: bound(MEMORY) }
}

/// Whether every container, or the pod as a whole, has a limit: only then is their sum one.
fn all_limit(pod: &Pod, name: &str) -> bool {
    let limited = |limits: Option<&Resources>| {
        limits
            .and_then(|limits| limits.get(name))
            .is_some_and(|limit| api::resources::amount(name, limit) > 0)
    };
    let whole = pod.spec_ref().resources.as_ref().and_then(|one| one.limits.as_ref());
    let mut containers = pod.containers().iter().chain(pod.init_containers());
    limited(whole)
        || containers.all(|one| limited(one.resources.as_ref().and_then(|one| one.limits.as_ref())))
}

/// What the scheduler counts for a pod: CPU in thousandths and memory in bytes.
pub(crate) fn requested(pod: &Pod) -> (i64, i64) {
    let requests = pod_requests(pod.spec_ref());
    let of = |name: &str| requests.get(name).copied().unwrap_or(0);
    (of(CPU), of(MEMORY))
}

#[cfg(test)]
mod tests;
