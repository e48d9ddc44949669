//! Creating pods from a template and deleting them, with the events that tell about it.

use std::sync::Arc;

use api::{ApiError, CreateOptions, DeleteOptions, Kinded};
use client::events::{EventType, Recorder, reference_to};
use client::{ObjectApi, ObjectRef};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::context::text;

pub(crate) struct PodControl {
    pub(crate) api: Arc<dyn ObjectApi>,
    pub(crate) recorder: Recorder,
}

/// The pod that a template describes, owned by `controller`, named by the server after `owner_name`.
pub(crate) fn pod_of(
    template: &PodTemplateSpec,
    namespace: &str,
    owner_name: &str,
    controller: &OwnerReference,
) -> Pod {
    let template_metadata = template.metadata.clone().unwrap_or_default();
    // A name that would be too long as a prefix is cut by the server; validation allows the trailing dash
    // there.
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{owner_name}-")),
            namespace: Some(namespace.to_string()),
            labels: template_metadata.labels,
            annotations: template_metadata.annotations,
            finalizers: template_metadata.finalizers,
            owner_references: Some(vec![controller.clone()]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

impl PodControl {
    /// Creates a pod and tells so on its owner.
    pub(crate) async fn create(&self, owner: &ObjectReference, pod: &Pod) -> Result<(), ApiError> {
        let body = pod.to_tree().map_err(ApiError::internal)?;
        let namespace = pod.metadata.namespace.as_deref();
        match self.api.create(Pod::row(), namespace, body, &CreateOptions::default()).await {
            Ok(created) => {
                let message = format!("Created pod: {}", created.name());
                self.recorder.event(owner, EventType::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                // A namespace that goes away refuses every pod; nobody needs to be told.
                if !error.is_namespace_terminating() {
                    let message = format!("Error creating: {error}");
                    self.recorder.event(owner, EventType::Warning, "FailedCreate", message);
                }
                Err(error)
            }
        }
    }

    /// Deletes a pod and tells so on its owner. That it is gone already is an error of its own (`NotFound`).
    pub(crate) async fn delete(&self, owner: &ObjectReference, pod: &Pod) -> Result<(), ApiError> {
        let name = text(&pod.metadata.name);
        let at = ObjectRef::new(pod.metadata.namespace.as_deref(), name);
        match self.api.delete(Pod::row(), at, &DeleteOptions::default()).await {
            Ok(_) => {
                self.recorder.event(
                    owner,
                    EventType::Normal,
                    "SuccessfulDelete",
                    format!("Deleted pod: {name}"),
                );
                Ok(())
            }
            Err(error) => {
                if !error.is_not_found() {
                    self.recorder.event(
                        owner,
                        EventType::Warning,
                        "FailedDelete",
                        format!("Error deleting: {error}"),
                    );
                }
                Err(error)
            }
        }
    }
}

/// Calls that a controller has under way for one object. Enough for the store to write many at once; each
/// holds a whole pod, and a pod may be large.
const CONCURRENT: usize = 64;

/// Carries out calls, [`CONCURRENT`] at a time; each begins only then. Answers in their order.
pub(crate) async fn together<Fut: Future>(calls: Vec<Fut>) -> Vec<Fut::Output> {
    futures::stream::iter(calls).buffered(CONCURRENT).collect().await
}

/// Runs `count` calls in batches that double as long as all succeed, so that a quota that refuses the first
/// pod is not asked thousands of times. Answers with how many succeeded and the first error.
pub(crate) async fn slow_start<Fut>(count: usize, call: impl Fn() -> Fut) -> (usize, Result<(), ApiError>)
where
    Fut: Future<Output = Result<(), ApiError>>,
{
    slow_start_each(0..count, |_| call()).await
}

/// The same with an item for each call; items whose batch is never begun are let go.
pub(crate) async fn slow_start_each<T, Fut>(
    items: impl IntoIterator<Item = T>,
    call: impl Fn(T) -> Fut,
) -> (usize, Result<(), ApiError>)
where
    Fut: Future<Output = Result<(), ApiError>>,
{
    let mut items = items.into_iter();
    let mut done = 0;
    let mut size = 1;
    loop {
        let batch: Vec<Fut> = items.by_ref().take(size).map(&call).collect();
        if batch.is_empty() {
            return (done, Ok(()));
        }
        let mut failure = Ok(());
        for outcome in together(batch).await {
            match outcome {
                Ok(()) => done += 1,
                Err(error) if failure.is_ok() => failure = Err(error),
                Err(_) => {}
            }
        }
        if failure.is_err() {
            return (done, failure);
        }
        size *= 2;
    }
}

/// Reference for events about an owner.
pub(crate) fn reference<K: Kinded>(owner: &K) -> ObjectReference {
    reference_to(owner)
}
