//! DefaultBinder: posts the pod's binding.

use std::sync::Arc;

use api::{CreateOptions, Kinded};
use client::{BoxFuture, ObjectApi, ObjectRef};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::framework::{BindPlugin, CycleState, Plugin, Points, Status};
use crate::pod::PodInfo;

pub(super) const NAME: &str = "DefaultBinder";

pub(super) struct DefaultBinder {
    api: Arc<dyn ObjectApi>,
}

impl DefaultBinder {
    pub(super) fn new(api: Arc<dyn ObjectApi>) -> Self {
        DefaultBinder { api }
    }
}

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(self: Arc<Self>, points: &mut Points) {
        points.bind(self);
    }
}

impl BindPlugin for DefaultBinder {
    fn bind<'a>(&'a self, _: &'a CycleState, pod: &'a PodInfo, node: &'a str) -> BoxFuture<'a, Status> {
        Box::pin(async move {
            let (namespace, name) = (&pod.key.0, &pod.key.1);
            let body = json!({
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"namespace": namespace, "name": name, "uid": pod.uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            });
            let at = ObjectRef::new(Some(namespace), name).sub("binding");
            match self.api.create_sub(Pod::row(), at, body, &CreateOptions::default()).await {
                Ok(_) => Status::success(),
                Err(error) => Status::api_error(error),
            }
        })
    }
}
