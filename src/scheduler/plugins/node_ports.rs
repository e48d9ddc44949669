//! NodePorts: host ports must be free.

use std::sync::Arc;

use crate::framework::{
    Actions, Cycle, EventToRegister, FilterPlugin, Plugin, Points, PreFilterPlugin, PreFilterResult,
    QueueingHint, Resource, Status,
};
use crate::node::NodeInfo;
use crate::pod::{HostPort, ports_of};

pub(super) const NAME: &str = "NodePorts";

#[derive(Default)]
pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.pre_filter(self.clone()).filter(self);
    }

    fn events_to_register(&self) -> Vec<EventToRegister> {
        let freed = EventToRegister::hinted(Resource::Pod, Actions::DELETE, |pod, happening| {
            let spec = happening.old_pod.and_then(|gone| gone.spec.as_ref());
            QueueingHint::when(spec.is_some_and(|spec| conflict(&pod.ports, &ports_of(spec))))
        });
        vec![freed, EventToRegister::always(Resource::Node, Actions::ADD)]
    }
}

impl PreFilterPlugin for NodePorts {
    fn pre_filter(&self, cycle: &mut Cycle<'_>) -> (PreFilterResult, Status) {
        let status = if cycle.pod.ports.is_empty() { Status::skip() } else { Status::success() };
        (PreFilterResult::default(), status)
    }
}

impl FilterPlugin for NodePorts {
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Status {
        // A pod on the host's network asks the kernel for the port like any process.
        let is_mapped = cycle.pod.pod.spec.as_ref().is_none_or(|spec| spec.host_network != Some(true));
        let meets_node = is_mapped && conflict(&cycle.pod.ports, &node.own_ports);
        match meets_node || conflict(&cycle.pod.ports, &node.ports) {
            true => Status::unschedulable("node(s) didn't have free ports for the requested pod ports"),
            false => Status::success(),
        }
    }
}

pub(super) fn conflict(wanted: &[HostPort], taken: &[HostPort]) -> bool {
    wanted.iter().any(|port| taken.iter().any(|own| own.conflicts(port)))
}
