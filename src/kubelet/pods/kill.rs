//! Stopping containers and sandboxes, with grace: preStop hook, stop signal, and the end when the time is
//! over. Sidecars stop after the containers they serve, last started first.

use std::sync::Arc;
use std::time::Duration;

use client::events::EventType;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::hooks::{self, HookError};
use crate::events::PodEvents;
use crate::runtime::state::{ContainerPhase, ContainerRecord, PodRuntime};
use crate::runtime::{Runtime, RuntimeError};
use crate::spec::{PodExt, is_sidecar};

/// A container has at least this long to end after its stop signal.
const LEAST: Duration = Duration::from_secs(2);

/// How long a pod's containers have to end.
pub(crate) fn grace_of(pod: Option<&Pod>, record: Option<&ContainerRecord>) -> Duration {
    let seconds = match pod {
        Some(pod) => pod
            .metadata
            .deletion_grace_period_seconds
            .filter(|_| pod.is_deleted())
            .or(pod.spec_ref().termination_grace_period_seconds),
        None => record.and_then(|record| record.grace),
    };
    Duration::from_secs(u64::try_from(seconds.unwrap_or(30)).unwrap_or(0).max(1))
}

fn unless_gone(outcome: Result<(), RuntimeError>) -> Result<(), RuntimeError> {
    match outcome {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome,
    }
}

/// Stops and removes what runs. Clones do the same.
#[derive(Clone)]
pub(crate) struct Killer {
    runtime: Arc<dyn Runtime>,
    events: PodEvents,
}

impl Killer {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, events: PodEvents) -> Self {
        Killer { runtime, events }
    }

    /// Stops one container; no error if it is gone.
    pub(crate) async fn container(
        &self,
        pod: Option<&Pod>,
        state: &PodRuntime,
        record: &ContainerRecord,
        message: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        if let Some(pod) = pod {
            self.events.container(pod, &record.name, EventType::Normal, "Killing", message);
        }
        let began = Instant::now();
        self.pre_stop(pod, state, record, grace).await;
        let left = grace.saturating_sub(began.elapsed()).max(LEAST);
        unless_gone(self.runtime.stop_container(&record.id, left).await)
    }

    /// Runs the container's preStop hook, which has the pod's grace. What it fails with is told and stops
    /// nothing.
    async fn pre_stop(
        &self,
        pod: Option<&Pod>,
        state: &PodRuntime,
        record: &ContainerRecord,
        grace: Duration,
    ) {
        let Some(pod) = pod.filter(|_| record.phase == ContainerPhase::Running) else { return };
        let Some(definition) = pod.find_container(&record.name) else { return };
        let hook = definition.lifecycle.as_ref().and_then(|one| one.pre_stop.as_ref());
        let Some(hook) = hook else { return };
        let ip =
            state.sandboxes.first().and_then(|sandbox| sandbox.ips.first()).and_then(|ip| ip.parse().ok());
        let run = hooks::run(&*self.runtime, hook, definition, &record.id, ip, Some(grace));
        let failed = match tokio::time::timeout(grace, run).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => HookError::Timeout,
        };
        let message = format!("PreStopHook failed: {failed}");
        self.events.container(pod, &record.name, EventType::Warning, "FailedPreStopHook", message);
    }

    /// Stops all containers of a pod, together but for sidecars.
    pub(crate) async fn containers(
        &self,
        pod: Option<&Pod>,
        state: &PodRuntime,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        let began = Instant::now();
        let (mut sidecars, main): (Vec<&ContainerRecord>, Vec<&ContainerRecord>) = state
            .containers
            .iter()
            .filter(|one| matches!(one.phase, ContainerPhase::Running | ContainerPhase::Unknown))
            .partition(|one| pod.and_then(|pod| pod.find_container(&one.name)).is_some_and(is_sidecar));
        let stop = |record, grace| async move {
            let record: &ContainerRecord = record;
            let message = format!("Stopping container {}", record.name);
            self.container(pod, state, record, &message, grace).await
        };
        let mut outcomes = join_all(main.into_iter().map(|record| stop(record, grace))).await;
        let order = |record: &&ContainerRecord| {
            pod.map_or(0, |pod| {
                pod.init_containers().iter().position(|one| one.name == record.name).unwrap_or(0)
            })
        };
        sidecars.sort_by_key(|record| std::cmp::Reverse(order(record)));
        for record in sidecars {
            outcomes.push(stop(record, grace.saturating_sub(began.elapsed())).await);
        }
        outcomes.into_iter().collect()
    }

    /// Stops a pod's sandboxes, which frees their network.
    pub(crate) async fn sandboxes(&self, state: &PodRuntime) -> Result<(), RuntimeError> {
        for sandbox in &state.sandboxes {
            unless_gone(self.runtime.stop_sandbox(&sandbox.id).await)?;
        }
        Ok(())
    }

    /// Removes everything of a pod from the runtime.
    pub(crate) async fn remove(&self, state: &PodRuntime) -> Result<(), RuntimeError> {
        for record in &state.containers {
            unless_gone(self.runtime.remove_container(&record.id).await)?;
        }
        for sandbox in &state.sandboxes {
            unless_gone(self.runtime.remove_sandbox(&sandbox.id).await)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
