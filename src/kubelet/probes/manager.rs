//! Which probes run, and what they found. A probe's task lives as long as the container instance it probes.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use client::events::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, PodStatus, Probe};
use parking_lot::Mutex;
use supervisor::{CancellationToken, OnExit, Stage};
use tokio::sync::Notify;

use super::prober::{Finding, Prober, Target};
use super::{ProbeKind, ProbeOutcome, ProbeView};
use crate::events::{PodEvents, reference_to_container};
use crate::runtime::state::{ContainerRecord, PodRuntime, time};
use crate::spec::{PodExt, is_sidecar};
use crate::wake::{WakeReason, Wakers};

#[derive(Clone)]
pub(crate) struct ProbeManager {
    inner: Arc<Inner>,
}

struct Inner {
    prober: Arc<dyn Prober>,
    stage: Stage,
    wakers: Wakers,
    events: PodEvents,
    findings: Mutex<HashMap<(ProbeKind, String), ProbeOutcome>>,
    /// How often which probe had which result, by pod uid.
    counts: Mutex<HashMap<String, Counts>>,
    /// By pod uid, then by container id.
    running: Mutex<HashMap<String, HashMap<String, Running>>>,
}

/// By a metric's labels.
type Counts = BTreeMap<String, u64>;

struct Running {
    stop: CancellationToken,
    /// Ends liveness and startup probes only.
    stop_health: CancellationToken,
    started: Arc<Notify>,
}

impl ProbeView for ProbeManager {
    fn outcome(&self, kind: ProbeKind, container: &str) -> Option<ProbeOutcome> {
        self.inner.findings.lock().get(&(kind, container.to_string())).copied()
    }
}

fn probes(container: &Container) -> impl Iterator<Item = (ProbeKind, &Probe)> {
    [
        (ProbeKind::Startup, container.startup_probe.as_ref()),
        (ProbeKind::Liveness, container.liveness_probe.as_ref()),
        (ProbeKind::Readiness, container.readiness_probe.as_ref()),
    ]
    .into_iter()
    .filter_map(|(kind, probe)| Some((kind, probe?)))
}

impl ProbeManager {
    pub(crate) fn new(prober: Arc<dyn Prober>, stage: Stage, wakers: Wakers, events: PodEvents) -> Self {
        let (findings, counts, running) = (Mutex::default(), Mutex::default(), Mutex::default());
        ProbeManager { inner: Arc::new(Inner { prober, stage, wakers, events, findings, counts, running }) }
    }

    /// Starts probes of containers that run, ends those of containers that do not. `known` is the status that
    /// the API has: a container that was ready before this process began stays so until a probe says
    /// otherwise.
    pub(crate) fn update(&self, pod: &Pod, runtime: &PodRuntime, known: &PodStatus) {
        let mut all = self.inner.running.lock();
        let of_pod = all.entry(pod.uid().to_string()).or_default();
        of_pod.retain(|id, running| {
            let alive = runtime.running().any(|record| record.id == *id);
            if !alive {
                running.stop.cancel();
                self.inner.forget(id);
            }
            alive
        });
        let sidecars = pod.init_containers().iter().filter(|one| is_sidecar(one));
        for container in pod.containers().iter().chain(sidecars) {
            let record = runtime.running().find(|record| record.name == container.name);
            let Some(record) = record.filter(|record| !of_pod.contains_key(&record.id)) else { continue };
            if probes(container).next().is_some() {
                of_pod.insert(record.id.clone(), self.begin(pod, container, record, runtime, known));
            }
        }
        if of_pod.is_empty() {
            all.remove(pod.uid());
        }
    }

    /// Ends the probes for which a pod's containers are killed: it is being stopped already. Readiness goes
    /// on being probed, so that endpoints tell which of the pods that end still serve.
    pub(crate) fn stop_health(&self, uid: &str) {
        for running in self.inner.running.lock().get(uid).into_iter().flat_map(HashMap::values) {
            running.stop_health.cancel();
        }
    }

    /// Ends all probes of a pod, whose containers run no more.
    pub(crate) fn remove(&self, uid: &str) {
        self.inner.counts.lock().remove(uid);
        for (id, running) in self.inner.running.lock().remove(uid).unwrap_or_default() {
            running.stop.cancel();
            self.inner.forget(&id);
        }
    }

