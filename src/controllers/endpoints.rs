//! Endpoints: the addresses behind a service as one object, for clients that do not know EndpointSlices.
//! Superseded, but `kubectl get endpoints` and many charts still read it.

use std::sync::Arc;

use api::{ApiError, DeleteOptions};
use client::events::{EventType, Recorder, reference_to};
use client::{Api, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::context::{ControllerContext, Key, ReconcileResult, text, unless_gone};
use crate::selecting::with_selector;
use crate::service_pods::{self, Triggers};

mod plan;

const ACCOUNT: &str = "endpoint-controller";

struct Controller {
    api: Arc<dyn ObjectApi>,
    recorder: Recorder,
    services: Informer<Service>,
    pods: Informer<Pod>,
    triggers: Triggers,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("endpoint");
    let controller = Arc::new(Controller {
        api: context.act_as(ACCOUNT),
        recorder: context.recorder(ACCOUNT, ACCOUNT),
        services: context.informers.of(),
        pods: context.informers.of(),
        triggers: Triggers::default(),
    });
    service_pods::watch(&controller.services, &controller.pods, &queue);
    let keys = queue.clone();
    let endpoints: Informer<Endpoints> = context.informers.of();
    endpoints.on_object_change(move |change| {
        // Made anew if somebody deletes it.
        if change.new.is_none() {
            let gone = change.latest();
            keys.add((gone.namespace().unwrap_or("").to_string(), gone.name().to_string()));
        }
    });
    let synced = controller.clone();
    let ready = async move {
        synced.services.synced().await;
        synced.pods.synced().await;
    };
    context.run(&queue, 5, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> ReconcileResult {
        let api = Api::<Endpoints>::namespaced(self.api.clone(), &key.0);
        let Some((service, selector)) = with_selector(&self.services, key) else {
            self.triggers.forget(key);
            unless_gone(api.delete(&key.1, &DeleteOptions::default()).await)?;
            return Ok(None);
        };
        if !service_pods::selects(&service) {
            return Ok(None);
        }
        let pods = service_pods::selected(&self.pods, &key.0, &selector);
        // Read past the informer: what we wrote last must not be written again.
        let present = api.find(&key.1).await?;
        let trigger = self.triggers.observe(key, &service, &pods);
        let mut wanted = present.as_deref().cloned().unwrap_or_else(|| Endpoints {
            metadata: ObjectMeta {
                name: Some(key.1.clone()),
                namespace: Some(key.0.clone()),
                ..ObjectMeta::default()
            },
            subsets: None,
        });
        if !plan::update(&mut wanted, &service, &pods, trigger) && present.is_some() {
            return Ok(None);
        }
        let outcome = if present.is_some() { api.update(&wanted).await } else { api.create(&wanted).await };
        match outcome {
            Ok(_) => Ok(None),
            Err(error) => self.tell(&service, present.is_some(), error),
        }
    }

    fn tell(&self, service: &Service, update: bool, error: ApiError) -> ReconcileResult {
        if error.is_namespace_terminating() || error.is_not_found() {
            return Ok(None);
        }
        if !error.is_conflict() && !error.is_already_exists() {
            let (reason, verb) = if update {
                ("FailedToUpdateEndpoint", "update")
            } else {
                ("FailedToCreateEndpoint", "create")
            };
            let (namespace, name) = (text(&service.metadata.namespace), text(&service.metadata.name));
            let message = format!("Failed to {verb} endpoint {namespace}/{name}: {error}");
            self.recorder.event(&reference_to(service), EventType::Warning, reason, message);
        }
        Err(error)
    }
}
