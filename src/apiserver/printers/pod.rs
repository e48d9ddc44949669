//! Pods: the STATUS that people know is computed here from phase, conditions and container states.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, NAME, age, at, column, items, name, number, or, since, text, wide};
use crate::strategy::{Cell, Column};

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "The aggregate readiness state of this pod for accepting traffic."),
    column("Status", "string", "The aggregate status of the containers in this pod."),
    column(
        "Restarts",
        "string",
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
    ),
    AGE,
    wide("IP", "string", "Address of the pod; empty until it has one."),
    wide("Node", "string", "The node the pod is bound to."),
    wide("Nominated Node", "string", "The node the pod waits for while others make room for it."),
    wide("Readiness Gates", "string", "How many of the pod's further readiness conditions are true."),
];

pub(crate) fn cells(pod: &Value, now: Timestamp) -> Vec<Cell> {
    let state = State::of(pod);
    let restarts = match (state.restarts, state.last_restart) {
        (0, _) | (_, "") => state.restarts.to_string(),
        (count, last) => format!("{count} ({} ago)", since(last, now)),
    };
    let none = |text: &str| json!(or(text, "<none>"));
    vec![
        name(pod),
        json!(format!("{}/{}", state.ready, state.total)),
        json!(state.status),
        json!(restarts),
        age(pod, now),
        none(items(pod, "status.podIPs").first().map_or("", |one| text(one, "ip"))),
        none(text(pod, "spec.nodeName")),
        none(text(pod, "status.nominatedNodeName")),
        none(&readiness_gates(pod)),
    ]
}

#[derive(Default)]
struct State<'a> {
    status: String,
    ready: usize,
    total: usize,
    restarts: i64,
    /// RFC 3339; texts of one form compare as times.
    last_restart: &'a str,
}

impl<'a> State<'a> {
    fn of(pod: &'a Value) -> Self {
        let phase = text(pod, "status.phase");
        let mut status = or(text(pod, "status.reason"), phase).to_string();
        let gated =
            |one: &Value| text(one, "type") == "PodScheduled" && text(one, "reason") == "SchedulingGated";
        if items(pod, "status.conditions").iter().any(gated) {
            status = "SchedulingGated".to_string();
        }
        let mut state = State { status, total: items(pod, "spec.containers").len(), ..State::default() };
        let initializing = state.add_init(pod);
        if !initializing || condition(pod, "Initialized") {
            state.add_containers(pod);
        }
        if !text(pod, "metadata.deletionTimestamp").is_empty() {
            if text(pod, "status.reason") == "NodeLost" {
                state.status = "Unknown".to_string();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                state.status = "Terminating".to_string();
            }
        }
        state
    }

    fn count_restarts(&mut self, status: &'a Value) {
        self.restarts += number(status, "restartCount");
        self.last_restart = self.last_restart.max(text(status, "lastState.terminated.finishedAt"));
    }

    /// Walks the init containers up to the one that is not done; true if there is such a one. Restarts of
    /// plain init containers count only until the pod is initialized, those of sidecars always.
    fn add_init(&mut self, pod: &'a Value) -> bool {
        let specs = items(pod, "spec.initContainers");
        let always = specs.iter().filter(|one| text(one, "restartPolicy") == "Always");
        self.total += always.clone().count();
        let restartable: HashSet<&str> = always.map(|one| text(one, "name")).collect();
        let mut sidecars = State::default();
        let mut initializing = false;
        for (index, status) in items(pod, "status.initContainerStatuses").iter().enumerate() {
            let sidecar = restartable.contains(text(status, "name"));
            self.count_restarts(status);
            if sidecar {
                sidecars.count_restarts(status);
            }
            let terminated = at(status, "state.terminated");
            if !terminated.is_null() && number(terminated, "exitCode") == 0 {
                continue;
            }
            if sidecar && status["started"] == true {
                self.ready += usize::from(status["ready"] == true);
                continue;
            }
            let waiting = text(status, "state.waiting.reason");
            self.status = if !terminated.is_null() {
                format!("Init:{}", termination(terminated))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", specs.len())
            };
            initializing = true;
            break;
        }
        if !initializing || condition(pod, "Initialized") {
            (self.restarts, self.last_restart) = (sidecars.restarts, sidecars.last_restart);
        }
        initializing
    }

    /// The first container with something to say gives the status, so they are visited from the last.
    fn add_containers(&mut self, pod: &'a Value) {
        let mut running = false;
        for status in items(pod, "status.containerStatuses").iter().rev() {
            self.count_restarts(status);
            let waiting = text(status, "state.waiting.reason");
            let terminated = at(status, "state.terminated");
            if !waiting.is_empty() {
                self.status = waiting.to_string();
            } else if !terminated.is_null() {
                self.status = termination(terminated);
            } else if status["ready"] == true && !at(status, "state.running").is_null() {
                running = true;
                self.ready += 1;
            }
        }
        if self.status == "Completed" && running {
            self.status = if condition(pod, "Ready") { "Running" } else { "NotReady" }.to_string();
        }
    }
}

fn termination(terminated: &Value) -> String {
    match (text(terminated, "reason"), number(terminated, "signal")) {
        ("", 0) => format!("ExitCode:{}", number(terminated, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_string(),
    }
}

fn condition(pod: &Value, kind: &str) -> bool {
    items(pod, "status.conditions")
        .iter()
        .any(|one| text(one, "type") == kind && text(one, "status") == "True")
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(pod, "spec.readinessGates");
    if gates.is_empty() {
        return String::new();
    }
    let conditions = items(pod, "status.conditions").iter();
    let hold: HashSet<&str> =
        conditions.filter(|one| text(one, "status") == "True").map(|one| text(one, "type")).collect();
    let met = gates.iter().filter(|gate| hold.contains(text(gate, "conditionType"))).count();
    format!("{met}/{}", gates.len())
}
