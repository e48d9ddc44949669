//! Events: what components tell users about objects (`kubectl describe`, `kubectl get events`).

use std::sync::Arc;

use api::Kinded;
use k8s_openapi::api::core::v1::ObjectReference;

use crate::ObjectApi;

/// `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Normal,
    Warning,
}

/// Records events in the name of one component. Clones share the queue. Recording never blocks and never fails the
/// caller: what does not fit the bounded queue is dropped and counted in the log.
#[derive(Clone)]
pub struct Recorder {
    #[expect(dead_code, reason = "filled in with the correlator")]
    api: Arc<dyn ObjectApi>,
}

impl Recorder {
    /// A recorder whose events carry `source.component` and `reportingComponent` `component`, and `host` if it runs
    /// on a node. Sends from a task of `stage`.
    pub fn new(api: Arc<dyn ObjectApi>, _stage: &supervisor::Stage, _component: &str, _host: Option<&str>) -> Self {
        Recorder { api }
    }

    /// Tells of something that happened to `regarding`.
    pub fn event(&self, _regarding: &ObjectReference, _kind: EventType, _reason: &str, _message: impl Into<String>) {}
}

/// A reference to an object for events and endpoints.
pub fn reference_to<K: Kinded>(object: &K) -> ObjectReference {
    let metadata = object.metadata();
    ObjectReference {
        api_version: Some(K::row().api_version()),
        kind: Some(K::row().kind.to_string()),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}
