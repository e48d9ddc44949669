//! The scheduler: gives each pod that asks for it (`spec.schedulerName: default-scheduler`) a node, through `pods/binding`.
//!
//! Informers' handlers keep the state (`cache`, `queue`) current; one task takes pods off the queue, finds a node
//! (`place`: filters, then scores), assumes the pod there and goes on, while bindings are written concurrently. Nothing is polled and no
//! step looks at all pods. It meets the rest of the cluster only through the API, so that upstream's kube-scheduler can take its
//! place. Absent: volume binding, dynamic resources, disruption budgets, profiles other than the default.

use std::sync::Arc;

use api::{ApiError, CreateOptions, DeleteOptions, Kinded, Patch, Preconditions, UpdateOptions};
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
use message::Preemption;
use pod::PodInfo;
use preempt::Eviction;
use queue::Queue;

mod cache;
mod counters;
mod filter;
mod message;
mod node;
mod place;
mod pod;
mod preempt;
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
    Placed {
        pod: Arc<PodInfo>,
        node: String,
    },
    /// Told on the pod; perhaps others have to go for it.
    Unfit {
        pod: Arc<PodInfo>,
        message: String,
        eviction: Option<Eviction>,
    },
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
                Attempt::Unfit { pod, message, eviction } => {
                    let this = self.clone();
                    let report = async move {
                        this.report(&pod, message, eviction.as_ref().map(|eviction| eviction.node.as_str()))
                            .await;
                        if let Some(eviction) = eviction {
                            this.evict(&pod, eviction).await;
                        }
                        drop(permit);
                    };
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

    /// Tells why the pod fits nowhere: an event, its PodScheduled condition, and the node it is nominated to.
    async fn report(&self, pod: &PodInfo, message: String, nominated: Option<&str>) {
        let regarding = reference_to(&*pod.pod);
        let (kind, reason) = (EventType::Warning, "FailedScheduling");
        self.recorder.event_with_action(&regarding, kind, reason, "Scheduling", message.clone());
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
        let news = api::pod::set_condition(&mut conditions, condition, Timestamp::now());
        if !news && nominated.is_none() {
            return;
        }
        let changed = conditions.into_iter().find(|condition| condition.type_ == api::pod::SCHEDULED);
        let mut status = json!({ "conditions": [changed] });
        if let Some(nominated) = nominated {
            status["nominatedNodeName"] = json!(nominated);
        }
        self.patch_status(pod, status).await;
    }

    async fn patch_status(&self, pod: &PodInfo, status: serde_json::Value) {
        let body = json!({ "metadata": {"uid": pod.uid}, "status": status });
        let at = ObjectRef::new(Some(&pod.key.0), &pod.key.1).sub("status");
        let outcome = self.api.patch(Pod::row(), at, Patch::strategic(body), &UpdateOptions::default()).await;
        if let Err(error) = outcome {
            tracing::debug!(namespace = %pod.key.0, pod = %pod.key.1, %error, "status could not be written");
        }
    }

    /// Deletes the pods that have to go for another. One that cannot be deleted is left: the pod is tried again anyway.
    async fn evict(&self, pod: &PodInfo, eviction: Eviction) {
        for victim in eviction.victims.iter().filter(|victim| !victim.terminating) {
            let condition = json!({
                "type": api::pod::DISRUPTION_TARGET,
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": format!("{}: preempting to accommodate a higher priority pod", api::pod::DEFAULT_SCHEDULER),
                "lastTransitionTime": api::time::seconds(Timestamp::now()),
            });
            self.patch_status(victim, json!({ "conditions": [condition] })).await;
            let preconditions = Preconditions { uid: Some(victim.uid.clone()), ..Preconditions::default() };
            let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
            let at = ObjectRef::new(Some(&victim.key.0), &victim.key.1);
            match self.api.delete(Pod::row(), at, &options).await {
                Ok(_) => {
                    let message = format!("Preempted by pod {} on node {}", pod.uid, eviction.node);
                    let regarding = reference_to(&*victim.pod);
                    let kind = EventType::Normal;
                    self.recorder.event_with_action(&regarding, kind, "Preempted", "Preempting", message);
                }
                Err(error) => {
                    tracing::debug!(namespace = %victim.key.0, pod = %victim.key.1, %error, "eviction failed");
                }
            }
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
                let (outcome, eviction) = preempt::preempt(&mut self.cache, &pod, &unfit);
                if outcome == Preemption::Useless {
                    self.cache.end_nomination(&pod.key);
                }
                self.queue.unschedulable(&pod.key, unfit.plugins, now);
                let message = message::unschedulable(&unfit, outcome);
                Some(Attempt::Unfit { pod, message, eviction })
            }
        }
    }
}
