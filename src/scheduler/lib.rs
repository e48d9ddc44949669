//! The scheduler: gives each pod that asks for it (`spec.schedulerName: default-scheduler`) a node, through `pods/binding`.
//!
//! Informers' handlers keep the state (`cache`, `queue`) current; one task takes pods off the queue, finds a node
//! (`place`: filters, then scores), assumes the pod there and goes on, while bindings are written concurrently. Nothing is polled and no
//! step looks at all pods. It meets the rest of the cluster only through the API, so that upstream's kube-scheduler can take its
//! place. Absent: preemption, volume binding, dynamic resources, profiles other than the default.

use std::sync::Arc;

use api::{ApiError, CreateOptions, Kinded, Patch, UpdateOptions};
use client::events::{EventType, Recorder, reference_to};
use client::{Informer, Informers, ObjectApi, ObjectRef};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use supervisor::{OnExit, Stage};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use cache::Cache;
use filter::{Plugin, Plugins};
use place::Unfit;
use pod::PodInfo;
use queue::Queue;

mod cache;
mod counters;
mod filter;
mod message;
mod node;
mod place;
mod pod;
mod profile;
mod queue;
mod resources;
mod score;
mod watch;

#[cfg(test)]
mod testing;

/// Bindings and status updates under way at once.
const CONCURRENT_WRITES: usize = 256;

pub(crate) struct State {
    pub(crate) cache: Cache,
    pub(crate) queue: Queue,
    /// Where the search for nodes begins.
    start: usize,
}

pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// Something was queued.
    pub(crate) wake: Notify,
    api: Arc<dyn ObjectApi>,
    recorder: Recorder,
}

/// What became of one attempt.
enum Attempt {
    Placed { pod: Arc<PodInfo>, node: String },
    Unfit { pod: Arc<PodInfo>, unfit: Unfit },
}

/// Starts scheduling in tasks of `stage`. `api` is bound to `system:kube-scheduler`; reads go through `informers`.
pub fn start(api: Arc<dyn ObjectApi>, informers: Informers, stage: &Stage) {
    let recorder = Recorder::new(api.clone(), stage, api::pod::DEFAULT_SCHEDULER, None);
    let state = State { cache: Cache::default(), queue: Queue::default(), start: 0 };
    let shared = Arc::new(Shared { state: Mutex::new(state), wake: Notify::new(), api, recorder });
    let nodes: Informer<Node> = informers.of();
    let pods: Informer<Pod> = informers.of();
    let namespaces: Informer<Namespace> = informers.of();
    let siblings = watch::Siblings { services: informers.of(), replica_sets: informers.of() };
    let (services, sets) = (siblings.services.clone(), siblings.replica_sets.clone());
    let handler = shared.clone();
    namespaces.on_object_change(move |change| {
        let labels = change.new.as_ref().map(|namespace| namespace.labels().clone());
        handler.state.lock().cache.counters.namespace_changed(change.latest().name(), labels);
    });
    let handler = shared.clone();
    nodes.on_change(move |change| handler.node_changed(change));
    let handler = shared.clone();
    pods.on_change(move |change| handler.pod_changed(&siblings, change));
    let stage_of_tasks = stage.clone();
    stage.spawn_cancellable("scheduler", OnExit::Stop, async move {
        namespaces.synced().await;
        nodes.synced().await;
        pods.synced().await;
        services.synced().await;
        sets.synced().await;
        shared.run(&stage_of_tasks).await;
    });
}

impl Shared {
    async fn run(self: Arc<Self>, stage: &Stage) {
        let writes = Arc::new(Semaphore::new(CONCURRENT_WRITES));
        loop {
            // The semaphore is never closed.
            let Ok(permit) = writes.clone().acquire_owned().await else { return };
            match self.next().await {
                Attempt::Placed { pod, node } => {
                    let this = self.clone();
                    stage.spawn_cancellable("bind", OnExit::Done, async move {
                        this.bind(pod, node, permit).await
                    });
                }
                Attempt::Unfit { pod, unfit } => {
                    let this = self.clone();
                    let report = async move { this.report(pod, unfit, permit).await };
                    stage.spawn_cancellable("report", OnExit::Done, report);
                }
            }
        }
    }

