//! Frees pods from the job controller's finalizer when no job will count them: their job is gone or finished,
//! or they have none.

use api::{ApiError, Kinded, Patch, UpdateOptions};
use client::ObjectRef;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{Controller, facts};
use crate::context::{Key, ReconcileResult, text, unless_gone};

impl Controller {
    pub(super) async fn free_orphan(&self, key: &Key) -> ReconcileResult {
        let Some(pod) = self.pod_informer.get(Some(&key.0), &key.1) else { return Ok(None) };
        if !facts::has_finalizer(&pod) {
            return Ok(None);
        }
        if let Some(owner) = api::owner::controller_of(&pod.metadata) {
            let of_a_job = owner.kind == Job::row().kind && owner.api_version == Job::row().api_version();
            let job = self.owner_of(&pod.metadata);
            let counts = job.is_some_and(|job| facts::is_external(&job) || !facts::is_finished(&job));
            if !of_a_job || counts {
                return Ok(None);
            }
        }
        unless_gone(self.release(&pod).await)?;
        Ok(None)
    }

    /// Removes the finalizer, and nothing else: whatever happens to the pod meanwhile stays.
    pub(super) async fn release(&self, pod: &Pod) -> Result<(), ApiError> {
        let body = json!({"metadata": {
            "uid": pod.metadata.uid,
            "$deleteFromPrimitiveList/finalizers": [facts::FINALIZER],
        }});
        let at = ObjectRef::new(pod.metadata.namespace.as_deref(), text(&pod.metadata.name));
        match self.api.patch(Pod::row(), at, Patch::strategic(body), &UpdateOptions::default()).await {
            // Another pod of this name: the one that was meant is gone.
            Err(error) if error.is_conflict() => {
                Err(ApiError::not_found(Pod::row(), text(&pod.metadata.name)))
            }
            outcome => outcome.map(|_| ()),
        }
    }
}
