//! NodeAffinity: `nodeSelector` and required node affinity; preferred terms that match add their weights.

use std::sync::Arc;

use crate::framework::{
    Actions, Cycle, EventToRegister, FilterPlugin, Plugin, Points, PreFilterPlugin, PreFilterResult,
    PreScorePlugin, QueueingHint, Resource, ScorePlugin, Status, default_normalize_score,
};
use crate::node::NodeInfo;

pub(super) const NAME: &str = "NodeAffinity";

#[derive(Default)]
pub(super) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.pre_filter(self.clone()).filter(self.clone()).pre_score(self.clone()).score(self);
    }

    fn events_to_register(&self) -> Vec<EventToRegister> {
        let actions = Actions::ADD | Actions::UPDATE_NODE_LABEL;
        vec![EventToRegister::hinted(Resource::Node, actions, |pod, happening| {
            let matches = |node: &NodeInfo| pod.requirements.required.matches(&node.name, &node.labels);
            QueueingHint::when(happening.new_node.is_some_and(matches))
        })]
    }
}

impl PreFilterPlugin for NodeAffinity {
    /// Daemon pods name their node: there is no need to look at the others.
    fn pre_filter(&self, cycle: &mut Cycle<'_>) -> (PreFilterResult, Status) {
        let required = &cycle.pod.requirements.required;
        if required.is_empty() {
            return (PreFilterResult::default(), Status::skip());
        }
        let names = required.names().filter(|names| !names.is_empty());
        let node_names = names.map(|names| names.into_iter().map(str::to_string).collect());
        (PreFilterResult { node_names }, Status::success())
    }
}

impl FilterPlugin for NodeAffinity {
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Status {
        if cycle.pod.requirements.required.matches(&node.name, &node.labels) {
            return Status::success();
        }
        Status::unresolvable("node(s) didn't match Pod's node affinity/selector")
    }

    fn only_node(&self) -> bool {
        true
    }
}

impl PreScorePlugin for NodeAffinity {
    fn pre_score(&self, cycle: &mut Cycle<'_>, _: &[u32]) -> Status {
        if cycle.pod.requirements.preferred.is_empty() { Status::skip() } else { Status::success() }
    }
}

impl ScorePlugin for NodeAffinity {
    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<i64, Status> {
        Ok(cycle.pod.requirements.preferred.weight(&node.name, &node.labels))
    }

    fn normalize_score(&self, _: &Cycle<'_>, scores: &mut [i64]) -> Status {
        default_normalize_score(scores, false);
        Status::success()
    }

    fn only_node(&self) -> bool {
        true
    }
}
