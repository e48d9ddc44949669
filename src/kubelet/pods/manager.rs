//! From the API and the runtime to workers: every pod bound to this node gets one, as does every pod that
//! only the runtime still knows.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::{FieldSelector, LabelSelector};
use client::events::Recorder;
use client::{BoxFuture, Informer};
use k8s_openapi::api::core::v1::Pod;
use supervisor::{Latch, OnExit, Stage};
use tokio::sync::Notify;

use super::statics::{NodePods, StaticPods, Workers};
use super::worker::{Worker, WorkerDeps};
use crate::cgroups::Driver;
use crate::files;
use crate::runtime::events::{self, ContainerEvent};
use crate::runtime::labels;
use crate::spec::{PodExt, amount, is_mirror};
use crate::wake::{Mail, Mailbox, WakeReason};

/// Pods bound to a node.
pub(crate) fn pods_of(informers: &client::Informers, node: &str) -> Informer<Pod> {
    informers.selected::<Pod>(None, LabelSelector::everything(), FieldSelector::equals("spec.nodeName", node))
}

/// What workers are started and cleaned up with.
#[derive(Clone)]
pub(crate) struct PodManager {
    pub(crate) deps: Arc<WorkerDeps>,
    pub(crate) stage: Stage,
    /// Opens when sandboxes can be made.
    pub(crate) sandbox_image: Latch,
    pub(crate) pods: NodePods,
    pub(crate) static_pods: Option<StaticSettings>,
}

/// Where static pods come from.
#[derive(Clone)]
pub(crate) struct StaticSettings {
    pub(crate) directory: PathBuf,
    pub(crate) recorder: Recorder,
}

/// Runs workers for ever.
pub(crate) async fn run(manager: PodManager) {
    let pods = manager.pods.informer.clone();
    spawn_events(&manager);
    // Without the services a container would lack variables; without the node nobody knows whether pods may
    // run.
    manager.deps.launcher.inputs.services.synced().await;
    wait_for_node(&manager.deps).await;
    manager.sandbox_image.wait().await;
    make_parents(&manager.deps).await;
    let mirrors = run_static_pods(&manager).await;
    let shared = manager.clone();
    pods.on_change(move |change| {
        if is_mirror(change.latest()) {
            mirrors.notify_one();
            return;
        }
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && old.uid() != new.uid()
        {
            gone(&shared, old.uid());
        }
        match &change.new {
            Some(pod) => present(&shared, pod),
            None => gone(&shared, change.latest().uid()),
        }
    });
    pods.synced().await;
    adopt_orphans(&manager, &pods).await;
    collect_for_ever(manager, pods).await;
}

/// Starts the static pods that there are manifests for; what is given back is to be told of mirrors that
/// change.
async fn run_static_pods(manager: &PodManager) -> Arc<Notify> {
    let changed = Arc::new(Notify::new());
    let Some(settings) = manager.static_pods.clone() else { return changed };
    let statics = StaticPods {
        directory: settings.directory,
        node: manager.deps.admission.node.clone(),
        api: manager.deps.api.clone(),
        pods: manager.pods.clone(),
        recorder: settings.recorder,
        workers: Box::new(manager.clone()),
        changed: changed.clone(),
    };
    let read = Latch::new("static pods");
    manager.stage.spawn_cancellable("static pods", OnExit::Stop, statics.run(read.clone()));
    // Whoever looks for what was left behind must know them.
    read.wait().await;
    changed
}

impl Workers for PodManager {
    fn begin(&self, pod: Arc<Pod>) {
        present(self, &pod);
    }

    fn end(&self, uid: &str) {
        gone(self, uid);
    }

    fn ended<'a>(&'a self, uid: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(self.deps.wakers.ended(uid))
    }

    fn wake(&self, uid: &str, reason: WakeReason) {
        self.deps.wakers.wake(uid, reason);
    }
}

/// The cgroups that pods are put below, made as the runtime makes its own.
async fn make_parents(deps: &WorkerDeps) {
    let driver = deps.runtime.cgroup_driver().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the runtime does not tell its cgroup driver; cgroupfs is assumed");
        Driver::Cgroupfs
    });
    let cgroups = &deps.launcher.cgroups;
    cgroups.use_driver(driver);
    let milli_cpus = amount::milli_cpu(Some(&deps.admission.allocatable)).unwrap_or(0);
    if let Err(error) = cgroups.ensure_parents(milli_cpus).await {
        tracing::warn!(%error, "the pods' cgroup cannot be made");
    }
}

async fn wait_for_node(deps: &WorkerDeps) {
    let mut node = deps.admission.node.clone();
    if node.wait_for(Option::is_some).await.is_err() {
        // The sender is gone because the node is being stopped, and this task with it.
        std::future::pending().await
    }
}

fn present(manager: &PodManager, pod: &Arc<Pod>) {
    match manager.deps.wakers.get(pod.uid()) {
        Some(mailbox) => mailbox.update(WakeReason::Pod, |mail| mail.pod = Some(pod.clone())),
        None => begin(manager, pod.uid(), Mail { pod: Some(pod.clone()), ..Mail::default() }),
    }
}

