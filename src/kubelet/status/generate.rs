//! A pod's status from its specification, the runtime's state and the probes' findings: phase, addresses,
//! class.

use api::resources::{pod_limits, pod_requests};
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, HostIP, Pod, PodIP, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::containers::Kind;
use super::input::StatusInput;
use super::{conditions, containers};
use crate::pods::plan::restarts;
use crate::spec::amount;
use crate::spec::resources::class_of;
use crate::spec::{self, PodExt, is_sidecar};

pub(crate) fn generate(input: &StatusInput<'_>) -> PodStatus {
    let pod = input.pod;
    if let Some(rejected) = rejected(input) {
        return rejected;
    }
    let mut init = containers::of(input, pod.init_containers(), Kind::Init);
    let mut main = containers::of(input, pod.containers(), Kind::Main);
    let ephemeral: Vec<_> = pod.ephemeral_containers().iter().map(spec::plain).collect();
    let mut ephemeral = containers::of(input, &ephemeral, Kind::Ephemeral);
    if input.ended {
        init.iter_mut().chain(&mut main).chain(&mut ephemeral).for_each(containers::conclude);
    }
    let old_phase = input.old.phase.as_deref().unwrap_or("");
    let phase = match old_phase {
        "Failed" | "Succeeded" => old_phase,
        _ if input.failed.is_some() => "Failed",
        _ => match phase(pod, &init, &main, input.ended) {
            // A pod that ended before its containers ran did not succeed.
            other if input.ended && other != "Succeeded" => "Failed",
            other => other,
        },
    };
    let (reason, message) = match input.failed {
        Some((reason, message)) => (Some(reason.clone()), Some(message.clone())),
        None if matches!(old_phase, "Failed" | "Succeeded") => {
            (input.old.reason.clone(), input.old.message.clone())
        }
        None => (None, None),
    };
    let ips = pod_ips(input);
    let mut status = PodStatus {
        phase: Some(phase.to_string()),
        reason,
        message,
        observed_generation: pod.metadata.generation,
        host_ip: input.host_ips.first().cloned(),
        host_ips: Some(input.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        start_time: input.old.start_time.clone().or(Some(Time(input.now))),
        qos_class: Some(class_of(pod).as_str().to_string()),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(main),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        ..PodStatus::default()
    };
    (status.resources, status.allocated_resources) = whole(pod);
    status.conditions = Some(conditions::of(input, &status));
    status
}

/// CPU, memory and all else of the pod as a whole, and the requests that the node counts for it.
fn whole(pod: &Pod) -> (Option<ResourceRequirements>, Option<amount::Resources>) {
    let spec = pod.spec_ref();
    let list = |amounts| Some(amount::list(amounts)).filter(|list| !list.is_empty());
    let (requests, limits) = (list(pod_requests(spec)), list(pod_limits(spec)));
    let allocated = requests.clone();
    let own = spec.resources.clone().unwrap_or_default();
    (Some(ResourceRequirements { requests, limits, ..own }), allocated)
}

/// The status of a pod that was never let in: why, and nothing about containers, so that clients show the
/// reason.
fn rejected(input: &StatusInput<'_>) -> Option<PodStatus> {
    let old = input.old;
    let failed_before = old.phase.as_deref() == Some("Failed");
    if !(failed_before || input.failed.is_some())
        || old.container_statuses.is_some()
        || !input.runtime.is_empty()
    {
        return None;
    }
    let (reason, message) = match input.failed {
        Some((reason, message)) => (Some(reason.clone()), Some(message.clone())),
        None => (old.reason.clone(), old.message.clone()),
    };
    Some(PodStatus {
        phase: Some("Failed".to_string()),
        reason,
        message,
        observed_generation: input.pod.metadata.generation,
        qos_class: Some(class_of(input.pod).as_str().to_string()),
        start_time: old.start_time.clone().or(Some(Time(input.now))),
        conditions: old.conditions.clone(),
        ..PodStatus::default()
    })
}

/// The sandbox's addresses; a pod that ended keeps what it had.
fn pod_ips(input: &StatusInput<'_>) -> Vec<String> {
    if input.pod.host_network() {
        let known = !input.runtime.sandboxes.is_empty() || input.old.pod_ip.is_some();
        return if known { input.host_ips.to_vec() } else { Vec::new() };
    }
    match input.runtime.sandboxes.first() {
        Some(sandbox) if !sandbox.ips.is_empty() => sandbox.ips.clone(),
        _ => input.old.pod_ips.iter().flatten().map(|one| one.ip.clone()).collect(),
    }
}

#[derive(Default)]
struct Counts {
    waiting: usize,
    running: usize,
    stopped: usize,
    /// Those of the stopped that are not started again.
    stopped_for_good: usize,
    succeeded: usize,
    unknown: usize,
}

fn phase(pod: &Pod, init: &[ContainerStatus], main: &[ContainerStatus], ended: bool) -> &'static str {
    let mut pending = false;
    let mut failed = false;
    for (container, status) in pod.init_containers().iter().zip(init) {
        if is_sidecar(container) {
            pending |= status.started != Some(true);
            continue;
        }
        let state = status.state.as_ref();
        let end = state.and_then(|state| state.terminated.as_ref());
        let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let last = last.filter(|_| state.is_some_and(|state| state.waiting.is_some()));
        pending |= end.is_none();
        if let Some(end) = end.or(last).filter(|end| end.exit_code != 0) {
            if !restarts(pod, container, end.exit_code) {
                return "Failed";
            }
            failed = true;
        }
    }
    let mut counts = Counts::default();
    for (container, status) in pod.containers().iter().zip(main) {
        count(pod, container, status, &mut counts);
    }
    // Sidecars that were told to stop do not make a pod pending again whose containers ran.
    let all_stopped = counts.stopped > 0 && counts.waiting + counts.running + counts.unknown == 0;
    match counts {
        _ if (pending || failed) && !all_stopped && counts.running == 0 => "Pending",
        Counts { waiting: 1.., .. } => "Pending",
        Counts { running: 1.., unknown: 0, .. } => "Running",
        Counts { running: 0, stopped: 1.., unknown: 0, .. } => {
            if !ended && counts.stopped != counts.stopped_for_good {
                "Running"
            } else if counts.stopped == counts.succeeded {
                "Succeeded"
            } else {
                "Failed"
            }
        }
        _ => "Pending",
    }
}

fn count(pod: &Pod, container: &Container, status: &ContainerStatus, counts: &mut Counts) {
    let Some(state) = &status.state else {
        counts.unknown += 1;
        return;
    };
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    if state.running.is_some() {
        counts.running += 1;
    } else if let Some(end) = state.terminated.as_ref().or(last) {
        counts.stopped += 1;
        counts.stopped_for_good += usize::from(!restarts(pod, container, end.exit_code));
        // One that waits to be started again has not succeeded, however it ended.
        counts.succeeded += usize::from(state.terminated.is_some() && end.exit_code == 0);
    } else {
        counts.waiting += 1;
    }
}
