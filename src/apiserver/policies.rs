//! Admission policies: expressions that judge requests in this process (`ValidatingAdmissionPolicy`) or
//! change their objects (`MutatingAdmissionPolicy`), where a binding puts them to use. When they are asked is
//! the registry's matter (`registry::policies`).
//!
//! When policies or bindings have changed, those policies are read whose specs have. An expression that
//! cannot be read fails as its policy says when it is needed.
//!
//! What a policy tells the audit log is only made where somebody audits the request.

pub(crate) mod checking;
mod error;
mod mutate;
mod policy;
mod verdict;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use api::KindRow;
use api::json::text;
use api::kinds::{
    MUTATING_ADMISSION_POLICY, MUTATING_ADMISSION_POLICY_BINDING, VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING,
};
use parking_lot::{Mutex, RwLock};

use crate::cache::{Caches, KindCache};
use crate::heavy;
pub(crate) use error::PolicyError;
pub(crate) use mutate::mutate;
pub(crate) use policy::{Binding, NAMES, ParamRef, Policy};
pub(crate) use verdict::{Denial, Outcome, annotations, judge};

/// A policy with a binding that puts it to use.
pub(crate) type Bound = (Arc<Policy>, Binding);

/// All policies that are bound.
pub(crate) struct Policies {
    validating: KeptPolicies,
    mutating: KeptPolicies,
}

impl Policies {
    pub(crate) fn new(caches: &Caches) -> Self {
        Policies {
            validating: KeptPolicies::new(
                caches,
                &VALIDATING_ADMISSION_POLICY,
                &VALIDATING_ADMISSION_POLICY_BINDING,
            ),
            mutating: KeptPolicies::new(
                caches,
                &MUTATING_ADMISSION_POLICY,
                &MUTATING_ADMISSION_POLICY_BINDING,
            ),
        }
    }

    pub(crate) fn validating(&self) -> Arc<[Bound]> {
        self.validating.bound()
    }

    pub(crate) fn mutating(&self) -> Arc<[Bound]> {
        self.mutating.bound()
    }
}

/// What was read.
#[derive(Default)]
struct Loaded {
    /// The changes that were seen.
    change: Option<(u64, u64)>,
    bound: Arc<[Bound]>,
    /// By uid, with their generation: a spec that has not changed is not read again.
    known: HashMap<String, (i64, Arc<Policy>)>,
}

struct KeptPolicies {
    policies: Option<Arc<KindCache>>,
    bindings: Option<Arc<KindCache>>,
    /// As of the last changes of both kinds.
    loaded: RwLock<Arc<Loaded>>,
    /// Whoever reads: expressions may take long, and one is enough.
    reading: Mutex<()>,
}

impl KeptPolicies {
    fn new(caches: &Caches, policies: &KindRow, bindings: &KindRow) -> Self {
        let (policies, bindings) = (caches.kind(policies), caches.kind(bindings));
        KeptPolicies { policies, bindings, loaded: RwLock::default(), reading: Mutex::default() }
    }

    fn bound(&self) -> Arc<[Bound]> {
        let (Some(policies), Some(bindings)) = (&self.policies, &self.bindings) else {
            return Arc::new([]);
        };
        let change = || Some((policies.last_change(), bindings.last_change()));
        let loaded = self.loaded.read().clone();
        if loaded.change == change() {
            return loaded.bound.clone();
        }
        // Others take over what this thread had to do, also while it waits for who reads already.
        heavy::blocking(|| {
            let _reading = self.reading.lock();
            let (loaded, change) = (self.loaded.read().clone(), change());
            if loaded.change == change {
                return loaded.bound.clone();
            }
            let new = Arc::new(read(policies, bindings, change, &loaded));
            *self.loaded.write() = new.clone();
            new.bound.clone()
        })
    }
}

/// By names of policies, then of bindings.
fn read(policies: &KindCache, bindings: &KindCache, change: Option<(u64, u64)>, before: &Loaded) -> Loaded {
    let trees = |cache: &KindCache| -> Vec<serde_json::Value> {
        cache.list(&cache.prefix(None)).iter().filter_map(|entry| entry.object.tree().ok()).collect()
    };
    let bindings: Vec<Binding> = trees(bindings).iter().map(Binding::new).collect();
    let (mut bound, mut known) = (Vec::new(), HashMap::new());
    for policy in trees(policies) {
        let uid = text(&policy, "metadata.uid").to_string();
        let generation = policy["metadata"]["generation"].as_i64().unwrap_or(0);
        let same = before.known.get(&uid).filter(|(own, _)| *own == generation);
        let policy = match same {
            Some((_, policy)) => policy.clone(),
            None => Arc::new(Policy::new(&policy)),
        };
        known.insert(uid, (generation, policy.clone()));
        let own = bindings.iter().filter(|binding| binding.policy == policy.name);
        bound.extend(own.map(|binding| (policy.clone(), binding.clone())));
    }
    Loaded { change, bound: bound.into(), known }
}
