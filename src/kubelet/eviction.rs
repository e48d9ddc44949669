//! Pods that must go because the node, or they themselves, ran out of something.
//!
//! Memory, disk, inodes and process numbers are looked at every ten seconds; pods are measured only if one
//! of them is short, or if a pod has a limit on local storage. A shortage first becomes a condition of the
//! node, which holds for five minutes after it was last seen. Of the disk, unused images are given up
//! first; then one pod at a time goes, in upstream's order ([`rank`]), with a second to end. Absent: soft
//! thresholds, and thresholds that can be set; a file system of images alone.

pub(crate) mod rank;

use std::sync::Arc;
use std::time::Duration;

use client::events::{EventType, Recorder};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::events::PodEvents;
use crate::files;
use crate::host::Host;
use crate::images::collect::Collector;
use crate::images::import::node_reference;
use crate::pods::admit::pressure::Pressure;
use crate::spec::PodExt;
use crate::stats::{Measured, PodMeasured, Stats, everybody};
use crate::wake::{Ending, Wakers};
use rank::Starved;

const PERIOD: Duration = Duration::from_secs(10);
/// Upstream's `evictionPressureTransitionPeriod`.
const HOLDS: Duration = Duration::from_secs(300);
/// Upstream's hard thresholds.
const LEAST_MEMORY: u64 = 100 * 1024 * 1024;
const LEAST_DISK_PERCENT: u64 = 10;
const LEAST_INODES_PERCENT: u64 = 5;
const LEAST_PIDS_PERCENT: u64 = 10;

/// A threshold that is met: what is short, how little there may be and how little there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) of: Starved,
    pub(crate) threshold: String,
    pub(crate) available: String,
}

/// Whoever looks after the node.
pub(crate) struct Evictor {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) stats: Stats,
    pub(crate) wakers: Wakers,
    pub(crate) events: PodEvents,
    pub(crate) recorder: Recorder,
    /// None on a node without images of its own.
    pub(crate) collector: Option<Arc<Collector>>,
    pub(crate) pressure: watch::Sender<Pressure>,
    pub(crate) last: LastSeen,
}

/// When which shortage was seen last.
#[derive(Default)]
pub(crate) struct LastSeen {
    memory: Option<Instant>,
    disk: Option<Instant>,
    pids: Option<Instant>,
}

pub(crate) async fn run(mut evictor: Evictor) {
    loop {
        evictor.look().await;
        tokio::time::sleep(PERIOD).await;
    }
}

impl Evictor {
    /// One look at the node; at most one pod goes for the node's sake.
    pub(crate) async fn look(&mut self) {
        let shortages = self.shortages().await;
        self.note(&shortages);
        let limited = self.stats.pods.list().iter().any(|pod| rank::has_storage_limit(pod));
        if shortages.is_empty() && !limited {
            return;
        }
        // Without a shortage only limits are looked at.
        let which = if shortages.is_empty() { rank::has_storage_limit } else { everybody };
        let measured = match self.stats.measure_once(which).await {
            Ok(measured) => measured,
            Err(error) => {
                tracing::debug!(%error, "pods are not measured, so none is evicted");
                return;
            }
        };
        let mut evicted = false;
        for pod in measured.pods.iter().filter(|one| can_go(&one.pod)) {
            if let Some(message) = rank::exceeded(pod) {
                evicted |= self.evict(&pod.pod, message, false);
            }
        }
        if evicted || shortages.is_empty() || self.somebody_is_going() {
            return;
        }
        self.relieve(shortages, &measured).await;
    }

