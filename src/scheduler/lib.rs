//! The scheduler: gives each pod that asks for it (`spec.schedulerName` names one of its profiles) a node,
//! through `pods/binding`.
//!
//! Informers' handlers keep the state (`cache`, `queue`) current; one task takes pods off the queue, finds a
//! node (`place`: what plugins of the [`framework`] say), assumes the pod there and goes on, while bindings
//! are written concurrently (`binding`). Nothing is polled and no step looks at all pods. It meets the rest
//! of the cluster only through the API, so that upstream's kube-scheduler can take its place. Absent: dynamic
//! resources, disruption budgets, extenders, limits and capacities of CSI drivers.

use std::sync::Arc;

use client::{Informer, Informers, ObjectApi};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use parking_lot::Mutex;
use supervisor::{OnExit, Stage};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use binding::Binding;
use cache::Cache;
use framework::{Config, ConfigError, Nominating, Profile, Profiles, WaitingPods};
use place::{Found, NotFound};
use pod::PodInfo;
use queue::Queue;
use report::{Failure, Reason};
use storage::Storage;

mod binding;
mod cache;
mod counters;
mod equivalence;
pub mod framework;
mod node;
mod place;
mod plugins;
mod pod;
mod queue;
mod report;
mod resources;
mod storage;
mod watch;
mod weight;

#[cfg(test)]
mod testing;

/// Bindings and status updates under way at once.
const CONCURRENT_WRITES: usize = 256;

#[derive(Default)]
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
    pub(crate) profiles: Profiles,
    pub(crate) waiting: Arc<WaitingPods>,
    pub(crate) storage: Arc<Storage>,
}

/// What became of one attempt.
enum Attempt {
    Placed(Binding),
    Failed(Failure),
}

/// Starts scheduling in tasks of `stage`. `api` is bound to `system:kube-scheduler`; reads go through
/// `informers`.
pub fn start(
    config: &Config,
    api: &Arc<dyn ObjectApi>,
    informers: &Informers,
    stage: &Stage,
) -> Result<(), ConfigError> {
    let waiting: Arc<WaitingPods> = Arc::default();
    let storage: Arc<Storage> = Arc::default();
    let profiles = Profiles::new(config, api, &waiting, &storage, stage)?;
    let shared =
        Arc::new(Shared { state: Mutex::default(), wake: Notify::new(), profiles, waiting, storage });
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
    let storage_synced = shared.follow_storage(informers);
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
        storage_synced.await;
        shared.run(&stage_of_tasks).await;
    });
    Ok(())
}

impl Shared {
    async fn run(self: Arc<Self>, stage: &Stage) {
        let writes = Arc::new(Semaphore::new(CONCURRENT_WRITES));
        loop {
            // The semaphore is never closed.
            let Ok(permit) = writes.clone().acquire_owned().await else { return };
            match self.next().await {
                Attempt::Placed(binding) => {
                    let (this, writes) = (self.clone(), writes.clone());
                    stage.spawn_cancellable("bind", OnExit::Done, async move {
                        this.bind(binding, &writes, permit).await;
                    });
                }
                Attempt::Failed(failure) => {
                    stage.spawn_cancellable("report", OnExit::Done, async move {
                        failure.report().await;
                        drop(permit);
                    });
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
                if let Some(attempt) = state.attempt(&self.waiting) {
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
}

impl State {
    /// The scheduling cycle of the next pod of the queue.
    fn attempt(&mut self, waiting: &WaitingPods) -> Option<Attempt> {
        loop {
            let (pod, profile) = self.queue.pop(Instant::now())?;
            let pick = |below| rand::random_range(0..below);
            let attempt = match place::place(&profile, &mut self.cache, &pod, &mut self.start, pick) {
                Ok(found) => self.reserve(pod, profile, found, waiting),
                Err(not_found) => self.unfit(pod, profile, not_found),
            };
            if attempt.is_some() {
                return attempt;
            }
        }
    }

    /// Assumes the pod on its node and asks Reserve and Permit.
    fn reserve(
        &mut self,
        pod: Arc<PodInfo>,
        profile: Arc<Profile>,
        found: Found,
        waiting: &WaitingPods,
    ) -> Option<Attempt> {
        let Found { node: index, mut state } = found;
        let node = self.cache.nodes[index as usize].name.clone();
        self.cache.assume(pod.clone(), index);
        let mut status = profile.run_reserve(&mut state, &pod, &node);
        let mut times = Vec::new();
        if status.is_success() {
            (status, times) = profile.run_permit(&state, &pod, &node);
        }
        if !status.is_success() && !status.is_wait() {
            profile.run_unreserve(&state, &pod, &node);
            self.cache.forget(&pod.key, &pod.uid);
            return self.came_back(&pod, &profile, &status, Instant::now()).map(Attempt::Failed);
        }
        let waiting = status.is_wait().then(|| waiting.add(pod.clone(), &node, times));
        Some(Attempt::Placed(Binding { pod, profile, node, state, waiting }))
    }

    /// No node will do: perhaps a PostFilter plugin can change that.
    fn unfit(&mut self, pod: Arc<PodInfo>, profile: Arc<Profile>, not_found: NotFound) -> Option<Attempt> {
        let now = Instant::now();
        let (state, mut diagnosis) = match not_found {
            NotFound::Unfit(unfit) => *unfit,
            NotFound::Error(status) => {
                return self.came_back(&pod, &profile, &status, now).map(Attempt::Failed);
            }
        };
        let mut cycle = framework::Cycle { pod: &pod, state, cache: &mut self.cache };
        let (result, status) = match diagnosis.nodes {
            0 => Default::default(),
            _ => profile.run_post_filter(&mut cycle, &diagnosis),
        };
        diagnosis.post_filter_said(&status);
        match &result.nominating {
            Nominating::Keep => {}
            Nominating::Clear => drop(self.cache.end_nomination(&pod.key)),
            Nominating::Node(node) => self.cache.nominate(&pod, node),
        }
        self.queue.unschedulable(&pod, diagnosis.rejectors, diagnosis.pending, now);
        Some(Attempt::Failed(Failure {
            message: diagnosis.message(),
            pod,
            profile,
            reason: Reason::Unschedulable,
            nominating: result.nominating,
            was_nominated: false,
            follow_up: result.follow_up,
        }))
    }
}
