//! What happens in the cluster that a rejected pod may be glad of, and who waits for what.
//!
//! A plugin that can reject pods registers the events that may change its mind
//! ([`super::Plugin::events_to_register`]), each with a hint that looks closer. An event wakes only pods that
//! a plugin registered for it has rejected.

use std::ops::BitOr;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::cache::Cache;
use crate::node::NodeInfo;
use crate::pod::{Labels, PodInfo};

/// Kinds whose changes the scheduler follows. A plugin that looks at another kind adds it here and to
/// `watch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Assigned and unscheduled pods.
    Pod,
    /// Pods that are on a node or were about to be.
    AssignedPod,
    UnscheduledPod,
    Node,
    PersistentVolume,
    PersistentVolumeClaim,
    StorageClass,
    /// All of them.
    WildCard,
}

impl Resource {
    fn covers(self, other: Resource) -> bool {
        self == other
            || self == Resource::WildCard
            || (self == Resource::Pod && matches!(other, Resource::AssignedPod | Resource::UnscheduledPod))
    }
}

/// A set of what can happen to an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions(u16);

impl Actions {
    pub const NONE: Actions = Actions(0);
    pub const ADD: Actions = Actions(1);
    pub const DELETE: Actions = Actions(1 << 1);
    pub const UPDATE_NODE_ALLOCATABLE: Actions = Actions(1 << 2);
    pub const UPDATE_NODE_LABEL: Actions = Actions(1 << 3);
    /// `spec.unschedulable` counts as a taint.
    pub const UPDATE_NODE_TAINT: Actions = Actions(1 << 4);
    pub const UPDATE_POD_LABEL: Actions = Actions(1 << 5);
    /// A pod requests less of something.
    pub const UPDATE_POD_SCALE_DOWN: Actions = Actions(1 << 6);
    pub const UPDATE_POD_SCHEDULING_GATES_ELIMINATED: Actions = Actions(1 << 7);
    /// A pod is being deleted: it does not count for topology spread any more. (kube-scheduler has no such
    /// event.)
    pub const UPDATE_POD_TERMINATING: Actions = Actions(1 << 8);
    /// Any change of an object of a kind whose changes are not told apart.
    pub const UPDATE: Actions = Actions(1 << 9);
    pub const ALL: Actions = Actions(u16::MAX);

    pub fn intersects(self, other: Actions) -> bool {
        self.0 & other.0 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The same if the condition holds, else none.
    #[must_use]
    pub fn when(self, condition: bool) -> Self {
        if condition { self } else { Actions::NONE }
    }
}

impl BitOr for Actions {
    type Output = Actions;

