//! What to do next for a pod: a pure function of its specification, what the runtime holds and what probes
//! found.
//!
//! Upstream's `computePodActions`. Init containers run one after the other; those that restart always
//! (sidecars) stay and the next one waits only until they have started. Ephemeral containers wait for
//! nothing and are started once.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::resize::{self, Amounts, Need, Resize};
use crate::probes::{ProbeKind, ProbeOutcome, ProbeView};
use crate::runtime::state::{ContainerPhase, ContainerRecord, PodRuntime};
use crate::spec::{PodExt, Slot, container, is_sidecar};

/// A container to kill, and what its event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) message: String,
    /// A failed startup or liveness probe has its own grace period.
    pub(crate) probe: Option<ProbeKind>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodActions {
    /// Stop everything there is, first.
    pub(crate) kill_pod: bool,
    pub(crate) create_sandbox: bool,
    /// The attempt number of the sandbox to create.
    pub(crate) attempt: u32,
    /// The sandbox to start containers in, if it is there already.
    pub(crate) sandbox: Option<String>,
    pub(crate) kill: Vec<Kill>,
    pub(crate) start: Vec<Slot>,
    /// Containers that go on with other resources.
    pub(crate) resize: Vec<Resize>,
    /// A container ended in a way for which all of the pod's are to begin anew: that one.
    pub(crate) reset: Option<Slot>,
}

impl PodActions {
    pub(crate) fn starts_something(&self) -> bool {
        self.create_sandbox || !self.start.is_empty()
    }
}

/// Whether a container that is not running should run again.
pub(crate) fn should_run(pod: &Pod, container: &Container, latest: Option<&ContainerRecord>) -> bool {
    let Some(latest) = latest else { return true };
    match latest.phase {
        ContainerPhase::Running => false,
        ContainerPhase::Created | ContainerPhase::Unknown => true,
        ContainerPhase::Exited => restarts(pod, container, latest.exit_code),
    }
}

/// What the first rule that an exit code matches says.
fn rule(container: &Container, exit_code: i32) -> Option<&str> {
    let matching = container.restart_policy_rules.iter().flatten().find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
            listed == (codes.operator == "In")
        })
    });
    matching.map(|rule| rule.action.as_str())
}

/// The container whose end wants all of the pod's to begin anew.
pub(crate) fn resets(pod: &Pod, runtime: &PodRuntime) -> Option<Slot> {
    let init = pod.init_containers().iter().enumerate().map(|(index, one)| (Slot::Init(index), one));
    let main = pod.containers().iter().enumerate().map(|(index, one)| (Slot::Main(index), one));
    let ended = |container: &Container| {
        let record = runtime.latest(&container.name)?;
        (record.phase == ContainerPhase::Exited).then_some(record.exit_code)
    };
    let mut all = init.chain(main);
    let found =
        all.find(|(_, one)| ended(one).is_some_and(|code| rule(one, code) == Some("RestartAllContainers")));
    found.map(|(slot, _)| slot)
}

