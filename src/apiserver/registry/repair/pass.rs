//! A pass over objects and records: what it knows, and how it acts. Each step is one transaction, and its
//! events follow it.
//!
//! A pass over a large cluster takes a while. So it gives the thread back now and then, and reads each
//! object's tree once, however many records name it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use api::kinds::SERVICE;
use api::{Cidr, KindRow, Object};
use client::events::{EventType, Recorder};
use embedded_store::{Compare, Durability, Store, StoreError, Txn};
use k8s_openapi::api::core::v1::ObjectReference;

use crate::claims::Claims;
use crate::registry::Registry;
use crate::registry::claim::Known;
use crate::registry::strategies::node::pod_ranges;
use crate::registry::strategies::service::allocate;

/// After so many records a pass gives the thread back.
pub(super) const RECORDS_AT_ONCE: usize = 64;

pub(in crate::registry) struct RepairPass<'a> {
    pub(super) registry: &'a Registry,
    pub(super) records: Known<'a>,
    /// None while data of an older version is taken over: nothing is broken then.
    recorders: Option<&'a Recorders>,
    /// Steps that were carried out.
    pub(super) done: usize,
    /// Records that were looked at since the thread was given back.
    looked_at: usize,
    /// What objects use, by storage key.
    uses: HashMap<String, Arc<Uses>>,
    /// How many trees were read.
    pub(super) read: usize,
    /// The ranges of addresses when they were last read.
    pub(super) ranges: Vec<Cidr>,
}

pub(super) struct Recorders {
    pub(super) addresses: Recorder,
    pub(super) ports: Recorder,
}

/// What an object uses that has a record.
pub(super) struct Uses {
    version: u64,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ports: BTreeSet<u16>,
    pub(super) subnets: Vec<Cidr>,
}

/// What a pass does about a record, and the events that follow once that is done. There may be nothing to do
/// but events.
#[derive(Default)]
pub(super) struct RepairStep {
    pub(super) claims: Claims,
    pub(super) notices: Vec<Notice>,
}

/// An event to be.
pub(super) struct Notice {
    pub(super) about: ObjectReference,
    pub(super) action: EventAction,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What was being done: upstream's `action` of the event.
#[derive(Clone, Copy)]
pub(super) enum EventAction {
    ClusterIp,
    IpAddress,
    Port,
}

impl<'a> RepairPass<'a> {
    pub(super) fn new(registry: &'a Registry, recorders: Option<&'a Recorders>) -> Self {
        RepairPass {
            registry,
            records: registry.records(),
            recorders,
            done: 0,
            looked_at: 0,
            uses: HashMap::new(),
            read: 0,
            ranges: Vec::new(),
        }
    }

    /// Carries a step out while an object is at a version (0: not there), and tells of it. What has changed
    /// meanwhile is for the next pass, and there are no events of what did not come about.
    pub(super) async fn carry_out(
        &mut self,
        object: String,
        version: u64,
        step: RepairStep,
    ) -> Result<(), StoreError> {
        if !step.claims.is_empty() {
            let mut compares = vec![Compare::mod_revision(object, version)];
            compares.extend_from_slice(step.claims.conditions());
            let txn = Txn {
                compares,
                success: step.claims.writes().to_vec(),
                failure: Vec::new(),
                durability: Durability::Synced,
                may_use_reserve: true,
            };
            if !self.registry.store.txn(txn).await?.succeeded {
                return Ok(());
            }
            self.done += 1;
        }
        step.notices.into_iter().for_each(|notice| self.tell(notice));
        Ok(())
    }

    fn tell(&self, notice: Notice) {
        let Some(recorders) = self.recorders else { return };
        let (recorder, action) = match notice.action {
            EventAction::ClusterIp => (&recorders.addresses, "ClusterIPAllocation"),
            EventAction::IpAddress => (&recorders.addresses, "IPAddressAllocation"),
            EventAction::Port => (&recorders.ports, "PortAllocation"),
        };
        let Notice { about, reason, message, .. } = notice;
        recorder.event_with_action(&about, EventType::Warning, reason, action, message);
    }

    /// Counts a record that is looked at, and gives the thread back when it was many.
    pub(super) async fn pause(&mut self) {
        self.looked_at += 1;
        if self.looked_at == RECORDS_AT_ONCE {
            self.looked_at = 0;
            tokio::task::yield_now().await;
        }
    }

    /// The object of a kind, as it is cached.
    pub(super) fn object(&self, row: &KindRow, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        self.registry.caches.get(row, namespace, name)
    }

    /// What a service or node uses; none if it cannot be read.
    pub(super) fn uses(&mut self, row: &KindRow, object: &Object) -> Option<Arc<Uses>> {
        let key = row.storage_key(object.namespace(), object.name())?;
        let version = object.resource_version();
        if let Some(known) = self.uses.get(&key).filter(|known| known.version == version) {
            return Some(known.clone());
        }
        self.read += 1;
        let tree = object.tree_without_managed_fields().ok()?;
        let is_service = row.plural == SERVICE.plural;
        let uses = Arc::new(Uses {
            version,
            addresses: if is_service { allocate::addresses_of(&tree) } else { Vec::new() },
            ports: if is_service { allocate::ports_of(&tree) } else { BTreeSet::new() },
            subnets: if is_service { Vec::new() } else { pod_ranges::ranges_of(&tree) },
        });
        self.uses.insert(key, uses.clone());
        Some(uses)
    }

    /// What the service of this name uses, if there is one.
    pub(super) fn used_by(&mut self, namespace: &str, service: &str) -> Option<Arc<Uses>> {
        let object = self.object(&SERVICE, namespace, service)?;
        self.uses(&SERVICE, &object)
    }
}
