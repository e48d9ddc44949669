//! The extension points of the binding cycle: Reserve to PostBind.

use std::time::Duration;

use super::{Profile, failed};
use crate::framework::{Code, CycleState, Status};
use crate::pod::PodInfo;

/// The longest that a Permit plugin can make a pod wait.
const LONGEST_PERMIT: Duration = Duration::from_secs(15 * 60);

impl Profile {
    pub(crate) fn run_reserve(&self, state: &mut CycleState, pod: &PodInfo, node: &str) -> Status {
        for slot in &self.points.reserve {
            let status = slot.plugin.reserve(state, pod, node);
            if !status.is_success() {
                return failed(status, "running Reserve plugin", slot.name);
            }
        }
        Status::success()
    }

    pub(crate) fn run_unreserve(&self, state: &CycleState, pod: &PodInfo, node: &str) {
        for slot in self.points.reserve.iter().rev() {
            slot.plugin.unreserve(state, pod, node);
        }
    }

    /// Success, or `Wait` with the plugins that want it and how long.
    pub(crate) fn run_permit(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        node: &str,
    ) -> (Status, Vec<(&'static str, Duration)>) {
        let mut times = Vec::new();
        for slot in &self.points.permit {
            let (status, time) = slot.plugin.permit(state, pod, node);
            if status.is_wait() {
                times.push((slot.name, time.min(LONGEST_PERMIT)));
            } else if !status.is_success() {
                return (failed(status, "running Permit plugin", slot.name), Vec::new());
            }
        }
        if times.is_empty() { (Status::success(), times) } else { (Status::wait(), times) }
    }

    /// Success if some PreBind plugin has work for this pod, `Skip` if none has.
    pub(crate) fn run_pre_bind_pre_flights(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        node: &str,
    ) -> Status {
        let mut answer = Status::skip();
        for slot in &self.points.pre_bind {
            let status = slot.plugin.pre_bind_pre_flight(state, pod, node);
            match status.code() {
                Code::Success => answer = Status::success(),
                Code::Skip => state.skip_pre_bind.insert(slot.id),
                _ => return status.while_doing(format!("running PreBindPreFlight {:?}", slot.name)),
            }
        }
        answer
    }

    pub(crate) async fn run_pre_bind(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Status {
        for slot in &self.points.pre_bind {
            if state.skip_pre_bind.contains(slot.id) {
                continue;
            }
            let status = slot.plugin.pre_bind(state, pod, node).await;
            if !status.is_success() {
                return failed(status, "running PreBind plugin", slot.name);
            }
        }
        Status::success()
    }

    pub(crate) async fn run_bind(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Status {
        for slot in &self.points.bind {
            let status = slot.plugin.bind(state, pod, node).await;
            if status.is_skip() {
                continue;
            }
            if status.is_success() {
                return status;
            }
            return failed(status, "running Bind plugin", slot.name);
        }
        Status::error("all Bind plugins skipped the pod")
    }

    pub(crate) fn run_post_bind(&self, state: &CycleState, pod: &PodInfo, node: &str) {
        for slot in &self.points.post_bind {
            slot.plugin.post_bind(state, pod, node);
        }
    }
}
