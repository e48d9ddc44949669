//! The ServiceCIDR `kubernetes`: the range that the server's flags name. It is made at start, made again if
//! somebody gets rid of it, and otherwise left alone, whatever the flags say later: addresses have been given
//! out from it.

use std::sync::Arc;

use api::kinds::SERVICE_CIDR;
use api::{ApiError, CreateOptions, FieldSelector, Object, Patch, UpdateOptions, WatchEvent, WatchOptions};
use client::events::{EventType, Recorder, reference_to};
use client::{ApiFor, ObjectApi, ObjectRef};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::json;

use crate::registry::strategies::service_cidr;
use crate::registry::time;
use crate::server::ApiServer;

pub(super) const NAME: &str = service_cidr::DEFAULT;
/// The component that events name.
const COMPONENT: &str = "kubernetes-service-cidr-controller";

/// Makes the range unless there is one.
pub(super) async fn ensure(api: &Arc<dyn ObjectApi>, cidr: &str) -> Result<(), ApiError> {
    match api.get(&SERVICE_CIDR, ObjectRef::new(None, NAME)).await {
        Err(error) if error.is_not_found() => {}
        found => return found.map(drop),
    }
    let body = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": { "name": NAME },
        "spec": { "cidrs": [cidr] },
    });
    match api.create(&SERVICE_CIDR, None, body, &CreateOptions::default()).await {
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}

/// What has been complained of, so that it is said once.
#[derive(Default)]
struct Said {
    differs: bool,
    not_ready: bool,
}

/// Keeps the range there and says that it is ready, for as long as the server runs.
pub(crate) async fn follow(server: Arc<ApiServer>) {
    let api = server.as_user(super::identity());
    let recorder = Recorder::new(api.clone(), &server.stage, COMPONENT, None);
    let cidr = server.registry.config.service_cidr.clone();
    let mut said = Said::default();
    // Begins with what is there.
    let options =
        WatchOptions { fields: FieldSelector::equals("metadata.name", NAME), ..WatchOptions::default() };
    loop {
        let mut events = match api.watch(&SERVICE_CIDR, None, &options).await {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(%error, "the default ServiceCIDR cannot be watched yet");
                tokio::time::sleep(super::LONGEST_PAUSE).await;
                continue;
            }
        };
        while let Some(event) = events.next().await {
            let done = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    sync_status(&api, &recorder, &object, &cidr, &mut said).await
                }
                WatchEvent::Deleted(_) => ensure(&api, &cidr).await,
                WatchEvent::Bookmark { .. } => Ok(()),
                // The watch is begun anew.
                WatchEvent::Error(_) => break,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "the default ServiceCIDR could not be brought up to date");
            }
        }
    }
}

/// Says that the range is ready unless its status says something already.
async fn sync_status(
    api: &Arc<dyn ObjectApi>,
    recorder: &Recorder,
    object: &Object,
    cidr: &str,
    said: &mut Said,
) -> Result<(), ApiError> {
    if object.is_terminating() {
        return Ok(());
    }
    let range = object.typed::<ServiceCIDR>().map_err(ApiError::internal)?;
    let has = range.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or(&[]);
    if has != [cidr] {
        if !std::mem::replace(&mut said.differs, true) {
            let message = format!(
                "The default ServiceCIDR [{}] does not match the controller flag configurations [{cidr}]",
                has.join(" ")
            );
            let reason = "KubernetesDefaultServiceCIDRInconsistent";
            recorder.event(&reference_to(&*range), EventType::Warning, reason, message);
        }
        return Ok(());
    }
    let conditions = range.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or(&[]);
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    match ready.map(|condition| (condition, condition.status.as_str())) {
        Some((condition, "False")) => {
            if !std::mem::replace(&mut said.not_ready, true) {
                let message = format!("Configuration matches, but {}", condition.message);
                recorder.event(&reference_to(&*range), EventType::Warning, &condition.reason, message);
            }
            Ok(())
        }
        Some((_, "True")) => Ok(()),
        _ => {
            let condition = json!({
                "type": "Ready", "status": "True", "reason": "",
                "message": "Kubernetes default Service CIDR is ready",
                "lastTransitionTime": time(Timestamp::now()),
            });
            let patch = Patch::strategic(json!({"status": {"conditions": [condition]}}));
            let at = ObjectRef::new(None, NAME).sub("status");
            api.patch(&SERVICE_CIDR, at, patch, &UpdateOptions::default()).await.map(drop)
        }
    }
}
