//! EndpointSlices: the addresses behind a service in pieces of at most 100, so that a change of one pod is a
//! change of one small object.

use std::sync::Arc;

use client::events::{EventType, Recorder, reference_to};
use client::{Api, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::context::{ControllerContext, Key, ReconcileResult};
use crate::selecting::with_selector;
use crate::service_pods::{self, Triggers};
use crate::service_slices;
use plan::MANAGER;

mod plan;

const ACCOUNT: &str = "endpointslice-controller";
const COMPONENT: &str = "endpoint-slice-controller";

struct Controller {
    api: Arc<dyn ObjectApi>,
    recorder: Recorder,
    services: Informer<Service>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    triggers: Triggers,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("endpointslice");
    let controller = Arc::new(Controller {
        api: context.act_as(ACCOUNT),
        recorder: context.recorder(ACCOUNT, COMPONENT),
        services: context.informers.of(),
        pods: context.informers.of(),
        nodes: context.informers.of(),
        triggers: Triggers::default(),
    });
    service_pods::watch(&controller.services, &controller.pods, &queue);
    service_slices::watch(&context.informers, MANAGER, &queue);
    let synced = controller.clone();
    let ready = async move {
        synced.services.synced().await;
        synced.pods.synced().await;
        synced.nodes.synced().await;
    };
    context.run(&queue, 5, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> ReconcileResult {
        let Some((service, selector)) = with_selector(&self.services, key) else {
            // Its slices are owned by the service: the garbage collector takes them.
            self.triggers.forget(key);
            return Ok(None);
        };
        let external = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
        if external || !service_pods::selects(&service) {
            return Ok(None);
        }
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let pods = service_pods::selected(&self.pods, &key.0, &selector);
        let api = Api::<EndpointSlice>::namespaced(self.api.clone(), &key.0);
        let present = service_slices::present(&api, MANAGER, &key.1).await?;
        let zone = |node: &str| {
            let node = self.nodes.object(None, node)?;
            node.labels().get("topology.kubernetes.io/zone").cloned()
        };
        let trigger = self.triggers.observe(key, &service, &pods);
        let plan = plan::plan(&service, &pods, &present, zone, trigger);
        match plan.carry_out(&api).await {
            Ok(()) => Ok(None),
            Err(error) if error.is_namespace_terminating() => Ok(None),
            Err(error) => {
                if !error.is_conflict() {
                    let (namespace, name) = (&key.0, &key.1);
                    let message =
                        format!("Error updating Endpoint Slices for Service {namespace}/{name}: {error}");
                    let reference = reference_to(&*service);
                    self.recorder.event(
                        &reference,
                        EventType::Warning,
                        "FailedToUpdateEndpointSlices",
                        message,
                    );
                }
                Err(error)
            }
        }
    }
}
