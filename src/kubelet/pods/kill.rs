//! Stopping containers and sandboxes, with grace: preStop hook, stop signal, and the end when the time is over. Sidecars
//! stop after the containers they serve, last started first.

use std::time::Duration;

use client::events::EventType;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::hooks;
use crate::context::Context;
use crate::runtime::state::{ContainerPhase, ContainerRecord, PodRuntime};
use crate::runtime::{Cri, RuntimeError};
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

fn is_gone(error: &RuntimeError) -> bool {
    error.is_not_found()
}

/// Stops one container; no error if it is gone.
pub(crate) async fn container(
    context: &Context,
    pod: Option<&Pod>,
    runtime: &PodRuntime,
    record: &ContainerRecord,
    message: &str,
    grace: Duration,
) -> Result<(), RuntimeError> {
    if let Some(pod) = pod {
        context.container_event(pod, &record.name, EventType::Normal, "Killing", message);
    }
    let began = Instant::now();
    let definition = pod.and_then(|pod| pod.find_container(&record.name));
    let hook = definition.and_then(|one| one.lifecycle.as_ref()).and_then(|one| one.pre_stop.as_ref());
    if let (Some(pod), Some(definition), Some(hook)) = (pod, definition, hook)
        && record.phase == ContainerPhase::Running
    {
        let ip =
            runtime.sandboxes.first().and_then(|sandbox| sandbox.ips.first()).and_then(|ip| ip.parse().ok());
        let run = hooks::run(&context.cri, hook, definition, &record.id, ip, grace);
        let failed = match tokio::time::timeout(grace, run).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some("the grace period is over".to_string()),
        };
        if let Some(error) = failed {
            let message = format!("PreStopHook failed: {error}");
            context.container_event(pod, &record.name, EventType::Warning, "FailedPreStopHook", message);
        }
    }
    let left = grace.saturating_sub(began.elapsed()).max(LEAST);
    match context.cri.stop_container(&record.id, left).await {
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Stops all containers of a pod, together but for sidecars.
pub(crate) async fn containers(
    context: &Context,
    pod: Option<&Pod>,
    runtime: &PodRuntime,
    grace: Duration,
) -> Result<(), RuntimeError> {
    let began = Instant::now();
    let (mut sidecars, main): (Vec<&ContainerRecord>, Vec<&ContainerRecord>) = runtime
        .containers
        .iter()
        .filter(|one| {
            matches!(one.phase, ContainerPhase::Running | ContainerPhase::Unknown | ContainerPhase::Created)
        })
        .partition(|one| pod.and_then(|pod| pod.find_container(&one.name)).is_some_and(is_sidecar));
    let stop = |record, grace| async move {
        let record: &ContainerRecord = record;
        if record.phase == ContainerPhase::Created {
            return Ok(());
        }
        let message = format!("Stopping container {}", record.name);
        container(context, pod, runtime, record, &message, grace).await
    };
    let mut outcomes = join_all(main.into_iter().map(|record| stop(record, grace))).await;
    let order = |record: &&ContainerRecord| {
        pod.map_or(0, |pod| pod.init_containers().iter().position(|one| one.name == record.name).unwrap_or(0))
    };
    sidecars.sort_by_key(|record| std::cmp::Reverse(order(record)));
    for record in sidecars {
        outcomes.push(stop(record, grace.saturating_sub(began.elapsed())).await);
    }
    outcomes.into_iter().collect()
}

/// Stops a pod's sandboxes, which frees their network.
pub(crate) async fn sandboxes(cri: &Cri, runtime: &PodRuntime) -> Result<(), RuntimeError> {
    for sandbox in &runtime.sandboxes {
        match cri.stop_sandbox(&sandbox.id).await {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes everything of a pod from the runtime.
pub(crate) async fn remove(cri: &Cri, runtime: &PodRuntime) -> Result<(), RuntimeError> {
    for record in &runtime.containers {
        match cri.remove_container(&record.id).await {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
    }
    for sandbox in &runtime.sandboxes {
        match cri.remove_sandbox(&sandbox.id).await {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
