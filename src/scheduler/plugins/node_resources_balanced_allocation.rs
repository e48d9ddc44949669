//! NodeResourcesBalancedAllocation: CPU and memory should be used to the same degree.

use std::sync::Arc;

use crate::framework::{Cycle, MAX_NODE_SCORE, Plugin, Points, PreScorePlugin, ScorePlugin, Status};
use crate::node::NodeInfo;
use crate::resources::Resources;

pub(super) const NAME: &str = "NodeResourcesBalancedAllocation";

#[derive(Default)]
pub(super) struct BalancedAllocation;

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.pre_score(self.clone()).score(self);
    }
}

impl PreScorePlugin for BalancedAllocation {
    fn pre_score(&self, cycle: &mut Cycle<'_>, _: &[u32]) -> Status {
        let requests = &cycle.pod.requests;
        if requests.milli_cpu > 0 || requests.memory > 0 { Status::success() } else { Status::skip() }
    }
}

impl ScorePlugin for BalancedAllocation {
    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<i64, Status> {
        Ok(balance(&cycle.pod.requests, &node.requested, &node.allocatable))
    }
}

fn balance(pod: &Resources, requested: &Resources, allocatable: &Resources) -> i64 {
    let share = |wanted: i64, all: i64| if all == 0 { 0.0 } else { (wanted as f64 / all as f64).min(1.0) };
    let cpu = share(requested.milli_cpu + pod.milli_cpu, allocatable.milli_cpu);
    let memory = share(requested.memory + pod.memory, allocatable.memory);
    // The standard deviation of two values.
    let deviation = (cpu - memory).abs() / 2.0;
    ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
}