    /// Tries the next pod, as soon as there is one.
    async fn next(&self) -> Attempt {
        loop {
            let woken = self.wake.notified();
            let deadline = {
                let mut state = self.state.lock();
                if let Some(attempt) = state.attempt() {
                    return attempt;
                }
                state.queue.deadline()
            };
            match deadline {
                Some(deadline) => {
                    tokio::select! {
                        () = woken => {}
                        () = tokio::time::sleep_until(deadline) => {}
                    }
                }
                None => woken.await,
            }
        }
    }

    async fn bind(&self, pod: Arc<PodInfo>, node: String, permit: OwnedSemaphorePermit) {
        let (namespace, name) = (&pod.key.0, &pod.key.1);
        let body = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": namespace, "name": name, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let at = ObjectRef::new(Some(namespace), name).sub("binding");
        let outcome = self.api.create_sub(Pod::row(), at, body, &CreateOptions::default()).await;
        drop(permit);
        match outcome {
            Ok(_) => {
                self.state.lock().queue.remove(&pod.key);
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                let regarding = reference_to(&*pod.pod);
                self.recorder.event_with_action(
                    &regarding,
                    EventType::Normal,
                    "Scheduled",
                    "Binding",
                    message,
                );
            }
            Err(error) => self.unbind(&pod, &error),
        }
    }

    /// The binding failed: the pod is not where it was assumed to be.
    fn unbind(&self, pod: &PodInfo, error: &ApiError) {
        tracing::debug!(namespace = %pod.key.0, pod = %pod.key.1, %error, "binding failed");
        let now = Instant::now();
        let mut state = self.state.lock();
        if !state.cache.forget(&pod.key, &pod.uid) {
            return;
        }
        if error.is_not_found() || error.is_conflict() {
            // Gone, or bound by someone else: the informer tells the rest.
            state.queue.remove(&pod.key);
        } else {
            state.queue.failed(&pod.key, now);
            let regarding = reference_to(&*pod.pod);
            let message = format!("running Bind plugin \"DefaultBinder\": {error}");
            self.recorder.event_with_action(
                &regarding,
                EventType::Warning,
                "FailedScheduling",
                "Scheduling",
                message,
            );
        }
        let freed = [
            Plugin::NodeResourcesFit,
            Plugin::NodePorts,
            Plugin::PodTopologySpread,
            Plugin::InterPodAffinity,
        ];
        state.queue.wake(Plugins::of(&freed), now, |_| true);
        drop(state);
        self.wake.notify_one();
    }

    /// Tells why the pod fits nowhere: an event, and its PodScheduled condition.
    async fn report(&self, pod: Arc<PodInfo>, unfit: Unfit, permit: OwnedSemaphorePermit) {
        let never = pod.pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never");
        let message = message::unschedulable(&unfit, never);
        let regarding = reference_to(&*pod.pod);
        self.recorder.event_with_action(
            &regarding,
            EventType::Warning,
            "FailedScheduling",
            "Scheduling",
            message.clone(),
        );
        let mut conditions =
            pod.pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let condition = PodCondition {
            type_: api::pod::SCHEDULED.to_string(),
            status: "False".to_string(),
            reason: Some("Unschedulable".to_string()),
            message: Some(message),
            observed_generation: pod.pod.metadata.generation,
            ..PodCondition::default()
        };
        if !api::pod::set_condition(&mut conditions, condition, Timestamp::now()) {
            return;
        }
        let changed = conditions.into_iter().find(|condition| condition.type_ == api::pod::SCHEDULED);
        let body = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [changed]}});
        let at = ObjectRef::new(Some(&pod.key.0), &pod.key.1).sub("status");
        let outcome = self.api.patch(Pod::row(), at, Patch::strategic(body), &UpdateOptions::default()).await;
        drop(permit);
        if let Err(error) = outcome {
            tracing::debug!(namespace = %pod.key.0, pod = %pod.key.1, %error, "condition could not be written");
        }
    }
}

impl State {
    /// Places the next pod of the queue.
    fn attempt(&mut self) -> Option<Attempt> {
        let now = Instant::now();
        let pod = self.queue.pop(now)?;
        let pick = |below| rand::random_range(0..below);
        match place::place(&mut self.cache, &pod, &mut self.start, pick) {
            Ok(index) => {
                let node = self.cache.nodes[index as usize].name.clone();
                self.cache.assume(pod.clone(), index);
                Some(Attempt::Placed { pod, node })
            }
            Err(unfit) => {
                self.queue.unschedulable(&pod.key, unfit.plugins, now);
                Some(Attempt::Unfit { pod, unfit })
            }
        }
    }
}
