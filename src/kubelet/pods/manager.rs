//! From the API and the runtime to workers: every pod bound to this node gets one, as does every pod that only the runtime
//! still knows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::{FieldSelector, LabelSelector};
use client::Informer;
use k8s_openapi::api::core::v1::Pod;
use supervisor::OnExit;

use super::execute::allocatable_cpu;
use super::worker::Worker;
use crate::cgroups::Driver;
use crate::context::{Context, Mail, Mailbox};
use crate::files;
use crate::runtime::events::{self, ContainerEvent};
use crate::runtime::labels;
use crate::spec::PodExt;

/// Pods bound to a node.
pub(crate) fn pods_of(informers: &client::Informers, node: &str) -> Informer<Pod> {
    informers.selected::<Pod>(None, LabelSelector::everything(), FieldSelector::equals("spec.nodeName", node))
}

/// Runs workers for ever.
pub(crate) async fn run(context: Arc<Context>, pods: Informer<Pod>) {
    spawn_events(&context);
    // Without the services a container would lack variables; without the node nobody knows whether pods may run.
    context.services.synced().await;
    wait_for_node(&context).await;
    context.sandbox_image.wait().await;
    make_parents(&context).await;
    let shared = context.clone();
    pods.on_change(move |change| {
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
    adopt_orphans(&context, &pods).await;
    collect_for_ever(context, pods).await;
}

/// The cgroups that pods are put below, made as the runtime makes its own.
async fn make_parents(context: &Context) {
    let driver = context.cri.cgroup_driver().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the runtime does not tell its cgroup driver; cgroupfs is assumed");
        Driver::Cgroupfs
    });
    context.cgroups.use_driver(driver);
    if let Err(error) = context.cgroups.ensure_parents(allocatable_cpu(context)).await {
        tracing::warn!(%error, "the pods' cgroup cannot be made");
    }
}

async fn wait_for_node(context: &Context) {
    let mut node = context.node.subscribe();
    // The sender lives in the context, so this cannot fail while we wait.
    let _ = node.wait_for(Option::is_some).await;
}

fn present(context: &Arc<Context>, pod: &Arc<Pod>) {
    match context.wakers.get(pod.uid()) {
        Some(mailbox) => mailbox.update(|mail| mail.pod = Some(pod.clone())),
        None => begin(context, pod.uid(), Mail { pod: Some(pod.clone()), ..Mail::default() }),
    }
}

fn gone(context: &Context, uid: &str) {
    if let Some(mailbox) = context.wakers.get(uid) {
        mailbox.update(|mail| mail.gone = true);
    }
}

fn begin(context: &Arc<Context>, uid: &str, mail: Mail) {
    let mailbox = Arc::new(Mailbox::new(mail));
    context.wakers.insert(uid, mailbox.clone());
    let worker = Worker::new(context.clone(), uid.to_string(), mailbox);
    context.stage.spawn_cancellable("pod worker", OnExit::Done, worker.run());
}

/// Wakes the worker whose container an event is about.
fn spawn_events(context: &Arc<Context>) {
    let shared = context.clone();
    let follow = async move {
        events::follow(&shared.cri, |event| deliver(&shared, event)).await;
    };
    context.stage.spawn_cancellable("container events", OnExit::Stop, follow);
    let shared = context.clone();
    let relist = async move {
        let instance = shared.instance_label();
        events::relist(&shared.cri, &instance, |event| deliver(&shared, event)).await;
    };
    context.stage.spawn_cancellable("container relist", OnExit::Stop, relist);
    let shared = context.clone();
    let mut clock = context.stage.clock();
    let look_again = async move {
        loop {
            // Deadlines, back-off and the lives of tokens are times of day.
            clock.was_set().await;
            shared.wakers.wake_all();
        }
    };
    context.stage.spawn_cancellable("pods after the clock was set", OnExit::Stop, look_again);
}

fn deliver(context: &Context, event: ContainerEvent) {
    let owner = |container: &str| {
        let uid = context.owners.lock().get(container).cloned()?;
        context.wakers.get(&uid)
    };
    match event {
        // Whoever started it looks at it anyway; a start that we did not make has no worker waiting.
        ContainerEvent::Started { container } => drop(container),
        ContainerEvent::Exited { container } => {
            if let Some(mailbox) = owner(&container) {
                mailbox.update(|mail| {
                    mail.exited.insert(container);
                });
            }
        }
        ContainerEvent::OutOfMemory { container } => {
            if let Some(mailbox) = owner(&container) {
                mailbox.update(|mail| {
                    mail.out_of_memory.insert(container);
                });
            }
        }
        ContainerEvent::Resumed => context.wakers.wake_all(),
        ContainerEvent::PodChanged { uid } => context.wakers.wake(&uid),
    }
}

/// Pods that the runtime has and the API has not: they end, and what they left goes.
async fn adopt_orphans(context: &Arc<Context>, pods: &Informer<Pod>) {
    let known: HashSet<String> = pods.list(None).iter().map(|pod| pod.uid().to_string()).collect();
    let mine: HashMap<String, String> = [(labels::INSTANCE.to_string(), context.instance_label())].into();
    let mut left: HashSet<String> = HashSet::new();
    if let Ok(sandboxes) = context.cri.sandboxes(mine.clone()).await {
        left.extend(sandboxes.into_iter().filter_map(|mut one| one.labels.remove(labels::POD_UID)));
    }
    if let Ok(containers) = context.cri.containers(mine).await {
        left.extend(containers.into_iter().filter_map(|mut one| one.labels.remove(labels::POD_UID)));
    }
    left.extend(context.volumes.present());
    left.extend(context.cgroups.present());
    for uid in left.difference(&known) {
        if context.wakers.get(uid).is_none() {
            tracing::info!(%uid, "cleaning up after a pod that is no more");
            begin(context, uid, Mail { gone: true, ..Mail::default() });
        }
    }
    collect_logs(context).await;
}

/// Log directories of pods that are gone.
async fn collect_logs(context: &Context) {
    let (directory, alive) = (context.config.log_dir.clone(), context.wakers.uids());
    files::blocking(move || {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let uid = name.rsplit('_').next().filter(|_| name.matches('_').count() == 2);
            let is_left = uid.is_some_and(|uid| !alive.contains(uid));
            if is_left && let Err(error) = files::tree::remove(&entry.path()) {
                tracing::debug!(%name, %error, "old logs cannot be removed");
            }
        }
    })
    .await;
}

/// A slow look for what was left behind, and the weight of burstable pods.
async fn collect_for_ever(context: Arc<Context>, pods: Informer<Pod>) {
    loop {
        let list = pods.list(None);
        if let Err(error) = context.cgroups.weigh_burstable(list.iter().map(AsRef::as_ref)).await {
            tracing::warn!(%error, "the cgroup of burstable pods is not weighed");
        }
        tokio::time::sleep(Duration::from_secs(120)).await;
        adopt_orphans(&context, &pods).await;
    }
}