    fn begin(
        &self,
        pod: &Pod,
        container: &Container,
        record: &ContainerRecord,
        runtime: &PodRuntime,
        known: &PodStatus,
    ) -> Running {
        let id = format!("containerd://{}", record.id);
        let lists = [&known.container_statuses, &known.init_container_statuses];
        let mut before = lists.into_iter().flat_map(|list| list.iter().flatten());
        let was = before.find(|one| one.container_id.as_ref() == Some(&id));
        let stop = CancellationToken::new();
        let stop_health = stop.child_token();
        let running = Running { stop, stop_health, started: Arc::new(Notify::new()) };
        let ip = match runtime.sandboxes.first().and_then(|sandbox| sandbox.ips.first()) {
            Some(ip) if !pod.host_network() => ip.parse().ok(),
            _ => None,
        };
        for (kind, probe) in probes(container) {
            // Until told otherwise a container is alive and not ready.
            let initially = match kind {
                ProbeKind::Liveness => Some(ProbeOutcome::Success),
                ProbeKind::Readiness if was.is_some_and(|was| was.ready) => Some(ProbeOutcome::Success),
                ProbeKind::Readiness => Some(ProbeOutcome::Failure),
                ProbeKind::Startup => {
                    was.filter(|was| was.started == Some(true)).map(|_| ProbeOutcome::Success)
                }
            };
            if let Some(outcome) = initially {
                self.inner.findings.lock().insert((kind, record.id.clone()), outcome);
            }
            if (kind, initially) == (ProbeKind::Startup, Some(ProbeOutcome::Success)) {
                continue;
            }
            let task = Task {
                manager: self.clone(),
                kind,
                probe: probe.clone(),
                uid: pod.uid().to_string(),
                target: Target { container: container.clone(), id: record.id.clone(), ip },
                reference: reference_to_container(pod, &container.name),
                since: time(record.started_at),
                waits_for_startup: container.startup_probe.is_some() && kind != ProbeKind::Startup,
                started: running.started.clone(),
            };
            let stop = match kind {
                ProbeKind::Readiness => running.stop.clone(),
                ProbeKind::Startup | ProbeKind::Liveness => running.stop_health.clone(),
            };
            self.inner.stage.spawn_cancellable("probe", OnExit::Done, async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = task.run() => {}
                }
            });
        }
        running
    }

    /// How often probes had which results, in Prometheus' text form.
    pub(crate) fn metrics(&self) -> String {
        let name = "prober_probe_total";
        let mut out = format!(
            "# HELP {name} [BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.\n\
             # TYPE {name} counter\n"
        );
        for (labels, count) in self.inner.counts.lock().values().flatten() {
            let _ = writeln!(out, "{name}{{{labels}}} {count}");
        }
        out
    }

    fn set(&self, kind: ProbeKind, uid: &str, id: &str, outcome: ProbeOutcome) {
        let before = self.inner.findings.lock().insert((kind, id.to_string()), outcome);
        if before != Some(outcome) {
            self.inner.wakers.wake(uid, WakeReason::Probe);
        }
    }
}

impl Inner {
    fn forget(&self, id: &str) {
        let mut findings = self.findings.lock();
        for kind in [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness] {
            findings.remove(&(kind, id.to_string()));
        }
    }
}

struct Task {
    manager: ProbeManager,
    kind: ProbeKind,
    probe: Probe,
    uid: String,
    target: Target,
    reference: ObjectReference,
    since: Option<Timestamp>,
    waits_for_startup: bool,
    started: Arc<Notify>,
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(
        value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default),
    )
}

impl Task {
    async fn run(self) {
        if self.waits_for_startup {
            loop {
                let started = self.started.notified();
                if self.manager.outcome(ProbeKind::Startup, &self.target.id) == Some(ProbeOutcome::Success) {
                    break;
                }
                started.await;
            }
        }
        let delay = self.probe.initial_delay_seconds.and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
        let age = self.since.map_or(Duration::ZERO, |since| {
            Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default()
        });
        tokio::time::sleep(Duration::from_secs(delay).saturating_sub(age)).await;
        let period = seconds(self.probe.period_seconds, 10);
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut last, mut streak) = (None, 0);
        loop {
            ticks.tick().await;
            let Some(outcome) = self.probe_once().await else { continue };
            streak = if last == Some(outcome) { streak + 1 } else { 1 };
            last = Some(outcome);
            let threshold = match outcome {
                ProbeOutcome::Success => self.probe.success_threshold.unwrap_or(1),
                ProbeOutcome::Failure => self.probe.failure_threshold.unwrap_or(3),
            };
            if streak < threshold.max(1) {
                continue;
            }
            self.manager.set(self.kind, &self.uid, &self.target.id, outcome);
            match (self.kind, outcome) {
                (ProbeKind::Startup, ProbeOutcome::Success) => {
                    self.started.notify_waiters();
                    return;
                }
                // The container is about to be restarted; its next instance has probes of its own.
                (ProbeKind::Startup | ProbeKind::Liveness, ProbeOutcome::Failure) => return,
                _ => {}
            }
        }
    }

    fn count(&self, finding: &Finding) {
        let result = match finding {
            Finding::Success | Finding::Warning(_) => "successful",
            Finding::Failure(_) => "failed",
            Finding::Unknown(_) => "unknown",
        };
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let labels = format!(
            "container=\"{}\",namespace=\"{}\",pod=\"{}\",pod_uid=\"{}\",probe_type=\"{}\",result=\"{result}\"",
            self.target.container.name,
            text(&self.reference.namespace),
            text(&self.reference.name),
            self.uid,
            self.kind.title(),
        );
        let mut counts = self.manager.inner.counts.lock();
        *counts.entry(self.uid.clone()).or_default().entry(labels).or_default() += 1;
    }

    /// `None` if the probe itself could not be made; that counts for nothing.
    async fn probe_once(&self) -> Option<ProbeOutcome> {
        let timeout = seconds(self.probe.timeout_seconds, 1);
        let finding = self.manager.inner.prober.probe(&self.probe, &self.target, timeout).await;
        let title = self.kind.title();
        let warn = |message: String| {
            self.manager.inner.events.of(&self.reference, EventType::Warning, "Unhealthy", message);
        };
        self.count(&finding);
        match finding {
            Finding::Success => Some(ProbeOutcome::Success),
            Finding::Warning(output) => {
                let message = format!("{title} probe warning: {output}");
                self.manager.inner.events.of(&self.reference, EventType::Warning, "ProbeWarning", message);
                Some(ProbeOutcome::Success)
            }
            Finding::Failure(output) => {
                warn(format!("{title} probe failed: {output}"));
                Some(ProbeOutcome::Failure)
            }
            Finding::Unknown(error) => {
                warn(format!("{title} probe errored and resulted in unknown state: {error}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
