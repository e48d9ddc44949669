//! The conditions that a kubelet owns, with upstream's reasons and messages. Those of others are left alone.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::input::StatusInput;
use crate::pods::plan::resets;
use crate::spec::{PodExt, is_sidecar};

struct Verdict {
    status: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes() -> Self {
        Verdict { status: true, reason: "", message: String::new() }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Verdict { status: false, reason, message }
    }
}

/// All conditions, in upstream's order; `lastTransitionTime` is kept where nothing changed.
pub(crate) fn of(input: &StatusInput<'_>, status: &PodStatus) -> Vec<PodCondition> {
    let containers = containers_ready(input, status);
    let ready = ready(input, &containers);
    let has_network =
        input.runtime.ready_sandbox().is_some_and(|one| input.pod.host_network() || !one.ips.is_empty());
    let to_start = if has_network && !input.ended { Verdict::yes() } else { Verdict::no("", String::new()) };
    let ours = [
        ("PodReadyToStartContainers", to_start),
        ("Initialized", initialized(input, status)),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", Verdict::yes()),
    ];
    let resizes =
        [("PodResizePending", &input.progress.pending), ("PodResizeInProgress", &input.progress.running)];
    let resizes = resizes.into_iter().filter_map(|(name, phase)| Some((name, phase.as_ref()?)));
    // One that has ended is not resized any more.
    let resizes = resizes.filter(|_| !input.ended).map(|(name, phase)| PodCondition {
        reason: Some(phase.reason.clone()).filter(|text| !text.is_empty()),
        message: Some(phase.message.clone()).filter(|text| !text.is_empty()),
        observed_generation: phase.generation,
        ..condition(input, name, Verdict::yes())
    });
    let disruption = input.disruption.map(|message| {
        let verdict = Verdict { status: true, reason: "TerminationByKubelet", message: message.to_string() };
        condition(input, "DisruptionTarget", verdict)
    });
    let resetting = all_restarting(input, status);
    let passing = resizes.chain(disruption).chain(resetting);
    passing.chain(ours.into_iter().map(|(name, verdict)| condition(input, name, verdict))).collect()
}

const RESTARTING: &str = "AllContainersRestarting";

/// Whether a status tells that all containers are about to begin anew.
pub(super) fn is_restarting(status: &PodStatus) -> bool {
    status.conditions.iter().flatten().any(|one| one.type_ == RESTARTING && one.status == "True")
}

/// Whether all containers were removed to begin anew, and none has begun.
fn is_removed(input: &StatusInput<'_>) -> bool {
    let mut all = input.pod.init_containers().iter().chain(input.pod.containers());
    is_restarting(input.old) && all.all(|one| input.runtime.latest(&one.name).is_none())
}

/// Whether all containers are about to begin anew; told of pods that have a rule for it.
fn all_restarting(input: &StatusInput<'_>, status: &PodStatus) -> Option<PodCondition> {
    let containers = input.pod.init_containers().iter().chain(input.pod.containers());
    let mut rules = containers.flat_map(|one| one.restart_policy_rules.iter().flatten());
    if !rules.any(|rule| rule.action == "RestartAllContainers") {
        return None;
    }
    let verdict = match status.phase.as_deref() {
        Some("Succeeded") => Verdict::no("PodCompleted", String::new()),
        Some("Failed") => Verdict::no("PodFailed", String::new()),
        _ if resets(input.pod, input.runtime).is_some() || is_removed(input) => Verdict {
            status: true,
            reason: "RestartAllContainersStarted",
            message: "container exited with restart policy rule".to_string(),
        },
        _ => Verdict::no("", String::new()),
    };
    Some(condition(input, RESTARTING, verdict))
}

fn condition(input: &StatusInput<'_>, name: &str, verdict: Verdict) -> PodCondition {
    let status = if verdict.status { "True" } else { "False" };
    let old = input.old.conditions.iter().flatten().find(|one| one.type_ == name && one.status == status);
    PodCondition {
        type_: name.to_string(),
        status: status.to_string(),
        reason: Some(verdict.reason.to_string()).filter(|text| !text.is_empty()),
        message: Some(verdict.message).filter(|text| !text.is_empty()),
        last_transition_time: old.and_then(|one| one.last_transition_time.clone()).or(Some(Time(input.now))),
        observed_generation: input.pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn listed(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn named<'a>(statuses: &'a Option<Vec<ContainerStatus>>, name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().flatten().find(|one| one.name == name)
}

fn initialized(input: &StatusInput<'_>, status: &PodStatus) -> Verdict {
    let all = input.pod.init_containers();
    if all.is_empty() {
        return Verdict::yes();
    }
    let mut incomplete: Vec<&str> = Vec::new();
    for one in all {
        let found = named(&status.init_container_statuses, &one.name);
        let complete = found
            .is_some_and(|found| if is_sidecar(one) { found.started == Some(true) } else { found.ready });
        if !complete {
            incomplete.push(&one.name);
        }
    }
    if status.phase.as_deref() == Some("Succeeded") {
        return Verdict { status: true, reason: "PodCompleted", message: String::new() };
    }
    // Once the others have run, sidecars that stop do not undo it.
    let ran = status.container_statuses.iter().flatten().any(|one| one.container_id.is_some());
    if incomplete.is_empty() || ran {
        return Verdict::yes();
    }
    Verdict::no(
        "ContainersNotInitialized",
        format!("containers with incomplete status: {}", listed(&incomplete)),
    )
}

fn containers_ready(input: &StatusInput<'_>, status: &PodStatus) -> Verdict {
    match status.phase.as_deref() {
        Some("Succeeded") => return Verdict::no("PodCompleted", String::new()),
        Some("Failed") => return Verdict::no("PodFailed", String::new()),
        _ => {}
    }
    let (mut unknown, mut unready): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let sidecars = input.pod.init_containers().iter().filter(|one| is_sidecar(one));
    let found = sidecars.map(|one| (one, named(&status.init_container_statuses, &one.name)));
    let main = input.pod.containers().iter().map(|one| (one, named(&status.container_statuses, &one.name)));
    for (container, found) in found.chain(main) {
        match found {
            None => unknown.push(&container.name),
            Some(found) if !found.ready => unready.push(&container.name),
            Some(_) => {}
        }
    }
    let mut messages = Vec::new();
    if !unknown.is_empty() {
        messages.push(format!("containers with unknown status: {}", listed(&unknown)));
    }
    if !unready.is_empty() {
        messages.push(format!("containers with unready status: {}", listed(&unready)));
    }
    if messages.is_empty() { Verdict::yes() } else { Verdict::no("ContainersNotReady", messages.join(", ")) }
}

fn ready(input: &StatusInput<'_>, containers: &Verdict) -> Verdict {
    if !containers.status {
        return Verdict::no(containers.reason, containers.message.clone());
    }
    let mut messages = Vec::new();
    for gate in input.pod.spec_ref().readiness_gates.iter().flatten() {
        let name = &gate.condition_type;
        match input.old.conditions.iter().flatten().find(|one| one.type_ == *name) {
            None => messages
                .push(format!("corresponding condition of pod readiness gate {name:?} does not exist.")),
            Some(one) if one.status != "True" => messages.push(format!(
                "the status of pod readiness gate {name:?} is not \"True\", but {}",
                one.status
            )),
            Some(_) => {}
        }
    }
    if messages.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no("ReadinessGatesNotReady", messages.join(", "))
    }
}
