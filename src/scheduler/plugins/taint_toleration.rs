//! TaintToleration: every NoSchedule and NoExecute taint must be tolerated; the fewer PreferNoSchedule taints
//! are not, the better.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Toleration;

use crate::framework::{
    Actions, Cycle, EventToRegister, FilterPlugin, Plugin, Points, QueueingHint, Resource, ScorePlugin,
    Status, default_normalize_score,
};
use crate::node::NodeInfo;

pub(super) const NAME: &str = "TaintToleration";

#[derive(Default)]
pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.filter(self.clone()).score(self);
    }

    fn events_to_register(&self) -> Vec<EventToRegister> {
        let actions = Actions::ADD | Actions::UPDATE_NODE_TAINT;
        vec![EventToRegister::hinted(Resource::Node, actions, |pod, happening| {
            QueueingHint::when(
                happening.new_node.is_some_and(|node| tolerated(&pod.requirements.tolerations, node)),
            )
        })]
    }
}

fn tolerated(tolerations: &[Toleration], node: &NodeInfo) -> bool {
    let effects = [api::taints::NO_SCHEDULE, api::taints::NO_EXECUTE];
    api::taints::first_untolerated(&node.taints, tolerations, &effects).is_none()
}

impl FilterPlugin for TaintToleration {
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Status {
        match tolerated(&cycle.pod.requirements.tolerations, node) {
            true => Status::success(),
            false => Status::unresolvable("node(s) had untolerated taint(s)"),
        }
    }

    fn only_node(&self) -> bool {
        true
    }
}

impl ScorePlugin for TaintToleration {
    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<i64, Status> {
        let mut count = 0;
        for taint in node.taints.iter().filter(|taint| taint.effect == api::taints::PREFER_NO_SCHEDULE) {
            count += i64::from(!api::taints::tolerated(&cycle.pod.requirements.tolerations, taint));
        }
        Ok(count)
    }

    fn normalize_score(&self, _: &Cycle<'_>, scores: &mut [i64]) -> Status {
        default_normalize_score(scores, true);
        Status::success()
    }

    fn only_node(&self) -> bool {
        true
    }
}
