//! SchedulingGates: a pod with gates is not queued.

use std::sync::Arc;

use crate::framework::{Actions, EventToRegister, Plugin, Points, PreEnqueuePlugin, Resource, Status};
use crate::pod::PodInfo;

pub(super) const NAME: &str = "SchedulingGates";

#[derive(Default)]
pub(super) struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.pre_enqueue(self);
    }

    fn events_to_register(&self) -> Vec<EventToRegister> {
        // A change of the pod itself is looked at anyway.
        let gone = Actions::UPDATE_POD_SCHEDULING_GATES_ELIMINATED;
        vec![EventToRegister::always(Resource::UnscheduledPod, gone)]
    }
}

impl PreEnqueuePlugin for SchedulingGates {
    fn pre_enqueue(&self, pod: &PodInfo) -> Status {
        let gates =
            pod.pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_deref()).unwrap_or_default();
        if gates.is_empty() {
            return Status::success();
        }
        let names: Vec<&str> = gates.iter().map(|gate| gate.name.as_str()).collect();
        Status::unresolvable(format!("waiting for scheduling gates: [{}]", names.join(" ")))
    }
}
