//! Container statuses: the newest instance is the state, the one before it the last state, and what could not
//! be started waits with a reason.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, LinuxContainerUser, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions;
use super::input::StatusInput;
use crate::pods::plan::should_run;
use crate::pods::resize;
use crate::probes::{ProbeKind, ProbeOutcome};
use crate::runtime::state::{ContainerPhase, ContainerRecord, time};
use crate::spec::{PodExt, is_sidecar};

const LOST: &str = "ContainerStatusUnknown";

/// Which of a pod's lists of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Init,
    Main,
    Ephemeral,
}

pub(crate) fn of(input: &StatusInput<'_>, containers: &[Container], kind: Kind) -> Vec<ContainerStatus> {
    containers.iter().map(|one| status(input, one, kind)).collect()
}

fn waiting(reason: &str, message: Option<&str>) -> ContainerState {
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_string()).filter(|reason| !reason.is_empty()),
        message: message.filter(|text| !text.is_empty()).map(str::to_string),
    };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn status(input: &StatusInput<'_>, container: &Container, kind: Kind) -> ContainerStatus {
    let pod = input.pod;
    let listed = match kind {
        Kind::Init => &input.old.init_container_statuses,
        Kind::Main => &input.old.container_statuses,
        Kind::Ephemeral => &input.old.ephemeral_container_statuses,
    };
    let old = listed.iter().flatten().find(|one| one.name == container.name);
    let mut instances = input.runtime.containers.iter().filter(|one| one.name == container.name);
    let latest = instances.next();
    let mut status = match latest {
        Some(record) => from_record(record, old),
        None => without_record(input, container, old),
    };
    if let Some(previous) = instances.next() {
        status.last_state = Some(from_record(previous, None).state.unwrap_or_default());
    } else if latest.is_some() {
        status.last_state = old.and_then(|old| carried(old, latest));
    }
    let again = match kind {
        Kind::Ephemeral => latest.is_none(),
        Kind::Init | Kind::Main => should_run(pod, container, latest),
    };
    let restart = !pod.is_deleted() && !input.ended && again;
    if let Some((reason, message)) = input.reasons.get(&container.name).filter(|_| restart) {
        let state = status.state.take().unwrap_or_default();
        if state.terminated.is_some() {
            status.last_state = Some(state);
        }
        status.state = Some(waiting(reason, Some(message)));
    }
    // Upstream writes it even if there is nothing to say.
    status.last_state.get_or_insert_default();
    // Nobody asks whether an ephemeral container is ready.
    if kind != Kind::Ephemeral {
        judge(input, container, kind, latest, &mut status);
    }
    status.volume_mounts = volume_mounts(container).filter(|_| latest.is_some());
    status.resources = latest.and_then(|record| resize::shown(container, record));
    status.allocated_resources =
        container.resources.as_ref().and_then(|one| one.requests.clone()).filter(|_| latest.is_some());
    status
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?.iter().map(|mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| "Disabled".to_string()),
        ..VolumeMountStatus::default()
    });
    Some(mounts.collect())
}

/// The last state that the API knows, if the runtime has forgotten that instance: either it was the last
/// already, or the newest instance is a later one.
fn carried(old: &ContainerStatus, latest: Option<&ContainerRecord>) -> Option<ContainerState> {
    let same =
        latest.is_some_and(|one| old.container_id.as_deref() == Some(&format!("containerd://{}", one.id)));
    let ended = old.state.as_ref().filter(|state| state.terminated.is_some());
    match (same, ended) {
        (false, Some(state)) => Some(state.clone()),
        _ => old.last_state.clone().filter(|state| state.terminated.is_some()),
    }
}

/// Nothing of the container is left in the runtime, or it never was there.
fn without_record(
    input: &StatusInput<'_>,
    container: &Container,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let image = container.image.clone().unwrap_or_default();
    let reason = if input.pod.init_containers().is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image,
        state: Some(waiting(reason, None)),
        ..ContainerStatus::default()
    };
    let Some(old) = old else { return status };
    if conditions::is_restarting(input.old) {
        // All were removed to begin anew: how they ended must not end the pod.
        let ran =
            old.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some());
        status.restart_count = old.restart_count + i32::from(ran);
        return status;
    }
    status.restart_count = old.restart_count;
    status.last_state = old.last_state.clone();
    let state = old.state.clone().unwrap_or_default();
    if state.terminated.is_some() {
        status.state = Some(state);
        status.container_id = old.container_id.clone();
        status.image_id = old.image_id.clone();
        status.image = old.image.clone();
    } else if let Some(running) = state.running {
        let lost = ContainerStateTerminated {
            exit_code: 137,
            reason: Some(LOST.to_string()),
            message: Some(
                "The container could not be located when the pod was deleted.  The container used to be Running"
                    .to_string(),
            ),
            started_at: running.started_at,
            container_id: old.container_id.clone(),
            ..ContainerStateTerminated::default()
        };
        status.last_state = Some(ContainerState { terminated: Some(lost), ..ContainerState::default() });
        status.restart_count = old.restart_count + 1;
    }
    status
}