/// Whether a container that ended so is started again: its own rules, then its own policy, then its pod's.
pub(crate) fn restarts(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    if matches!(rule(container, exit_code), Some("Restart" | "RestartAllContainers")) {
        return true;
    }
    match policy(pod, container) {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

fn policy<'a>(pod: &'a Pod, container: &'a Container) -> &'a str {
    container.restart_policy.as_deref().unwrap_or_else(|| pod.restart_policy())
}

pub(crate) fn plan(pod: &Pod, runtime: &PodRuntime, probes: &dyn ProbeView) -> PodActions {
    match runtime.sandboxes.first() {
        None => fresh_sandbox(pod, runtime, 0),
        Some(newest) => {
            let several = runtime.sandboxes.iter().filter(|one| one.ready).count() > 1;
            let network = newest.host_network == pod.host_network();
            let address = pod.host_network() || !newest.ips.is_empty();
            if several || !newest.ready || !network || !address {
                fresh_sandbox(pod, runtime, newest.attempt + 1)
            } else {
                in_sandbox(pod, runtime, &newest.id, probes)
            }
        }
    }
}

fn fresh_sandbox(pod: &Pod, runtime: &PodRuntime, attempt: u32) -> PodActions {
    let mut plan = PodActions { kill_pod: true, attempt, ..PodActions::default() };
    if pod.restart_policy() == "Never" && attempt != 0 && !runtime.containers.is_empty() {
        return plan;
    }
    let succeeded = |one: &Container| {
        runtime
            .latest(&one.name)
            .is_some_and(|last| last.phase == ContainerPhase::Exited && last.exit_code == 0)
    };
    let again: Vec<Slot> = pod
        .containers()
        .iter()
        .enumerate()
        .filter(|(_, one)| !(policy(pod, one) == "OnFailure" && succeeded(one)))
        .map(|(index, _)| Slot::Main(index))
        .collect();
    if again.is_empty() {
        return plan;
    }
    plan.create_sandbox = true;
    plan.start = if pod.init_containers().is_empty() { again } else { vec![Slot::Init(0)] };
    plan
}

fn in_sandbox(pod: &Pod, runtime: &PodRuntime, sandbox: &str, probes: &dyn ProbeView) -> PodActions {
    let mut plan = PodActions { sandbox: Some(sandbox.to_string()), ..PodActions::default() };
    plan.reset = resets(pod, runtime);
    if plan.reset.is_some() {
        return plan;
    }
    let mut kept = 0;
    // They may be there to find out why the others do not start.
    let ephemeral = pod.ephemeral_containers().iter().enumerate();
    let missing = ephemeral.filter(|(_, one)| runtime.latest(&one.name).is_none());
    plan.start.extend(missing.map(|(index, _)| Slot::Ephemeral(index)));
    match init_containers(pod, runtime, sandbox, probes, &mut plan) {
        Initialization::Failed => {
            plan.kill_pod = true;
            plan.start.clear();
            return plan;
        }
        Initialization::Going => return plan,
        Initialization::Done => {}
    }
    for (index, one) in pod.containers().iter().enumerate() {
        match runtime.latest(&one.name) {
            Some(record) if record.phase == ContainerPhase::Running => match fault(one, record, probes) {
                None => {
                    kept += 1;
                    plan.resize.extend(resize_of(one, record));
                }
                Some(fault) => {
                    let restart = fault.probe().is_none() || policy(pod, one) != "Never";
                    plan.kill.push(killing(record, fault, restart));
                    if restart {
                        plan.start.push(Slot::Main(index));
                    }
                }
            },
            latest => {
                if should_run(pod, one, latest) {
                    if let Some(unknown) = latest.filter(|record| record.phase == ContainerPhase::Unknown) {
                        let message =
                            "Container is in \"unknown\" state, try killing it before restart".to_string();
                        plan.kill.push(Kill {
                            id: unknown.id.clone(),
                            name: one.name.clone(),
                            message,
                            probe: None,
                        });
                    }
                    plan.start.push(Slot::Main(index));
                }
            }
        }
    }
    if kept == 0 && !plan.start.iter().any(|slot| matches!(slot, Slot::Main(_))) {
        plan.kill_pod = true;
        plan.start.clear();
        plan.kill.clear();
        plan.resize.clear();
    }
    plan
}

/// Why a running container must not go on running.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Definition,
    Probe(ProbeKind),
    Resize,
}

impl Fault {
    fn probe(self) -> Option<ProbeKind> {
        if let Fault::Probe(kind) = self { Some(kind) } else { None }
    }
}

fn killing(record: &ContainerRecord, fault: Fault, restart: bool) -> Kill {
    let name = &record.name;
    let message = match fault {
        Fault::Definition => format!("Container {name} definition changed"),
        Fault::Probe(ProbeKind::Liveness) => format!("Container {name} failed liveness probe"),
        Fault::Probe(_) => format!("Container {name} failed startup probe"),
        Fault::Resize => format!("Container {name} resize requires restart"),
    };
    let message = match fault {
        Fault::Definition | Fault::Probe(_) if restart => format!("{message}, will be restarted"),
        _ => message,
    };
    Kill { id: record.id.clone(), name: name.clone(), message, probe: fault.probe() }
}

fn fault(container: &Container, record: &ContainerRecord, probes: &dyn ProbeView) -> Option<Fault> {
    if record.hash != container::hash(container) {
        return Some(Fault::Definition);
    }
    for kind in [ProbeKind::Liveness, ProbeKind::Startup] {
        if probes.outcome(kind, &record.id) == Some(ProbeOutcome::Failure) {
            return Some(Fault::Probe(kind));
        }
    }
    (resize::need(container, record) == Need::Restart).then_some(Fault::Resize)
}

fn resize_of(container: &Container, record: &ContainerRecord) -> Option<Resize> {
    (resize::need(container, record) == Need::Update).then(|| Resize {
        id: record.id.clone(),
        name: record.name.clone(),
        from: Amounts::of(record.resources.as_ref()),
        to: Amounts::of(container.resources.as_ref()),
    })
}

enum Initialization {
    Done,
    /// An init container runs or is to be started.
    Going,
    /// An init container failed and the pod may not try again.
    Failed,
}

fn init_containers(
    pod: &Pod,
    runtime: &PodRuntime,
    sandbox: &str,
    probes: &dyn ProbeView,
    plan: &mut PodActions,
) -> Initialization {
    let here = |name: &str| runtime.containers.iter().find(|one| one.name == name && one.sandbox == sandbox);
    let done_before = pod.containers().iter().any(|one| here(&one.name).is_some());
    for (index, one) in pod.init_containers().iter().enumerate() {
        let record = here(&one.name);
        let going = if is_sidecar(one) {
            sidecar(index, one, record, probes, plan) && !done_before
        } else if done_before {
            false
        } else {
            match record.map(|record| (record.phase, record.exit_code)) {
                Some((ContainerPhase::Exited, 0)) => false,
                Some((ContainerPhase::Running, _)) => {
                    plan.resize.extend(record.and_then(|record| resize_of(one, record)));
                    true
                }
                Some((ContainerPhase::Exited, code)) if !restarts(pod, one, code) => {
                    return Initialization::Failed;
                }
                _ => {
                    plan.start.push(Slot::Init(index));
                    true
                }
            }
        };
        if going {
            return Initialization::Going;
        }
    }
    Initialization::Done
}

/// Keeps a sidecar running; true if those after it have to wait for it.
fn sidecar(
    index: usize,
    container: &Container,
    record: Option<&ContainerRecord>,
    probes: &dyn ProbeView,
    plan: &mut PodActions,
) -> bool {
    match record {
        Some(record) if record.phase == ContainerPhase::Running => {
            if let Some(fault) = fault(container, record, probes) {
                plan.kill.push(killing(record, fault, true));
                plan.start.push(Slot::Init(index));
                return true;
            }
            plan.resize.extend(resize_of(container, record));
            container.startup_probe.is_some()
                && probes.outcome(ProbeKind::Startup, &record.id) != Some(ProbeOutcome::Success)
        }
        _ => {
            plan.start.push(Slot::Init(index));
            true
        }
    }
}

#[cfg(test)]
mod tests;
