//! NodeUnschedulable: a cordoned node takes only pods that tolerate its taint.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::framework::{
    Actions, Cycle, EventToRegister, FilterPlugin, Plugin, Points, QueueingHint, Resource, Status,
};
use crate::node::NodeInfo;

pub(super) const NAME: &str = "NodeUnschedulable";

#[derive(Default)]
pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.filter(self);
    }

    fn events_to_register(&self) -> Vec<EventToRegister> {
        let actions = Actions::ADD | Actions::UPDATE_NODE_TAINT;
        vec![EventToRegister::hinted(Resource::Node, actions, |pod, happening| {
            QueueingHint::when(
                happening.new_node.is_some_and(|node| borne(&pod.requirements.tolerations, node)),
            )
        })]
    }
}

impl FilterPlugin for NodeUnschedulable {
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Status {
        if borne(&cycle.pod.requirements.tolerations, node) {
            return Status::success();
        }
        Status::unresolvable("node(s) were unschedulable")
    }

    fn only_node(&self) -> bool {
        true
    }
}

/// The node takes pods, or at least those with these tolerations.
pub(crate) fn borne(tolerations: &[Toleration], node: &NodeInfo) -> bool {
    let taint = || Taint {
        key: api::taints::UNSCHEDULABLE.to_string(),
        effect: api::taints::NO_SCHEDULE.to_string(),
        ..Taint::default()
    };
    !node.unschedulable || api::taints::tolerated(tolerations, &taint())
}
