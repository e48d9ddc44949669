//! NodeName: `spec.nodeName` confines to one node.

use std::sync::Arc;

use crate::framework::{Actions, Cycle, EventToRegister, FilterPlugin, Plugin, Points, Resource, Status};
use crate::node::NodeInfo;

pub(super) const NAME: &str = "NodeName";

#[derive(Default)]
pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.filter(self);
    }

    fn events_to_register(&self) -> Vec<EventToRegister> {
        vec![EventToRegister::always(Resource::Node, Actions::ADD)]
    }
}

impl FilterPlugin for NodeName {
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Status {
        match &cycle.pod.requirements.node_name {
            Some(wanted) if *wanted != node.name => {
                Status::unresolvable("node(s) didn't match the requested node name")
            }
            _ => Status::success(),
        }
    }

    fn only_node(&self) -> bool {
        true
    }
}