fn gone(manager: &PodManager, uid: &str) {
    if let Some(mailbox) = manager.deps.wakers.get(uid) {
        mailbox.update(WakeReason::Pod, |mail| mail.gone = true);
    }
}

fn begin(manager: &PodManager, uid: &str, mail: Mail) {
    let mailbox = Arc::new(Mailbox::new(mail));
    manager.deps.wakers.insert(uid, mailbox.clone());
    let worker = Worker::new(manager.deps.clone(), uid.to_string(), mailbox);
    manager.stage.spawn_cancellable("pod worker", OnExit::Done, worker.run());
}

/// Wakes the worker whose container an event is about.
fn spawn_events(manager: &PodManager) {
    let deps = manager.deps.clone();
    let follow = async move { events::follow(&*deps.runtime, |event| deliver(&deps, event)).await };
    manager.stage.spawn_cancellable("container events", OnExit::Stop, follow);
    let deps = manager.deps.clone();
    let relist = async move {
        let instance = &deps.launcher.settings.instance_label;
        events::relist(&*deps.runtime, instance, |event| deliver(&deps, event)).await;
    };
    manager.stage.spawn_cancellable("container relist", OnExit::Stop, relist);
    let deps = manager.deps.clone();
    let mut clock = manager.stage.clock();
    let look_again = async move {
        loop {
            // Deadlines, back-off and the lives of tokens are times of day.
            clock.was_set().await;
            deps.wakers.wake_all(WakeReason::Clock);
        }
    };
    manager.stage.spawn_cancellable("pods after the clock was set", OnExit::Stop, look_again);
}

fn deliver(deps: &WorkerDeps, event: ContainerEvent) {
    let owner = |container: &str| {
        let uid = deps.launcher.owners.of(container)?;
        deps.wakers.get(&uid)
    };
    match event {
        // The worker that started it looks at it anyway, and no worker waits for a start of others.
        ContainerEvent::Started { container } => drop(container),
        ContainerEvent::Exited { container } => {
            if let Some(mailbox) = owner(&container) {
                mailbox.update(WakeReason::ContainerEnded, |mail| {
                    mail.exited.insert(container);
                });
            }
        }
        ContainerEvent::OutOfMemory { container } => {
            if let Some(mailbox) = owner(&container) {
                mailbox.update(WakeReason::ContainerEnded, |mail| {
                    mail.out_of_memory.insert(container);
                });
            }
        }
        ContainerEvent::Resumed => deps.wakers.wake_all(WakeReason::Runtime),
        ContainerEvent::PodChanged { uid } => deps.wakers.wake(&uid, WakeReason::Relist),
    }
}

/// Pods that the runtime has and the API has not: they end, and what they left goes.
async fn adopt_orphans(manager: &PodManager, pods: &Informer<Pod>) {
    let deps = &manager.deps;
    let known: HashSet<String> = pods.list(None).iter().map(|pod| pod.uid().to_string()).collect();
    let instance = deps.launcher.settings.instance_label.clone();
    let mine: HashMap<String, String> = [(labels::INSTANCE.to_string(), instance)].into();
    let mut left: HashSet<String> = HashSet::new();
    if let Ok(sandboxes) = deps.runtime.sandboxes(mine.clone()).await {
        left.extend(sandboxes.into_iter().filter_map(|mut one| one.labels.remove(labels::POD_UID)));
    }
    if let Ok(containers) = deps.runtime.containers(mine).await {
        left.extend(containers.into_iter().filter_map(|mut one| one.labels.remove(labels::POD_UID)));
    }
    left.extend(deps.volumes.present().await);
    left.extend(deps.launcher.cgroups.present().await);
    for uid in left.difference(&known) {
        if deps.wakers.get(uid).is_none() {
            tracing::info!(%uid, "cleaning up after a pod that is no more");
            begin(manager, uid, Mail { gone: true, ..Mail::default() });
        }
    }
    collect_logs(deps).await;
}

/// Log directories of pods that are gone.
async fn collect_logs(deps: &WorkerDeps) {
    let (host, alive) = (deps.host.clone(), deps.wakers.uids());
    let directory = deps.launcher.settings.log_dir.clone();
    files::blocking(move || {
        for name in host.list(&directory) {
            let uid = name.rsplit('_').next().filter(|_| name.matches('_').count() == 2);
            let is_left = uid.is_some_and(|uid| !alive.contains(uid));
            if is_left && let Err(error) = host.remove_tree(&directory.join(&name)) {
                tracing::debug!(%name, %error, "old logs cannot be removed");
            }
        }
    })
    .await;
}

/// A slow look for what was left behind, and the weight of burstable pods.
async fn collect_for_ever(manager: PodManager, pods: Informer<Pod>) {
    loop {
        let list = pods.list(None);
        let cgroups = &manager.deps.launcher.cgroups;
        if let Err(error) = cgroups.weigh_burstable(list.iter().map(AsRef::as_ref)).await {
            tracing::warn!(%error, "the cgroup of burstable pods is not weighed");
        }
        tokio::time::sleep(Duration::from_secs(120)).await;
        adopt_orphans(&manager, &pods).await;
    }
}