fn from_record(record: &ContainerRecord, old: Option<&ContainerStatus>) -> ContainerStatus {
    let id = format!("containerd://{}", record.id);
    let state = match record.phase {
        ContainerPhase::Running => {
            let started_at = time(record.started_at).map(Time);
            ContainerState {
                running: Some(ContainerStateRunning { started_at }),
                ..ContainerState::default()
            }
        }
        ContainerPhase::Created => {
            ContainerState { waiting: Some(ContainerStateWaiting::default()), ..Default::default() }
        }
        ContainerPhase::Exited => ended(record, &id),
        ContainerPhase::Unknown => {
            let lost = ContainerStateTerminated {
                exit_code: 137,
                reason: Some(LOST.to_string()),
                message: Some("The container could not be located when the pod was terminated".to_string()),
                container_id: Some(id.clone()),
                ..ContainerStateTerminated::default()
            };
            let ran = old.and_then(|old| old.state.as_ref()).is_some_and(|state| state.running.is_some());
            if ran {
                ContainerState { terminated: Some(lost), ..ContainerState::default() }
            } else {
                ContainerState { waiting: Some(ContainerStateWaiting::default()), ..Default::default() }
            }
        }
    };
    ContainerStatus {
        name: record.name.clone(),
        restart_count: record.restart_count,
        image: record.image.clone(),
        image_id: record.image_ref.clone(),
        container_id: Some(id),
        state: Some(state),
        user: record.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: *uid,
                gid: *gid,
                supplemental_groups: Some(groups.clone()),
            }),
        }),
        ..ContainerStatus::default()
    }
}

fn ended(record: &ContainerRecord, id: &str) -> ContainerState {
    let reason = match (record.reason.as_str(), record.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    let terminated = ContainerStateTerminated {
        exit_code: record.exit_code,
        reason: Some(reason.to_string()),
        message: Some(record.message.clone()).filter(|text| !text.is_empty()),
        // One that never started has the time it was made at both ends, as upstream shows it.
        started_at: time(record.started_at).or(time(0)).map(Time),
        finished_at: time(record.finished_at).map(Time),
        container_id: Some(id.to_string()),
        signal: None,
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

/// Fills `started` and `ready`.
fn judge(
    input: &StatusInput<'_>,
    container: &Container,
    kind: Kind,
    latest: Option<&ContainerRecord>,
    status: &mut ContainerStatus,
) {
    let running = latest.filter(|_| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    let started = running.is_some_and(|record| {
        container.startup_probe.is_none()
            || input.probes.outcome(ProbeKind::Startup, &record.id) == Some(ProbeOutcome::Success)
    });
    status.started = Some(started);
    status.ready = if kind == Kind::Init && !is_sidecar(container) {
        let end = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        end.is_some_and(|end| end.exit_code == 0)
    } else {
        started
            && running.is_some_and(|record| {
                container.readiness_probe.is_none()
                    || input.probes.outcome(ProbeKind::Readiness, &record.id) == Some(ProbeOutcome::Success)
            })
    };
}

/// The pod has ended for good: what is not known to have ended is reported as lost.
pub(crate) fn conclude(status: &mut ContainerStatus) {
    let state = status.state.get_or_insert_default();
    status.ready = false;
    status.started = Some(false);
    if let Some(end) = &state.terminated {
        // An init container that succeeded stays ready.
        status.ready = end.exit_code == 0 && status.last_state.is_none() && status.ready;
        return;
    }
    let never_ran = status.container_id.is_none() && status.last_state.is_none();
    let (message, exit_code) = if never_ran {
        // Nothing to report: it keeps waiting for ever.
        return;
    } else {
        ("The container could not be located when the pod was terminated", 137)
    };
    *state = ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code,
            reason: Some(LOST.to_string()),
            message: Some(message.to_string()),
            container_id: status.container_id.clone(),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    };
}
