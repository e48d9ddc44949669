//! An index of the objects of one kind by the uid of their controller, and of those without one by namespace.
//!
//! A controller with many owners in one namespace looks up the objects of each at no cost in the number of
//! all.

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::Arc;

use api::{Kinded, Object};
use client::Informer;
use parking_lot::RwLock;

/// Clones share the index.
pub(crate) struct Owned<K> {
    state: Arc<RwLock<State>>,
    kind: PhantomData<fn() -> K>,
}

/// By uid of the controller, or by `/namespace` for orphans; then by name.
#[derive(Default)]
struct State(HashMap<String, BTreeMap<String, Arc<Object>>>);

impl<K> Clone for Owned<K> {
    fn clone(&self) -> Self {
        Owned { state: self.state.clone(), kind: PhantomData }
    }
}

fn slot(object: &Object) -> String {
    match api::owner::controller_of_object(object.metadata()) {
        Some(owner) => owner.uid.clone(),
        None => orphans_of(object.namespace().unwrap_or("")),
    }
}

fn orphans_of(namespace: &str) -> String {
    format!("/{namespace}")
}

impl<K: Kinded> Owned<K> {
    /// Follows an informer. Its handlers find the index up to date.
    pub(crate) fn follow(informer: &Informer<K>) -> Self {
        let state = Arc::new(RwLock::new(State::default()));
        let followed = state.clone();
        informer.index(move |change| {
            let mut state = followed.write();
            if let Some(old) = &change.old {
                state.remove(old);
            }
            if let Some(new) = &change.new {
                state.0.entry(slot(new)).or_default().insert(new.name().to_string(), new.clone());
            }
        });
        Owned { state, kind: PhantomData }
    }

    /// Objects whose controller has this uid, sorted by name.
    pub(crate) fn by(&self, uid: &str) -> Vec<Arc<K>> {
        self.typed(uid)
    }

    /// Objects of the namespace that have no controller, sorted by name.
    pub(crate) fn orphans(&self, namespace: &str) -> Vec<Arc<K>> {
        self.typed(&orphans_of(namespace))
    }

    fn typed(&self, slot: &str) -> Vec<Arc<K>> {
        let objects: Vec<Arc<Object>> = self
            .state
            .read()
            .0
            .get(slot)
            .map(|objects| objects.values().cloned().collect())
            .unwrap_or_default();
        objects.iter().filter_map(|object| object.typed().ok()).collect()
    }
}

impl State {
    fn remove(&mut self, object: &Object) {
        let slot = slot(object);
        if let Some(objects) = self.0.get_mut(&slot) {
            objects.remove(object.name());
            if objects.is_empty() {
                self.0.remove(&slot);
            }
        }
    }
}
