//! Admission webhooks: what is configured, which of them a request concerns, what they are asked and what
//! they answer. When they are asked is the registry's matter (`registry::admit`).
//!
//! Configurations are read again when one of them has changed; while there are none, a write pays the look at
//! one number. Webhooks come in the order of their configurations' names, as upstream's do.
//!
//! Absent: metrics of single webhooks, and annotations of the audit log that say what each has patched.

mod attributes;
mod hook;
mod review;
mod rules;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::KindRow;
use api::json::{items, text};
use api::kinds::{MUTATING_WEBHOOK_CONFIGURATION, VALIDATING_WEBHOOK_CONFIGURATION};
use parking_lot::Mutex;

use crate::cache::{Caches, KindCache};
use crate::outbound::Outbound;
pub(crate) use attributes::{Attributes, Gvk, Gvr, Operation};
pub(crate) use hook::{Hook, Selectors};
pub(crate) use review::{Answer, Failure, Question};
pub(crate) use rules::{Rule, find};

/// All webhooks that are configured.
pub(crate) struct Webhooks {
    pub(crate) outbound: Arc<Outbound>,
    mutating: Configured,
    validating: Configured,
}

impl Webhooks {
    pub(crate) fn new(caches: &Caches, outbound: Arc<Outbound>) -> Self {
        Webhooks {
            outbound,
            mutating: Configured::new(caches, &MUTATING_WEBHOOK_CONFIGURATION),
            validating: Configured::new(caches, &VALIDATING_WEBHOOK_CONFIGURATION),
        }
    }

    pub(crate) fn mutating(&self) -> Arc<[Hook]> {
        self.mutating.hooks()
    }

    pub(crate) fn validating(&self) -> Arc<[Hook]> {
        self.validating.hooks()
    }
}

/// Whether a kind is that of webhooks and policies themselves. No webhook is asked about them, so that one
/// that is broken can always be taken away.
pub(crate) fn is_exempt(row: &KindRow) -> bool {
    row.group == "admissionregistration.k8s.io"
}

/// The webhooks of one kind of configuration.
struct Configured {
    cache: Option<Arc<KindCache>>,
    /// As of the kind's last change.
    loaded: Mutex<(Option<u64>, Arc<[Hook]>)>,
}

impl Configured {
    fn new(caches: &Caches, row: &KindRow) -> Self {
        Configured { cache: caches.kind(row), loaded: Mutex::new((None, Arc::new([]))) }
    }

    fn hooks(&self) -> Arc<[Hook]> {
        let Some(cache) = &self.cache else { return Arc::new([]) };
        let change = Some(cache.last_change());
        let mut loaded = self.loaded.lock();
        if loaded.0 != change {
            *loaded = (change, read(cache));
        }
        loaded.1.clone()
    }
}

/// In the order of the configurations' names, which is that of their keys.
fn read(cache: &KindCache) -> Arc<[Hook]> {
    let mut hooks = Vec::new();
    for entry in cache.list(&cache.prefix(None)) {
        let Ok(configuration) = entry.object.tree() else { continue };
        let name = text(&configuration, "metadata.name");
        let of = items(&configuration, "webhooks").iter().enumerate();
        hooks.extend(of.map(|(at, webhook)| Hook::new(name, at, webhook)));
    }
    hooks.into()
}
