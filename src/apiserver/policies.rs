//! Admission policies: expressions that judge requests in this process (`ValidatingAdmissionPolicy`) or
//! change their objects (`MutatingAdmissionPolicy`), where a binding puts them to use. When they are asked is
//! the registry's matter (`registry::policies`).
//!
//! Policies and bindings are read again when one of them has changed. An expression that cannot be read fails
//! as its policy says when it is needed.
//!
//! Absent: audit annotations (there is no audit).

pub(crate) mod checking;
mod error;
mod mutate;
mod policy;
mod verdict;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use api::KindRow;
use api::kinds::{
    MUTATING_ADMISSION_POLICY, MUTATING_ADMISSION_POLICY_BINDING, VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING,
};
use parking_lot::Mutex;

use crate::cache::{Caches, KindCache};
pub(crate) use error::PolicyError;
pub(crate) use mutate::mutate;
pub(crate) use policy::{Binding, NAMES, ParamRef, Policy};
pub(crate) use verdict::{Denial, Outcome, judge};

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

/// The changes that were seen, and what was read then.
type Loaded = (Option<(u64, u64)>, Arc<[Bound]>);

struct KeptPolicies {
    policies: Option<Arc<KindCache>>,
    bindings: Option<Arc<KindCache>>,
    /// As of the last changes of both kinds.
    loaded: Mutex<Loaded>,
}

impl KeptPolicies {
    fn new(caches: &Caches, policies: &KindRow, bindings: &KindRow) -> Self {
        let (policies, bindings) = (caches.kind(policies), caches.kind(bindings));
        KeptPolicies { policies, bindings, loaded: Mutex::new((None, Arc::new([]))) }
    }

    fn bound(&self) -> Arc<[Bound]> {
        let (Some(policies), Some(bindings)) = (&self.policies, &self.bindings) else {
            return Arc::new([]);
        };
        let change = Some((policies.last_change(), bindings.last_change()));
        let mut loaded = self.loaded.lock();
        if loaded.0 != change {
            *loaded = (change, read(policies, bindings));
        }
        loaded.1.clone()
    }
}

/// By names of policies, then of bindings.
fn read(policies: &KindCache, bindings: &KindCache) -> Arc<[Bound]> {
    let trees = |cache: &KindCache| -> Vec<serde_json::Value> {
        cache.list(&cache.prefix(None)).iter().filter_map(|entry| entry.object.tree().ok()).collect()
    };
    let bindings: Vec<Binding> = trees(bindings).iter().map(Binding::new).collect();
    let mut bound = Vec::new();
    for policy in trees(policies) {
        let policy = Arc::new(Policy::new(&policy));
        let own = bindings.iter().filter(|binding| binding.policy == policy.name);
        bound.extend(own.map(|binding| (policy.clone(), binding.clone())));
    }
    bound.into()
}
