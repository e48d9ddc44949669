//! Publishes the cluster's CA certificate in every active namespace as ConfigMap `kube-root-ca.crt`, and
//! restores it when somebody changes or deletes it. Pods mount it to trust the API server.

use std::sync::Arc;

use api::CreateOptions;
use client::{Api, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use serde_json::json;

use crate::context::{ControllerContext, ReconcileResult};
use crate::service_account::is_active;

const NAME: &str = "kube-root-ca.crt";
const FIELD: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";

struct Controller {
    api: Arc<dyn ObjectApi>,
    pem: String,
    namespaces: Informer<Namespace>,
    config_maps: Informer<ConfigMap>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("root-ca-certificate-publisher");
    let controller = Arc::new(Controller {
        api: context.act_as("root-ca-cert-publisher"),
        pem: context.config.root_ca_pem.clone(),
        namespaces: context.informers.of(),
        config_maps: context.informers.of(),
    });
    let keys = queue.clone();
    controller.namespaces.on_object_change(move |change| {
        if let Some(namespace) = &change.new {
            keys.add(namespace.name().to_string());
        }
    });
    let keys = queue.clone();
    controller.config_maps.on_object_change(move |change| {
        let object = change.latest();
        if object.name() == NAME {
            keys.add(object.namespace().unwrap_or("").to_string());
        }
    });
    let synced = controller.clone();
    let ready = async move {
        synced.namespaces.synced().await;
        synced.config_maps.synced().await;
    };
    context.run(&queue, 1, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

impl Controller {
    async fn reconcile(&self, name: &str) -> ReconcileResult {
        if !self.namespaces.get(None, name).is_some_and(|namespace| is_active(&namespace)) {
            return Ok(None);
        }
        let Some(present) = self.config_maps.get(Some(name), NAME) else { return self.create(name).await };
        let data = present.data.iter().flatten();
        if data.eq([(&FIELD.to_string(), &self.pem)]) && present.binary_data.is_none() {
            return Ok(None);
        }
        let mut wanted = (*present).clone();
        wanted.data = Some([(FIELD.to_string(), self.pem.clone())].into());
        wanted.binary_data = None;
        Api::<ConfigMap>::namespaced(self.api.clone(), name).update(&wanted).await?;
        Ok(None)
    }

    async fn create(&self, namespace: &str) -> ReconcileResult {
        let body = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": NAME,
                "namespace": namespace,
                "annotations": {DESCRIPTION: "The CA that signed the certificate of this cluster's API server."},
            },
            "data": {FIELD: self.pem},
        });
        let row = <ConfigMap as api::Kinded>::row();
        match self.api.create(row, Some(namespace), body, &CreateOptions::default()).await {
            Ok(_) => Ok(None),
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
