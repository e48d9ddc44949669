//! Gives every active namespace its `default` service account, and makes it anew when somebody deletes it.

use std::sync::Arc;

use api::CreateOptions;
use client::{Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use serde_json::json;

use crate::context::{ControllerContext, ReconcileResult, text};

const NAME: &str = "default";

struct Controller {
    api: Arc<dyn ObjectApi>,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("serviceaccount");
    let controller = Arc::new(Controller {
        api: context.act_as("service-account-controller"),
        namespaces: context.informers.of(),
        accounts: context.informers.of(),
    });
    let keys = queue.clone();
    controller.namespaces.on_object_change(move |change| {
        if let Some(namespace) = &change.new {
            keys.add(namespace.name().to_string());
        }
    });
    let keys = queue.clone();
    controller.accounts.on_object_change(move |change| {
        if change.new.is_none() && change.latest().name() == NAME {
            keys.add(change.latest().namespace().unwrap_or("").to_string());
        }
    });
    let synced = controller.clone();
    let ready = async move {
        synced.namespaces.synced().await;
        synced.accounts.synced().await;
    };
    context.run(&queue, 1, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// Content can be made in a namespace that is not going away.
pub(crate) fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().map_or("", |status| text(&status.phase));
    phase != "Terminating" && namespace.metadata.deletion_timestamp.is_none()
}

impl Controller {
    async fn reconcile(&self, name: &str) -> ReconcileResult {
        let wanted = self.namespaces.get(None, name).is_some_and(|namespace| is_active(&namespace));
        if !wanted || self.accounts.object(Some(name), NAME).is_some() {
            return Ok(None);
        }
        let body = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": NAME, "namespace": name},
        });
        let row = <ServiceAccount as api::Kinded>::row();
        match self.api.create(row, Some(name), body, &CreateOptions::default()).await {
            Ok(_) => Ok(None),
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
