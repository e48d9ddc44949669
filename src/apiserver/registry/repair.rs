//! Repair of claims: every service and node has the records of what it uses, and no record is without its
//! object.
//!
//! A write carries its claims in its own transaction, so nothing that the API server does leaves them apart.
//! What remains is what others do: a hand in the store, a user who deletes an `IPAddress`, and data of a
//! version that knew no claims ([`Registry::take_over`]). Each step is one transaction that holds only while
//! the object is as it was looked at, so a repair never undoes a write that overtakes it, however many
//! servers repair at once.
//!
//! The reasons and texts of events are those of upstream's `ipallocator` and `portallocator` repair
//! controllers.

mod nodes;
mod services;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::kinds::{IP_ADDRESS, NODE, SERVICE};
use api::{KindRow, Object, WatchEvent, WatchOptions};
use bytes::Bytes;
use client::events::{EventType, Recorder};
use client::{EventStream, ObjectApi};
use embedded_store::{Compare, Durability, StoreError, Txn};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use supervisor::Stage;
use tokio::time::MissedTickBehavior;

use super::Registry;
use super::claim::Known;
use crate::claims::{CLAIMS, Claims, Records};

/// How often everything is looked at, as upstream does.
const INTERVAL: Duration = Duration::from_secs(180);

/// What a look at everything knows and tells.
pub(super) struct Look<'a> {
    registry: &'a Registry,
    records: Known<'a>,
    /// None while data of an older version is taken over: nothing is broken then.
    recorders: Option<&'a Recorders>,
    /// Steps that were carried out.
    done: usize,
}

struct Recorders {
    addresses: Recorder,
    ports: Recorder,
}

/// Records that seem to belong to nothing, at which revision.
type Suspects = HashMap<Bytes, u64>;

impl<'a> Look<'a> {
    fn new(registry: &'a Registry, recorders: Option<&'a Recorders>) -> Self {
        Look { registry, records: registry.records(), recorders, done: 0 }
    }

    fn about_address(&self, object: &ObjectReference, reason: &str, action: &str, message: String) {
        if let Some(recorders) = self.recorders {
            recorders.addresses.event_with_action(object, EventType::Warning, reason, action, message);
        }
    }

    fn about_port(&self, object: &ObjectReference, reason: &str, message: String) {
        if let Some(recorders) = self.recorders {
            let action = "PortAllocation";
            recorders.ports.event_with_action(object, EventType::Warning, reason, action, message);
        }
    }

    /// Carries claims out while an object is at a version (0: not there). What has changed meanwhile is for
    /// the next look.
    async fn carry_out(&mut self, object: String, version: u64, claims: &Claims) -> Result<bool, StoreError> {
        let mut compares = vec![Compare::mod_revision(object, version)];
        compares.extend_from_slice(claims.conditions());
        let txn = Txn {
            compares,
            success: claims.writes().to_vec(),
            failure: Vec::new(),
            durability: Durability::Synced,
        };
        let result = self.registry.store.txn(txn).await?;
        self.done += usize::from(result.succeeded);
        Ok(result.succeeded)
    }

    /// The object of a kind, as it is cached.
    fn object(&self, row: &KindRow, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        self.registry.caches.get(row, namespace, name)
    }

    /// Gives every service and node the records that it lacks.
    async fn complete(&mut self) -> Result<(), StoreError> {
        for service in self.registry.caches.list(&SERVICE, None) {
            self.check_service(&service).await?;
        }
        for node in self.registry.caches.list(&NODE, None) {
            self.check_node(&node).await?;
        }
        Ok(())
    }

    /// Takes away records that belong to nothing; those that are no objects only if they did the last time,
    /// too.
    async fn clean_up(&mut self, suspects: &mut Suspects) -> Result<(), StoreError> {
        for address in self.registry.caches.list(&IP_ADDRESS, None) {
            self.check_address(&address).await?;
        }
        let mut seen = Suspects::new();
        for record in self.records.below(CLAIMS) {
            let Some((object, version)) = self.left_by(&record) else { continue };
            if suspects.get(&record.key) != Some(&record.revision) {
                seen.insert(record.key.clone(), record.revision);
                continue;
            }
            let key = String::from_utf8_lossy(&record.key);
            tracing::warn!(%key, "a claim appears to have leaked: cleaning up");
            let mut claims = Claims::default();
            claims.release(&record);
            self.carry_out(object, version, &claims).await?;
        }
        *suspects = seen;
        Ok(())
    }
}

impl Registry {
    /// Gives services and nodes of a version that knew no claims the records that they lack.
    pub(crate) async fn take_over(&self) -> Result<(), StoreError> {
        let mut look = Look::new(self, None);
        if self.caches.list(&SERVICE, None).is_empty() && self.caches.list(&NODE, None).is_empty() {
            return Ok(());
        }
        let prefix = IP_ADDRESS.storage_prefix(None).unwrap_or_default();
        let is_known = !look.records.below(CLAIMS).is_empty() || !look.records.below(&prefix).is_empty();
        if is_known {
            return Ok(());
        }
        look.complete().await?;
        tracing::info!(records = look.done, "services and nodes of an earlier version are taken over");
        Ok(())
    }
}

/// Repairs for as long as the server runs: at once what an `IPAddress` tells of, everything else now and
/// then.
pub(crate) async fn run(registry: Arc<Registry>, api: Arc<dyn ObjectApi>, stage: Stage) {
    let recorders = Recorders {
        addresses: Recorder::new(api.clone(), &stage, "ipallocator-repair-controller", None),
        ports: Recorder::new(api.clone(), &stage, "portallocator-repair-controller", None),
    };
    let mut suspects = Suspects::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut events: Option<EventStream> = None;
    loop {
        let mut look = Look::new(&registry, Some(&recorders));
        let done = tokio::select! {
            _ = ticks.tick() => {
                if events.is_none() {
                    // What changes while everything is looked at is told afterwards.
                    events = api.watch(&IP_ADDRESS, None, &WatchOptions::default()).await.ok();
                }
                pass(&mut look, &mut suspects).await
            }
            event = next(&mut events) => match event {
                Some(event) => look.told(event).await,
                None => {
                    events = None;
                    Ok(())
                }
            },
        };
        if let Err(error) = done {
            tracing::warn!(%error, "claims could not be repaired; this is tried again");
        }
    }
}

async fn pass(look: &mut Look<'_>, suspects: &mut Suspects) -> Result<(), StoreError> {
    look.complete().await?;
    look.clean_up(suspects).await
}

/// The next message; none if there is no more. Without a watch there is never one.
async fn next(events: &mut Option<EventStream>) -> Option<WatchEvent> {
    match events {
        Some(events) => events.next().await.filter(|event| !matches!(event, WatchEvent::Error(_))),
        None => std::future::pending().await,
    }
}

impl Look<'_> {
    async fn told(&mut self, event: WatchEvent) -> Result<(), StoreError> {
        match event {
            // As it is now: what the event tells may be long gone, by a deletion that took its service with
            // it.
            WatchEvent::Added(told) | WatchEvent::Modified(told) => {
                match self.object(&IP_ADDRESS, "", told.name()) {
                    Some(address) => self.check_address(&address).await,
                    None => Ok(()),
                }
            }
            WatchEvent::Deleted(address) => {
                for service in self.registry.caches.indexed(&SERVICE, "spec.clusterIP", address.name()) {
                    self.check_service(&service).await?;
                }
                Ok(())
            }
            WatchEvent::Bookmark { .. } | WatchEvent::Error(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
