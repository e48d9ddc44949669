//! Events about pods and their containers.

use std::sync::Arc;

use client::events::{EventType, Recorder};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};

use crate::spec::{PodExt, Slot};

/// Who is told of what happens: the API, or a test's journal.
pub(crate) trait EventSink: Send + Sync {
    fn event(&self, regarding: &ObjectReference, kind: EventType, reason: &str, message: String);
}

impl EventSink for Recorder {
    fn event(&self, regarding: &ObjectReference, kind: EventType, reason: &str, message: String) {
        Recorder::event(self, regarding, kind, reason, message);
    }
}

/// Tells of pods. Clones tell the same.
#[derive(Clone)]
pub(crate) struct PodEvents(Arc<dyn EventSink>);

impl PodEvents {
    pub(crate) fn new(sink: impl EventSink + 'static) -> Self {
        PodEvents(Arc::new(sink))
    }

    /// About anything; a probe, say, keeps the reference to its container.
    pub(crate) fn of(
        &self,
        regarding: &ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.0.event(regarding, kind, reason, message.into());
    }

    pub(crate) fn pod(&self, pod: &Pod, kind: EventType, reason: &str, message: impl Into<String>) {
        self.of(&client::events::reference_to(pod), kind, reason, message);
    }

    /// About one container of a pod.
    pub(crate) fn container(
        &self,
        pod: &Pod,
        container: &str,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.of(&reference_to_container(pod, container), kind, reason, message);
    }

    pub(crate) fn slot(
        &self,
        pod: &Pod,
        slot: Slot,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let name = slot.of(pod).map(|one| one.name.clone()).unwrap_or_default();
        self.container(pod, &name, kind, reason, message);
    }
}

pub(crate) fn reference_to_container(pod: &Pod, container: &str) -> ObjectReference {
    let list = if pod.init_containers().iter().any(|one| one.name == container) {
        "initContainers"
    } else if pod.ephemeral_containers().iter().any(|one| one.name == container) {
        "ephemeralContainers"
    } else {
        "containers"
    };
    let field_path = Some(format!("spec.{list}{{{container}}}"));
    ObjectReference { field_path, ..client::events::reference_to(pod) }
}