    async fn shortages(&self) -> Vec<Shortage> {
        let (host, place) = (self.host.clone(), self.stats.settings.data_dir.clone());
        let (disk, memory, processes) =
            files::blocking(move || (host.disk(&place), host.available_memory(), host.processes())).await;
        let mut all = Vec::new();
        let mut add = |of, threshold: String, available: String| {
            all.push(Shortage { of, threshold, available });
        };
        if memory < LEAST_MEMORY {
            add(Starved::Memory, "100Mi".to_string(), rank::bytes(memory));
        }
        let part = |of: u64, percent: u64| of.saturating_mul(percent) / 100;
        if let Some(disk) = disk {
            if disk.usable > 0 && disk.available < part(disk.usable, LEAST_DISK_PERCENT) {
                let threshold = rank::bytes(part(disk.usable, LEAST_DISK_PERCENT));
                add(Starved::Disk, threshold, rank::bytes(disk.available));
            }
            if disk.inodes > 0 && disk.inodes_free < part(disk.inodes, LEAST_INODES_PERCENT) {
                let threshold = part(disk.inodes, LEAST_INODES_PERCENT).to_string();
                add(Starved::Inodes, threshold, disk.inodes_free.to_string());
            }
        }
        if let Some((running, most)) = processes {
            let free = most.saturating_sub(running);
            if free < part(most, LEAST_PIDS_PERCENT) {
                add(Starved::Pids, part(most, LEAST_PIDS_PERCENT).to_string(), free.to_string());
            }
        }
        all
    }

    /// Brings the node's conditions up to date.
    fn note(&mut self, shortages: &[Shortage]) {
        let now = Instant::now();
        let is_short = |kinds: &[Starved]| shortages.iter().any(|one| kinds.contains(&one.of));
        let holds = |last: &mut Option<Instant>, is_short: bool| {
            if is_short {
                *last = Some(now);
            }
            last.is_some_and(|at| now.duration_since(at) < HOLDS)
        };
        let pressure = Pressure {
            memory: holds(&mut self.last.memory, is_short(&[Starved::Memory])),
            disk: holds(&mut self.last.disk, is_short(&[Starved::Disk, Starved::Inodes])),
            pids: holds(&mut self.last.pids, is_short(&[Starved::Pids])),
        };
        self.pressure.send_if_modified(|old| std::mem::replace(old, pressure) != pressure);
    }

    /// Whether a pod ends already because of an earlier look: what it gives back may be enough.
    fn somebody_is_going(&self) -> bool {
        let is_going =
            |mail: crate::wake::Mail| mail.ending.is_some() && !mail.pod.is_some_and(|pod| pod.is_finished());
        self.wakers.all().iter().any(|mailbox| is_going(mailbox.read()))
    }

    /// Gives up images, and then a pod, for the most urgent shortage.
    async fn relieve(&self, shortages: Vec<Shortage>, measured: &Measured) {
        // Memory first, as upstream has it: without it nothing else can be done.
        let Some(worst) = shortages.into_iter().min_by_key(|one| one.of) else { return };
        let resource = worst.of.resource();
        let node = node_reference(&self.stats.settings.node_name);
        let attempt = format!("Attempting to reclaim {resource}");
        self.recorder.event(&node, EventType::Warning, "EvictionThresholdMet", attempt);
        if matches!(worst.of, Starved::Disk | Starved::Inodes)
            && let Some(collector) = &self.collector
        {
            match collector.give_up_unused().await {
                Ok(0) => {}
                Ok(_) if !self.shortages().await.iter().any(|one| one.of == worst.of) => return,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "images are not given up"),
            }
        }
        let candidates: Vec<&PodMeasured> = measured.pods.iter().filter(|one| can_go(&one.pod)).collect();
        let Some(first) = rank::first(candidates, worst.of) else {
            tracing::warn!(resource, "the node is short of something, and no pod can be evicted");
            return;
        };
        self.evict(&first.pod, rank::message(first, &worst), true);
    }

    /// Tells the pod's worker to end it.
    fn evict(&self, pod: &Pod, message: String, is_disruption: bool) -> bool {
        let Some(mailbox) = self.wakers.get(pod.uid()) else { return false };
        if mailbox.read().ending.is_some() {
            return false;
        }
        self.events.pod(pod, EventType::Warning, "Evicted", message.clone());
        let ending =
            Ending { reason: "Evicted".to_string(), message, is_disruption, grace: Duration::from_secs(1) };
        mailbox.end(ending);
        true
    }
}

/// Static pods and those of the system's priorities stay.
fn can_go(pod: &Pod) -> bool {
    !pod.is_deleted() && !pod.is_finished() && !pod.is_critical()
}

#[cfg(test)]
mod tests;
