//! What all parts of one kubelet share, and how they wake a pod's worker.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use client::events::{EventType, Recorder};
use client::{Informer, ObjectApi};
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service};
use parking_lot::Mutex;
use supervisor::{CancellationToken, Latch, Stage};
use tokio::sync::{Notify, watch};

use crate::Config;
use crate::cgroups::Cgroups;
use crate::images::ImageManager;
use crate::node::machine::Machine;
use crate::pods::backoff::Backoff;
use crate::pods::plan::Slot;
use crate::pods::turns::Turns;
use crate::probes::ProbeManager;
use crate::runtime::Cri;
use crate::sources::Sources;
use crate::spec::PodExt;
use crate::spec::amount::Resources;
use crate::status::sender::StatusSender;
use crate::volumes::Volumes;

pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) api: Arc<dyn ObjectApi>,
    pub(crate) stage: Stage,
    pub(crate) cri: Cri,
    pub(crate) recorder: Recorder,
    pub(crate) wakers: Wakers,
    pub(crate) status: StatusSender,
    pub(crate) probes: ProbeManager,
    pub(crate) sources: Sources,
    pub(crate) volumes: Volumes,
    pub(crate) images: ImageManager,
    pub(crate) services: Informer<Service>,
    pub(crate) cgroups: Cgroups,
    pub(crate) machine: Machine,
    /// What the node can give to pods.
    pub(crate) allocatable: Resources,
    /// The kernel enforces AppArmor profiles.
    pub(crate) apparmor: bool,
    /// The node's own object, once it is known.
    pub(crate) node: watch::Sender<Option<Arc<Node>>>,
    /// Opens when sandboxes can be made.
    pub(crate) sandbox_image: Latch,
    /// How the container runtime is.
    pub(crate) runtime: watch::Sender<RuntimeHealth>,
    pub(crate) restarts: Mutex<Backoff>,
    pub(crate) turns: Turns,
    /// Pod of each container and sandbox, so that events find their worker.
    pub(crate) owners: Mutex<HashMap<String, String>>,
}

/// What the runtime says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RuntimeHealth {
    /// It has not answered yet.
    Unknown,
    Down(String),
    NetworkNotReady(String),
    Ready,
}

impl Context {
    pub(crate) fn host_ips(&self) -> Vec<String> {
        vec![self.config.node_ip.borrow().to_string()]
    }

    /// Value of the label that marks what this node made in the runtime.
    pub(crate) fn instance_label(&self) -> String {
        format!("{}.{}", self.config.instance, self.config.node_name).trim_matches('.').to_string()
    }

    pub(crate) fn pod_event(&self, pod: &Pod, kind: EventType, reason: &str, message: impl Into<String>) {
        self.recorder.event(&client::events::reference_to(pod), kind, reason, message);
    }

    /// An event about one container of a pod.
    pub(crate) fn container_event(
        &self,
        pod: &Pod,
        container: &str,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let init = pod.init_containers().iter().any(|one| one.name == container);
        let list = if init { "initContainers" } else { "containers" };
        let field_path = Some(format!("spec.{list}{{{container}}}"));
        let reference = ObjectReference { field_path, ..client::events::reference_to(pod) };
        self.recorder.event(&reference, kind, reason, message);
    }

    pub(crate) fn slot_event(
        &self,
        pod: &Pod,
        slot: Slot,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let name = slot.of(pod).map(|one| one.name.clone()).unwrap_or_default();
        self.container_event(pod, &name, kind, reason, message);
    }
}

/// The workers' mailboxes by pod uid. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Wakers {
    boxes: Arc<Mutex<HashMap<String, Arc<Mailbox>>>>,
}

/// What a worker is told. A wake-up says "look again"; it carries no orders.
pub(crate) struct Mailbox {
    state: Mutex<Mail>,
    notify: Notify,
    /// Cancelled once the pod is to end, so that waits for pulls and hooks end.
    pub(crate) ending: CancellationToken,
}

#[derive(Clone, Default)]
pub(crate) struct Mail {
    /// The pod as the API last had it; none for one that only the runtime knows.
    pub(crate) pod: Option<Arc<Pod>>,
    /// The API no longer has it.
    pub(crate) gone: bool,
    /// Containers that have exited according to an event, which the CRI may not show yet.
    pub(crate) exited: HashSet<String>,
    pub(crate) out_of_memory: HashSet<String>,
}

impl Mailbox {
    pub(crate) fn new(mail: Mail) -> Self {
        let ending = CancellationToken::new();
        if mail.gone || mail.pod.as_ref().is_some_and(|pod| pod.is_deleted()) {
            ending.cancel();
        }
        Mailbox { state: Mutex::new(mail), notify: Notify::new(), ending }
    }

    pub(crate) fn read(&self) -> Mail {
        self.state.lock().clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Mail)) {
        let ending = {
            let mut mail = self.state.lock();
            change(&mut mail);
            mail.gone || mail.pod.as_ref().is_some_and(|pod| pod.is_deleted())
        };
        if ending {
            self.ending.cancel();
        }
        self.notify.notify_one();
    }

    /// Forgets events about containers that are no more. Wakes nobody.
    pub(crate) fn forget_missing(&self, present: &HashSet<&str>) {
        let mut mail = self.state.lock();
        mail.exited.retain(|id| present.contains(id.as_str()));
        mail.out_of_memory.retain(|id| present.contains(id.as_str()));
    }

    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Wakers {
    pub(crate) fn get(&self, uid: &str) -> Option<Arc<Mailbox>> {
        self.boxes.lock().get(uid).cloned()
    }

    pub(crate) fn insert(&self, uid: &str, mailbox: Arc<Mailbox>) {
        self.boxes.lock().insert(uid.to_string(), mailbox);
    }

    pub(crate) fn remove(&self, uid: &str) {
        self.boxes.lock().remove(uid);
    }

    pub(crate) fn wake(&self, uid: &str) {
        if let Some(mailbox) = self.get(uid) {
            mailbox.update(|_| {});
        }
    }

    pub(crate) fn wake_all(&self) {
        for mailbox in self.all() {
            mailbox.update(|_| {});
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Mailbox>> {
        self.boxes.lock().values().cloned().collect()
    }

    pub(crate) fn uids(&self) -> HashSet<String> {
        self.boxes.lock().keys().cloned().collect()
    }
}
