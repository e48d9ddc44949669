//! Which level and which flow a request belongs to: upstream's mandatory and suggested levels and schemas,
//! which every cluster starts with.
//!
//! Absent: the objects `FlowSchema` and `PriorityLevelConfiguration`, and `catch-all`, which upstream's own
//! schemas leave nothing to.

use api::Identity;
use api::identity::{
    GROUP_MASTERS, GROUP_NODES, GROUP_SERVICE_ACCOUNTS, USER_CONTROLLER_MANAGER, USER_SCHEDULER,
};

use super::seats::Share;

/// Levels that wait for seats, in the order of [`SHARES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Leases and status of nodes: a node that is late with these is taken for dead.
    NodeHigh,
    /// Nodes otherwise.
    System,
    LeaderElection,
    /// The system's own controllers.
    WorkloadHigh,
    /// Service accounts.
    WorkloadLow,
    GlobalDefault,
}

pub(super) const SHARES: [Share; 6] = [
    Share { shares: 40, lendable_percent: 25 },
    Share { shares: 30, lendable_percent: 33 },
    Share { shares: 10, lendable_percent: 0 },
    Share { shares: 40, lendable_percent: 50 },
    Share { shares: 100, lendable_percent: 90 },
    Share { shares: 20, lendable_percent: 50 },
];

impl Level {
    /// The name of its PriorityLevelConfiguration.
    fn name(self) -> &'static str {
        match self {
            Level::NodeHigh => "node-high",
            Level::System => "system",
            Level::LeaderElection => "leader-election",
            Level::WorkloadHigh => "workload-high",
            Level::WorkloadLow => "workload-low",
            Level::GlobalDefault => "global-default",
        }
    }
}

/// The FlowSchema that a request matches, and the PriorityLevelConfiguration that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) schema: &'static str,
    pub(crate) level: &'static str,
}

/// What is known of a request before it is read.
pub(crate) struct Request<'a> {
    pub(crate) user: &'a Identity,
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    /// Empty for a path that is no resource.
    pub(crate) resource: &'a str,
    pub(crate) subresource: Option<&'a str>,
    pub(crate) namespace: Option<&'a str>,
}

/// The flow that a request belongs to: a schema, and what tells its flows apart.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flow<'a> {
    pub(crate) level: usize,
    schema: &'static str,
    distinguisher: &'a str,
}

impl Request<'_> {
    pub(crate) fn names(&self) -> Names {
        match classify(self) {
            Some((level, flow)) => Names { schema: flow.schema, level: level.name() },
            None => Names { schema: "exempt", level: "exempt" },
        }
    }
}

/// None for those that never wait.
pub(crate) fn classify<'a>(request: &Request<'a>) -> Option<(Level, Flow<'a>)> {
    let user = request.user;
    if user.in_group(GROUP_MASTERS) {
        return None;
    }
    let flow = |level: Level, schema, distinguisher| {
        Some((level, Flow { level: level as usize, schema, distinguisher }))
    };
    let by_user = |level, schema| flow(level, schema, user.name.as_str());
    let by_namespace = |level, schema| flow(level, schema, request.namespace.unwrap_or(""));
    let lease = request.group == "coordination.k8s.io" && request.resource == "leases";
    let own = [USER_CONTROLLER_MANAGER, USER_SCHEDULER].contains(&user.name.as_str());
    let own_account = user.name.starts_with("system:serviceaccount:kube-system:");
    let elects = lease
        && matches!(request.verb, "get" | "create" | "update")
        && request.namespace == Some("kube-system");
    if elects && (own || own_account) {
        return by_user(Level::LeaderElection, "system-leader-election");
    }
    if user.in_group(GROUP_NODES) {
        let of_node = request.group.is_empty()
            && request.resource == "nodes"
            && matches!(request.subresource, None | Some("status"));
        let high = of_node || lease && request.namespace == Some("kube-node-lease");
        return match high {
            true => by_user(Level::NodeHigh, "system-node-high"),
            false => by_user(Level::System, "system-nodes"),
        };
    }
    if own {
        let is_scheduler = user.name == USER_SCHEDULER;
        let schema = if is_scheduler { "kube-scheduler" } else { "kube-controller-manager" };
        return by_namespace(Level::WorkloadHigh, schema);
    }
    if own_account {
        return by_namespace(Level::WorkloadHigh, "kube-system-service-accounts");
    }
    if user.in_group(GROUP_SERVICE_ACCOUNTS) {
        return by_user(Level::WorkloadLow, "service-accounts");
    }
    by_user(Level::GlobalDefault, "global-default")
}
