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
mod pass;
mod services;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::kinds::{IP_ADDRESS, NODE, SERVICE};
use api::{WatchEvent, WatchOptions};
use bytes::Bytes;
use client::events::Recorder;
use client::{EventStream, ObjectApi};
use embedded_store::StoreError;
use futures::StreamExt;
use supervisor::Stage;
use tokio::time::MissedTickBehavior;

use super::Registry;
use super::strategies::ip_address;
use crate::claims::CLAIMS;
use pass::{Recorders, RepairPass, RepairStep};

/// How often everything is looked at, as upstream does.
const INTERVAL: Duration = Duration::from_secs(180);
/// How many records are read at once.
const PAGE: usize = 1000;

/// Records that seem to belong to nothing, at which revision.
type Suspects = HashMap<Bytes, u64>;

impl RepairPass<'_> {
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
            self.pause().await;
            self.check_address(&address).await?;
        }
        let mut seen = Suspects::new();
        let mut page = self.records.page(CLAIMS, None, PAGE);
        while let Some(last) = page.last().map(|record| record.key.clone()) {
            for record in page {
                self.pause().await;
                let Some((object, version)) = self.left_by(&record) else { continue };
                if suspects.get(&record.key) != Some(&record.revision) {
                    seen.insert(record.key.clone(), record.revision);
                    continue;
                }
                let key = String::from_utf8_lossy(&record.key);
                tracing::warn!(%key, "a claim appears to have leaked: cleaning up");
                let mut step = RepairStep::default();
                step.claims.release(&record);
                self.carry_out(object, version, step).await?;
            }
            page = self.records.page(CLAIMS, Some(&last), PAGE);
        }
        *suspects = seen;
        Ok(())
    }
}

impl Registry {
    /// Gives services and nodes of a version that knew no claims the records that they lack.
    pub(crate) async fn take_over(&self) -> Result<(), StoreError> {
        let mut pass = RepairPass::new(self, None);
        if self.caches.list(&SERVICE, None).is_empty() && self.caches.list(&NODE, None).is_empty() {
            return Ok(());
        }
        let prefix = IP_ADDRESS.storage_prefix(None).unwrap_or_default();
        let is_there = |prefix: &str| !pass.records.page(prefix, None, 1).is_empty();
        let is_known = is_there(CLAIMS) || is_there(&prefix);
        if is_known {
            return Ok(());
        }
        pass.complete().await?;
        tracing::info!(records = pass.done, "services and nodes of an earlier version are taken over");
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
        let mut pass = RepairPass::new(&registry, Some(&recorders));
        let done = tokio::select! {
            _ = ticks.tick() => {
                if events.is_none() {
                    // What changes while everything is looked at is told afterwards.
                    events = api.watch(&IP_ADDRESS, None, &WatchOptions::default()).await.ok();
                }
                run_pass(&mut pass, &mut suspects).await
            }
            event = next(&mut events) => match event {
                Some(event) => pass.told(event).await,
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

async fn run_pass(pass: &mut RepairPass<'_>, suspects: &mut Suspects) -> Result<(), StoreError> {
    pass.complete().await?;
    pass.clean_up(suspects).await
}

/// The next message; none if there is no more. Without a watch there is never one.
async fn next(events: &mut Option<EventStream>) -> Option<WatchEvent> {
    match events {
        Some(events) => events.next().await.filter(|event| !matches!(event, WatchEvent::Error(_))),
        None => std::future::pending().await,
    }
}

impl RepairPass<'_> {
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
                let mut services = self.registry.caches.indexed(&SERVICE, "spec.clusterIP", address.name());
                // The index has first addresses only: a second one names its service itself.
                let tree = address.tree_without_managed_fields().unwrap_or_default();
                let parent = ip_address::parent_service(&tree);
                services
                    .extend(parent.and_then(|(namespace, name)| self.object(&SERVICE, &namespace, &name)));
                services.dedup_by_key(|service| service.uid().to_string());
                for service in services {
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
