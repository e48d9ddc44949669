//! What the informers have told, as facts, and which services have changed since each family last looked.
//!
//! Informers' handlers write here and wake the loops; a change that says nothing new to the proxy wakes
//! nobody. What waits is at most one entry per service.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use client::Change;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::facts::{Family, NodeFacts, ServiceFacts, ServiceName, SliceFacts};
use super::planner::Known;

#[derive(Default)]
pub(crate) struct Inputs {
    state: Mutex<State>,
    v4: Notify,
    v6: Notify,
}

#[derive(Default)]
struct State {
    services: HashMap<ServiceName, Arc<ServiceFacts>>,
    slices: HashMap<ServiceName, BTreeMap<String, Arc<SliceFacts>>>,
    counts: Counts,
    v4: Pending,
    v6: Pending,
}

/// How many changes there have been.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) services: u64,
    pub(crate) slices: u64,
}

/// What one family has not looked at yet.
#[derive(Default)]
struct Pending {
    services: HashSet<ServiceName>,
    node: Option<NodeFacts>,
    lost: bool,
    since: Option<Instant>,
}

/// What a family is to look at.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) services: Vec<(ServiceName, Known)>,
    pub(crate) node: Option<NodeFacts>,
    /// The table is not what it was left as.
    pub(crate) lost: bool,
}

impl State {
    fn pending(&mut self, family: Family) -> &mut Pending {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    fn known(&self, name: &ServiceName) -> Known {
        (self.services.get(name).cloned(), self.slices.get(name).cloned().unwrap_or_default())
    }
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Inputs {
    pub(crate) fn take_service(&self, change: &Change<Service>) {
        let meta = &change.latest().metadata;
        let name = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        let facts = change.new.as_deref().and_then(ServiceFacts::of).map(Arc::new);
        let mut state = self.state.lock();
        if state.services.get(&name) == facts.as_ref() {
            return;
        }
        match facts {
            Some(facts) => state.services.insert(name.clone(), facts),
            None => state.services.remove(&name),
        };
        state.counts.services += 1;
        self.mark(&mut state, [name]);
    }

    pub(crate) fn take_slice(&self, change: &Change<EndpointSlice>) {
        let slice = change.latest().metadata.name.clone().unwrap_or_default();
        let old = change.old.as_deref().and_then(SliceFacts::of);
        let new = change.new.as_deref().and_then(SliceFacts::of);
        if old == new {
            return;
        }
        let mut state = self.state.lock();
        let mut names = HashSet::new();
        if let Some((name, _)) = old {
            if let Some(slices) = state.slices.get_mut(&name) {
                slices.remove(&slice);
                if slices.is_empty() {
                    state.slices.remove(&name);
                }
            }
            names.insert(name);
        }
        if let Some((name, facts)) = new {
            state.slices.entry(name.clone()).or_default().insert(slice, Arc::new(facts));
            names.insert(name);
        }
        state.counts.slices += 1;
        self.mark(&mut state, names);
    }

    fn mark(&self, state: &mut State, names: impl IntoIterator<Item = ServiceName>) {
        for name in names {
            for family in FAMILIES {
                let pending = state.pending(family);
                pending.services.insert(name.clone());
                pending.since.get_or_insert_with(Instant::now);
            }
        }
        for family in FAMILIES {
            self.notify(family).notify_one();
        }
    }

    pub(crate) fn set_node(&self, family: Family, node: NodeFacts) {
        self.state.lock().pending(family).node = Some(node);
        self.notify(family).notify_one();
    }

    /// The table of a family is to be made anew.
    pub(crate) fn tell_lost(&self, family: Family) {
        self.state.lock().pending(family).lost = true;
        self.notify(family).notify_one();
    }

    pub(crate) fn notify(&self, family: Family) -> &Notify {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// What a family is to look at; nothing waits for it afterwards.
    pub(crate) fn take(&self, family: Family) -> Work {
        let mut state = self.state.lock();
        let pending = std::mem::take(state.pending(family));
        let known = |name: ServiceName| {
            let known = state.known(&name);
            (name, known)
        };
        Work {
            services: pending.services.into_iter().map(known).collect(),
            node: pending.node,
            lost: pending.lost,
        }
    }

    /// What is known of some services now.
    pub(crate) fn known(&self, names: Vec<ServiceName>) -> Vec<(ServiceName, Known)> {
        let state = self.state.lock();
        names.into_iter().map(|name| (name.clone(), state.known(&name))).collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Since when something waits for a family, and how much.
    pub(crate) fn waiting(&self, family: Family) -> (Option<Instant>, usize) {
        let mut state = self.state.lock();
        let pending = state.pending(family);
        (pending.since, pending.services.len())
    }
}
