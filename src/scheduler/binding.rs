//! The binding cycle of one pod: wait for Permit, PreBind, Bind, PostBind, and the way back when one of them
//! fails.
//!
//! Many run at once, beside the scheduling cycle; the pod is assumed on its node meanwhile.

use std::sync::Arc;

use client::events::{EventType, reference_to};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::Shared;
use crate::framework::{
    Actions, CycleState, Diagnosis, Nominating, ObservedEvent, Profile, Status, WaitingPod,
};
use crate::pod::PodInfo;
use crate::report::{Failure, Reason, patch_status};

/// A pod that has got a node.
pub(crate) struct Binding {
    pub(crate) pod: Arc<PodInfo>,
    pub(crate) profile: Arc<Profile>,
    pub(crate) node: String,
    pub(crate) state: CycleState,
    /// Some Permit plugin wants it to wait.
    pub(crate) waiting: Option<Arc<WaitingPod>>,
}

impl Shared {
    /// `permit` is one of `writes`.
    pub(crate) async fn bind(
        &self,
        mut binding: Binding,
        writes: &Arc<Semaphore>,
        permit: OwnedSemaphorePermit,
    ) {
        let mut nominated = false;
        let status = self.run_binding(&mut binding, &mut nominated, writes, permit).await;
        let Binding { pod, profile, node, state, .. } = &binding;
        if !status.is_success() {
            return self.binding_failed(&binding, nominated, &status).await;
        }
        self.state.lock().queue.remove(&pod.key);
        let (namespace, name) = (&pod.key.0, &pod.key.1);
        let message = format!("Successfully assigned {namespace}/{name} to {node}");
        let (regarding, kind) = (reference_to(&*pod.pod), EventType::Normal);
        profile.handle.recorder.event_with_action(&regarding, kind, "Scheduled", "Binding", message);
        profile.run_post_bind(state, pod, node);
    }

    async fn run_binding(
        &self,
        binding: &mut Binding,
        nominated: &mut bool,
        writes: &Arc<Semaphore>,
        permit: OwnedSemaphorePermit,
    ) -> Status {
        let Binding { pod, profile, node, state, waiting } = binding;
        let work = profile.run_pre_bind_pre_flights(state, pod, node);
        if work.is_error() {
            return work;
        }
        if work.is_success() || waiting.is_some() {
            // Others should know where the pod is going to be while that takes its time.
            *nominated = true;
            patch_status(&*profile.handle.api, pod, json!({ "nominatedNodeName": node })).await;
        }
        // What takes its time may take long: others may write meanwhile.
        let mut permit = Some(permit).filter(|_| waiting.is_none() && !work.is_success());
        if let Some(waiting) = waiting.take() {
            let status = self.waiting.decided(&waiting).await;
            if !status.is_success() {
                return status;
            }
        }
        let status = profile.run_pre_bind(state, pod, node).await;
        if !status.is_success() {
            return status;
        }
        if permit.is_none() {
            // The semaphore is never closed.
            permit = writes.clone().acquire_owned().await.ok();
        }
        let status = profile.run_bind(state, pod, node).await;
        drop(permit);
        status
    }

    /// The pod is not where it was assumed to be.
    async fn binding_failed(&self, binding: &Binding, nominated: bool, status: &Status) {
        let Binding { pod, profile, node, state, .. } = binding;
        tracing::debug!(namespace = %pod.key.0, pod = %pod.key.1, error = status.message(), "binding failed");
        profile.run_unreserve(state, pod, node);
        let failure = {
            let now = Instant::now();
            let mut state = self.state.lock();
            let state = &mut *state;
            if !state.cache.forget(&pod.key, &pod.uid) {
                return;
            }
            let failure = if status.pod_is_gone() {
                // Or bound by someone else: the informer tells the rest.
                state.queue.remove(&pod.key);
                None
            } else {
                state.came_back(pod, profile, status, now)
            };
            // Last, so that the pod does not wake itself.
            let happening = ObservedEvent::to_pods(&state.cache, Actions::DELETE, Some(&pod.pod), None);
            state.queue.wake(&happening, now, |other| other.uid != pod.uid);
            failure
        };
        self.wake.notify_one();
        if let Some(failure) = failure {
            Failure { was_nominated: nominated, ..failure }.report().await;
        }
    }
}

impl crate::State {
    /// Puts a pod back into the queue that had a node but may not keep it. What is to be told, unless nobody
    /// waits for it any more.
    pub(crate) fn came_back(
        &mut self,
        pod: &Arc<PodInfo>,
        profile: &Arc<Profile>,
        status: &Status,
        now: Instant,
    ) -> Option<Failure> {
        self.cache.end_nomination(&pod.key);
        if !status.is_rejected() {
            let ours = self.queue.failed(pod, now);
            return ours.then(|| Failure::error(pod.clone(), profile.clone(), status));
        }
        let diagnosis = Diagnosis::of_one_node(profile.set_of(status), status);
        let ours = self.queue.unschedulable(pod, diagnosis.rejectors, diagnosis.pending, now);
        ours.then(|| Failure {
            pod: pod.clone(),
            profile: profile.clone(),
            reason: Reason::Unschedulable,
            message: diagnosis.message(),
            nominating: Nominating::Clear,
            was_nominated: false,
            follow_up: None,
        })
    }
}