    fn bitor(self, other: Actions) -> Actions {
        Actions(self.0 | other.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterEvent {
    pub resource: Resource,
    pub actions: Actions,
}

impl ClusterEvent {
    pub const fn new(resource: Resource, actions: Actions) -> Self {
        ClusterEvent { resource, actions }
    }

    /// Whether one who registered this event wants to know of `other`.
    pub fn matches(self, other: ClusterEvent) -> bool {
        self.resource.covers(other.resource) && self.actions.intersects(other.actions)
    }
}

/// Whether an event may make a pod schedulable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueingHint {
    Queue,
    QueueSkip,
}

impl QueueingHint {
    /// `Queue` if the condition holds.
    pub fn when(condition: bool) -> Self {
        if condition { QueueingHint::Queue } else { QueueingHint::QueueSkip }
    }
}

type Hint = Box<dyn Fn(&PodInfo, &ObservedEvent<'_>) -> QueueingHint + Send + Sync>;

/// An event that a plugin registers for.
pub struct EventToRegister {
    pub(crate) event: ClusterEvent,
    pub(crate) hint: Option<Hint>,
}

impl EventToRegister {
    /// Every such event brings the pods back that the plugin rejected.
    pub fn always(resource: Resource, actions: Actions) -> Self {
        EventToRegister { event: ClusterEvent::new(resource, actions), hint: None }
    }

    /// Events that wake a pod only if the hint says so.
    pub fn hinted(
        resource: Resource,
        actions: Actions,
        hint: impl Fn(&PodInfo, &ObservedEvent<'_>) -> QueueingHint + Send + Sync + 'static,
    ) -> Self {
        EventToRegister { event: ClusterEvent::new(resource, actions), hint: Some(Box::new(hint)) }
    }
}

/// An object of storage that came or changed.
#[derive(Clone, Copy)]
pub enum StorageChange<'a> {
    Claim { new: &'a PersistentVolumeClaim },
    Volume { old: Option<&'a PersistentVolume>, new: &'a PersistentVolume },
    Class { old: Option<&'a StorageClass>, new: &'a StorageClass },
}

/// An event with what it is about.
pub struct ObservedEvent<'a> {
    pub event: ClusterEvent,
    /// The pod before (none if it is new) and after (none if it is gone).
    pub old_pod: Option<&'a Pod>,
    pub new_pod: Option<&'a Pod>,
    pub old_node: Option<&'a Node>,
    pub new_node: Option<&'a NodeInfo>,
    pub storage: Option<StorageChange<'a>>,
    pub(crate) cache: &'a Cache,
}

impl<'a> ObservedEvent<'a> {
    pub(crate) fn to_pods(
        cache: &'a Cache,
        actions: Actions,
        old: Option<&'a Pod>,
        new: Option<&'a Pod>,
    ) -> Self {
        let event = ClusterEvent::new(Resource::AssignedPod, actions);
        ObservedEvent { old_pod: old, new_pod: new, ..ObservedEvent::about_nothing(cache, event) }
    }

    pub(crate) fn to_nodes(
        cache: &'a Cache,
        actions: Actions,
        old: Option<&'a Node>,
        new: Option<&'a NodeInfo>,
    ) -> Self {
        let event = ClusterEvent::new(Resource::Node, actions);
        ObservedEvent { old_node: old, new_node: new, ..ObservedEvent::about_nothing(cache, event) }
    }

    pub(crate) fn to_storage(cache: &'a Cache, is_new: bool, change: StorageChange<'a>) -> Self {
        let resource = match change {
            StorageChange::Claim { .. } => Resource::PersistentVolumeClaim,
            StorageChange::Volume { .. } => Resource::PersistentVolume,
            StorageChange::Class { .. } => Resource::StorageClass,
        };
        let event = ClusterEvent::new(resource, if is_new { Actions::ADD } else { Actions::UPDATE });
        ObservedEvent { storage: Some(change), ..ObservedEvent::about_nothing(cache, event) }
    }

    fn about_nothing(cache: &'a Cache, event: ClusterEvent) -> Self {
        ObservedEvent {
            event,
            old_pod: None,
            new_pod: None,
            old_node: None,
            new_node: None,
            storage: None,
            cache,
        }
    }

    /// The labels of a namespace.
    pub fn namespace_labels(&self, namespace: &str) -> &Labels {
        self.cache.counters.namespace_labels(namespace)
    }
}

/// When each kind of event last happened, in numbers that rise. A pod that comes back rejected from a binding
/// cycle has not seen what happened meanwhile; whether any of it was registered for is all that is kept, so
/// that pods that wait for hours cost no memory.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    now: u64,
    last: [[u64; 16]; 6],
}

impl Recent {
    const KINDS: [Resource; 6] = [
        Resource::AssignedPod,
        Resource::UnscheduledPod,
        Resource::Node,
        Resource::PersistentVolume,
        Resource::PersistentVolumeClaim,
        Resource::StorageClass,
    ];

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn note(&mut self, event: ClusterEvent) {
        self.now += 1;
        for (kind, last) in Self::KINDS.iter().zip(&mut self.last) {
            if event.resource.covers(*kind) {
                for (bit, at) in last.iter_mut().enumerate() {
                    if event.actions.0 & 1 << bit != 0 {
                        *at = self.now;
                    }
                }
            }
        }
    }

    /// Whether an event that `registered` matches has happened since.
    pub(crate) fn happened_since(&self, registered: ClusterEvent, since: u64) -> bool {
        Self::KINDS.iter().zip(&self.last).any(|(kind, last)| {
            let newer = |(bit, at): (usize, &u64)| registered.actions.0 & 1 << bit != 0 && *at > since;
            registered.resource.covers(*kind) && last.iter().enumerate().any(newer)
        })
    }
}
