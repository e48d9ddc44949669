//! Mirrors Endpoints that people made themselves, for services without a selector, into EndpointSlices: so
//! that who reads slices finds every service's endpoints there.

use std::sync::Arc;

use client::{Api, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::context::{ControllerContext, Key, ReconcileResult, key_of};
use crate::{service_pods, service_slices};
use plan::MANAGER;

mod plan;

const ACCOUNT: &str = "endpointslicemirroring-controller";

struct Controller {
    api: Arc<dyn ObjectApi>,
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("endpointslice mirroring");
    let controller = Arc::new(Controller {
        api: context.act_as(ACCOUNT),
        services: context.informers.of(),
        endpoints: context.informers.of(),
    });
    let keys = queue.clone();
    controller.endpoints.on_change(move |change| keys.add(key_of(&change.latest().metadata)));
    let keys = queue.clone();
    controller.services.on_change(move |change| {
        // Only a service that comes, goes, or gains or loses its selector matters here.
        let mirrored =
            |service: &Option<Arc<Service>>| service.as_ref().map(|service| !service_pods::selects(service));
        if mirrored(&change.old) != mirrored(&change.new) {
            keys.add(key_of(&change.latest().metadata));
        }
    });
    service_slices::watch(&context.informers, MANAGER, &queue);
    let synced = controller.clone();
    let ready = async move {
        synced.services.synced().await;
        synced.endpoints.synced().await;
    };
    context.run(&queue, 2, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> ReconcileResult {
        let service = self.services.get(Some(&key.0), &key.1);
        let selectorless = service.is_some_and(|service| !service_pods::selects(&service));
        let endpoints = self.endpoints.get(Some(&key.0), &key.1);
        let mirrored = endpoints.filter(|endpoints| selectorless && plan::is_mirrored(endpoints));
        let api = Api::<EndpointSlice>::namespaced(self.api.clone(), &key.0);
        let present = service_slices::present(&api, MANAGER, &key.1).await?;
        match plan::plan(mirrored.as_deref(), &present).carry_out(&api).await {
            Err(error) if !error.is_namespace_terminating() => Err(error),
            _ => Ok(None),
        }
    }
}
