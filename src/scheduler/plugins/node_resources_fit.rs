//! NodeResourcesFit: requests must fit beside those of the node's pods; the more is left, the better
//! (LeastAllocated).

use std::sync::Arc;

use crate::framework::{
    Actions, Code, Cycle, EventToRegister, FilterPlugin, MAX_NODE_SCORE, Plugin, Points, QueueingHint,
    Resource, ScorePlugin, Status,
};
use crate::node::NodeInfo;
use crate::resources::Resources;

pub(super) const NAME: &str = "NodeResourcesFit";

#[derive(Default)]
pub(super) struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.filter(self.clone()).score(self);
    }

    fn events_to_register(&self) -> Vec<EventToRegister> {
        let freed = Actions::DELETE | Actions::UPDATE_POD_SCALE_DOWN;
        let room = Actions::ADD | Actions::UPDATE_NODE_ALLOCATABLE;
        vec![
            EventToRegister::always(Resource::AssignedPod, freed),
            EventToRegister::hinted(Resource::Node, room, |pod, happening| {
                let has_room = |node: &NodeInfo| fits(&pod.requests, &node.requested, &node.allocatable);
                QueueingHint::when(happening.new_node.is_some_and(has_room))
            }),
        ]
    }
}

impl FilterPlugin for NodeResourcesFit {
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Status {
        if fits(&cycle.pod.requests, &node.requested, &node.allocatable) {
            return Status::success();
        }
        short(&cycle.pod.requests, &node.requested, &node.allocatable)
    }
}

impl ScorePlugin for NodeResourcesFit {
    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<i64, Status> {
        Ok(least_allocated(cycle.pod.nonzero, node.nonzero, &node.allocatable))
    }
}

/// Whether it fits: the fast answer for the many nodes that do.
pub(crate) fn fits(pod: &Resources, requested: &Resources, allocatable: &Resources) -> bool {
    let room = |wanted: i64, used: i64, all: i64| wanted == 0 || wanted <= all - used;
    requested.pods < allocatable.pods
        && room(pod.milli_cpu, requested.milli_cpu, allocatable.milli_cpu)
        && room(pod.memory, requested.memory, allocatable.memory)
        && room(pod.ephemeral, requested.ephemeral, allocatable.ephemeral)
        && pod
            .others
            .iter()
            .all(|(name, wanted)| room(*wanted, requested.other(name), allocatable.other(name)))
}

/// Everything that is short, each with its own text.
pub(super) fn short(pod: &Resources, requested: &Resources, allocatable: &Resources) -> Status {
    let mut status = Status::with_code(Code::Unschedulable, Vec::new());
    if requested.pods >= allocatable.pods {
        status.push_reason("Too many pods");
    }
    let mut hopeless = false;
    let mut check = |text: String, wanted: i64, used: i64, all: i64| {
        if wanted > 0 && wanted > all - used {
            // What is more than the whole node has cannot be had by evicting pods.
            hopeless |= wanted > all;
            status.push_reason(text);
        }
    };
    check("Insufficient cpu".into(), pod.milli_cpu, requested.milli_cpu, allocatable.milli_cpu);
    check("Insufficient memory".into(), pod.memory, requested.memory, allocatable.memory);
    check("Insufficient ephemeral-storage".into(), pod.ephemeral, requested.ephemeral, allocatable.ephemeral);
    for (name, wanted) in &pod.others {
        check(format!("Insufficient {name}"), *wanted, requested.other(name), allocatable.other(name));
    }
    if hopeless {
        return Status::with_code(Code::UnschedulableAndUnresolvable, status.reasons().to_vec());
    }
    status
}

/// `used` and `pod` are CPU and memory with defaults for what is not requested.
fn least_allocated(pod: (i64, i64), used: (i64, i64), allocatable: &Resources) -> i64 {
    let left = |wanted: i64, all: i64| {
        if all == 0 || wanted > all { 0 } else { (all - wanted) * MAX_NODE_SCORE / all }
    };
    let cpu = (allocatable.milli_cpu > 0).then(|| left(used.0 + pod.0, allocatable.milli_cpu));
    let memory = (allocatable.memory > 0).then(|| left(used.1 + pod.1, allocatable.memory));
    match (cpu, memory) {
        (Some(cpu), Some(memory)) => (cpu + memory) / 2,
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => 0,
    }
}
