//! How a pod's worker is woken, and by what.
//!
//! A wake-up says "look again", and why; it carries no orders. The reason tells a worker what cannot have
//! changed (a probe's finding changes no volume), and the log what a node is busy with.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use supervisor::CancellationToken;
use tokio::sync::Notify;

use crate::spec::PodExt;

/// Why a worker is to look at its pod again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WakeReason {
    /// The API has another version of the pod, or none any more.
    Pod,
    /// A config map or secret that the pod uses is another one.
    Source,
    ContainerEnded,
    /// A probe's finding changed.
    Probe,
    /// The relist saw something that no event had told.
    Relist,
    /// The runtime can be asked again, or its events were not heard for a while.
    Runtime,
    /// An archive brought images that containers may wait for.
    Images,
    /// The machine's clock was set: deadlines and back-off are times of day.
    Clock,
    /// The node has another address.
    Address,
    /// Another pod gave back what this one's resize waits for.
    Room,
    /// The node wants the pod to end.
    Ending,
}

impl WakeReason {
    /// Whether the pod's volumes may have to be another way than at the last look.
    pub(crate) fn concerns_volumes(self) -> bool {
        !matches!(self, WakeReason::ContainerEnded | WakeReason::Probe | WakeReason::Room)
    }
}

pub(crate) type WakeReasons = BTreeSet<WakeReason>;

/// Pod of each container and sandbox, so that events find their worker. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Owners(Arc<Mutex<HashMap<String, String>>>);

impl Owners {
    pub(crate) fn note(&self, container: &str, uid: &str) {
        let mut owners = self.0.lock();
        if !owners.contains_key(container) {
            owners.insert(container.to_string(), uid.to_string());
        }
    }

    pub(crate) fn of(&self, container: &str) -> Option<String> {
        self.0.lock().get(container).cloned()
    }

    pub(crate) fn forget(&self, container: &str) {
        self.0.lock().remove(container);
    }

    pub(crate) fn forget_pod(&self, uid: &str) {
        self.0.lock().retain(|_, owner| owner != uid);
    }
}

/// The workers' mailboxes by pod uid. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Wakers {
    boxes: Arc<Mutex<HashMap<String, Arc<Mailbox>>>>,
    /// Notified whenever a worker ends.
    ends: Arc<Notify>,
}

/// What a worker is told.
pub(crate) struct Mailbox {
    state: Mutex<Mail>,
    reasons: Mutex<WakeReasons>,
    notify: Notify,
    /// Cancelled once the pod is to end, so that waits for pulls and hooks end.
    pub(crate) ending: CancellationToken,
    /// Cancelled once its containers have ended and its volumes are given back.
    pub(crate) over: CancellationToken,
}

#[derive(Clone, Default)]
pub(crate) struct Mail {
    /// The pod as the API last had it; none for one that only the runtime knows.
    pub(crate) pod: Option<Arc<Pod>>,
    /// The pod with the resources it was granted, if it asks for others.
    pub(crate) granted: Option<Arc<Pod>>,
    /// The node wants the pod to end.
    pub(crate) ending: Option<Ending>,
    /// The API no longer has it.
    pub(crate) gone: bool,
    /// Containers that have exited according to an event, which the CRI may not show yet.
    pub(crate) exited: HashSet<String>,
    pub(crate) out_of_memory: HashSet<String>,
}

/// Why the node ends a pod, and how much time it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Told in the condition `DisruptionTarget` too.
    pub(crate) is_disruption: bool,
    pub(crate) grace: Duration,
}

impl Mail {
    fn is_ending(&self) -> bool {
        self.gone || self.ending.is_some() || self.pod.as_ref().is_some_and(|pod| pod.is_deleted())
    }
}

impl Mailbox {
    pub(crate) fn new(mail: Mail) -> Self {
        let ending = CancellationToken::new();
        if mail.is_ending() {
            ending.cancel();
        }
        let reasons = Mutex::new([WakeReason::Pod].into());
        Mailbox {
            state: Mutex::new(mail),
            reasons,
            notify: Notify::new(),
            ending,
            over: CancellationToken::new(),
        }
    }

    pub(crate) fn read(&self) -> Mail {
        self.state.lock().clone()
    }

    /// Why the worker was woken since this was last asked; none if only its own timer did.
    pub(crate) fn take_reasons(&self) -> WakeReasons {
        std::mem::take(&mut self.reasons.lock())
    }

    pub(crate) fn update(&self, reason: WakeReason, change: impl FnOnce(&mut Mail)) {
        let ending = {
            let mut mail = self.state.lock();
            change(&mut mail);
            mail.is_ending()
        };
        if ending {
            self.ending.cancel();
        }
        self.wake(reason);
    }

    /// Ends the pod. The first reason stands.
    pub(crate) fn end(&self, ending: Ending) {
        self.update(WakeReason::Ending, |mail| {
            mail.ending.get_or_insert(ending);
        });
    }

    pub(crate) fn wake(&self, reason: WakeReason) {
        self.reasons.lock().insert(reason);
        self.notify.notify_one();
    }

    /// What the node counts for this pod, if it is not what it asks for. Wakes nobody.
    pub(crate) fn note_granted(&self, granted: Option<Arc<Pod>>) {
        self.state.lock().granted = granted;
    }

    fn waits_for_room(&self) -> bool {
        self.state.lock().granted.is_some()
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
        self.ends.notify_waiters();
    }

    /// Returns once a pod has no worker.
    pub(crate) async fn ended(&self, uid: &str) {
        loop {
            let mut next = std::pin::pin!(self.ends.notified());
            // What ends from here on is heard.
            next.as_mut().enable();
            if self.get(uid).is_none() {
                return;
            }
            next.await;
        }
    }

    pub(crate) fn wake(&self, uid: &str, reason: WakeReason) {
        if let Some(mailbox) = self.get(uid) {
            mailbox.wake(reason);
        }
    }

    pub(crate) fn wake_all(&self, reason: WakeReason) {
        for mailbox in self.all() {
            mailbox.wake(reason);
        }
    }

    /// Something was given back: those that wait for a resize look again.
    pub(crate) fn room_is_made(&self) {
        for mailbox in self.all().into_iter().filter(|one| one.waits_for_room()) {
            mailbox.wake(WakeReason::Room);
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Mailbox>> {
        self.boxes.lock().values().cloned().collect()
    }

    pub(crate) fn uids(&self) -> HashSet<String> {
        self.boxes.lock().keys().cloned().collect()
    }
}
