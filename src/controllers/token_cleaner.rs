//! Removes bootstrap tokens that have ended: Secrets of type `bootstrap.kubernetes.io/token` in
//! `kube-system`.
//!
//! The API server refuses such a token by itself; this keeps it from lying about. One whose end cannot be
//! read counts as ended.

use std::sync::Arc;
use std::time::Duration;

use api::{DeleteOptions, FieldSelector, LabelSelector, Preconditions};
use client::{Api, Informer, WorkQueue};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;

use crate::context::{ControllerContext, ReconcileResult, unless_gone};

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

struct Controller {
    api: Api<Secret>,
    secrets: Informer<Secret>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("token-cleaner");
    let only = FieldSelector::equals("type", TYPE);
    let controller = Arc::new(Controller {
        api: Api::namespaced(context.act_as("token-cleaner"), NAMESPACE),
        secrets: context.informers.selected(Some(NAMESPACE), LabelSelector::everything(), only),
    });
    let keys = queue.clone();
    controller.secrets.on_object_change(move |change| {
        if let Some(secret) = &change.new {
            keys.add(secret.name().to_string());
        }
    });
    let synced = controller.secrets.clone();
    context.run(&queue, 1, async move { synced.synced().await }, move |name| {
        let controller = controller.clone();
        async move { controller.reconcile(&name).await }
    });
}

/// How long a token is still good for; none if it has no end.
fn left(secret: &Secret, now: Timestamp) -> Option<Duration> {
    let end = secret.data.as_ref()?.get("expiration")?;
    let end = std::str::from_utf8(&end.0).ok().and_then(|text| text.parse::<Timestamp>().ok());
    let seconds = end.map_or(0.0, |end| api::time::seconds_between(now, end));
    Some(Duration::from_secs_f64(seconds.max(0.0)))
}

impl Controller {
    async fn reconcile(&self, name: &str) -> ReconcileResult {
        let Some(secret) = self.secrets.get(Some(NAMESPACE), name) else { return Ok(None) };
        match left(&secret, Timestamp::now()) {
            None => Ok(None),
            Some(left) if !left.is_zero() => Ok(Some(left.min(LONGEST_REST))),
            Some(_) => {
                let metadata = &secret.metadata;
                // One that was given a later end meanwhile stays.
                let preconditions = Preconditions {
                    uid: metadata.uid.clone(),
                    resource_version: metadata.resource_version.clone(),
                };
                let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
                unless_gone(self.api.delete(name, &options).await)?;
                Ok(None)
            }
        }
    }
}

/// The clock may be set meanwhile.
const LONGEST_REST: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
