//! Does what the plan of a stateful set says, and tells so on the set.

use std::sync::Arc;

use api::{ApiError, CreateOptions, DeleteOptions, Kinded, Preconditions, UpdateOptions};
use client::events::{EventType, reference_to};
use client::{Api, ObjectRef};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

use super::plan::{StatefulSetPlan, StatefulSetStep};
use super::{Controller, claims, identity, name_of};
use crate::context::text;
use crate::pod_control::slow_start_each;

impl Controller {
    /// Takes the steps up to the first that fails.
    pub(super) async fn carry_out(&self, set: &StatefulSet, plan: &StatefulSetPlan) -> Result<(), ApiError> {
        for phase in &plan.phases {
            if plan.parallel {
                slow_start_each(phase, |step| self.take(set, step)).await.1?;
            } else {
                for step in phase {
                    self.take(set, step).await?;
                }
            }
        }
        Ok(())
    }

    async fn take(&self, set: &StatefulSet, step: &StatefulSetStep) -> Result<(), ApiError> {
        match step {
            StatefulSetStep::Create(pod) => self.create(set, pod).await,
            StatefulSetStep::MakeClaims(pod) => {
                self.make_claims(set, pod).await?;
                self.mend_claims(set, pod).await
            }
            StatefulSetStep::Mend(pod) => self.mend(set, pod).await,
            StatefulSetStep::MendClaims(pod) => self.mend_claims(set, pod).await,
            StatefulSetStep::Delete(pod) => self.delete(set, pod).await,
        }
    }

    async fn create(&self, set: &StatefulSet, pod: &Pod) -> Result<(), ApiError> {
        if let Err(error) = self.make_claims(set, pod).await {
            self.tell_pod(set, "Create", pod, Some(&error));
            return Err(error);
        }
        let body = pod.to_tree().map_err(ApiError::internal)?;
        let namespace = pod.metadata.namespace.as_deref();
        let created = self.api.create(Pod::row(), namespace, body, &CreateOptions::default()).await;
        match created {
            // It is ours, and the informer has not seen it yet, or somebody else's: then nothing can be done.
            Err(error) if error.is_already_exists() => Err(error),
            Err(error) => {
                self.tell_pod(set, "Create", pod, Some(&error));
                Err(error)
            }
            Ok(_) => {
                self.tell_pod(set, "Create", pod, None);
                Ok(())
            }
        }
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> Result<(), ApiError> {
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), ..Preconditions::default() };
        let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
        let at = ObjectRef::new(pod.metadata.namespace.as_deref(), text(&pod.metadata.name));
        match self.api.delete(Pod::row(), at, &options).await {
            // A conflict is another pod of this name: the one that should go has gone.
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                self.tell_pod(set, "Delete", pod, Some(&error));
                Err(error)
            }
            _ => {
                self.tell_pod(set, "Delete", pod, None);
                Ok(())
            }
        }
    }

    /// Brings labels, volumes and owners of claims in line.
    async fn mend(&self, set: &StatefulSet, pod: &Arc<Pod>) -> Result<(), ApiError> {
        let mut mended = (**pod).clone();
        if !identity::has_identity(set, pod) {
            identity::identify(set, &mut mended);
        }
        if !identity::has_storage(set, pod) {
            identity::mount_claims(set, &mut mended);
            if let Err(error) = self.make_claims(set, pod).await {
                self.tell_pod(set, "Update", pod, Some(&error));
                return Err(error);
            }
        }
        self.mend_claims(set, pod).await?;
        if mended == **pod {
            return Ok(());
        }
        let body = mended.to_tree().map_err(ApiError::internal)?;
        let at = ObjectRef::new(pod.metadata.namespace.as_deref(), text(&pod.metadata.name));
        let outcome = self.api.update(Pod::row(), at, body, &UpdateOptions::default()).await.map(|_| ());
        self.tell_pod(set, "Update", pod, outcome.as_ref().err());
        outcome
    }

    /// Makes the claims of the pod that are not there.
    async fn make_claims(&self, set: &StatefulSet, pod: &Pod) -> Result<(), ApiError> {
        let api = Api::<PersistentVolumeClaim>::namespaced(self.api.clone(), text(&set.metadata.namespace));
        let mut failures = Vec::new();
        for claim in claims::wanted(set, pod) {
            let name = text(&claim.metadata.name).to_string();
            match self.claims.get(claim.metadata.namespace.as_deref(), &name) {
                Some(there) if there.metadata.deletion_timestamp.is_some() => {
                    failures.push(format!("pvc {name} is being deleted"));
                }
                Some(_) => {}
                None => match api.create(&claim).await {
                    Err(error) if error.is_already_exists() => {}
                    Err(error) => {
                        self.tell_claim(set, pod, &name, Some(&error));
                        failures.push(format!("failed to create PVC {name}: {error}"));
                    }
                    Ok(_) => self.tell_claim(set, pod, &name, None),
                },
            }
        }
        match failures.as_slice() {
            [] => Ok(()),
            [only] => Err(ApiError::internal(only)),
            several => Err(ApiError::internal(format!("[{}]", several.join(", ")))),
        }
    }

    /// Gives the claims of the pod the owners that the retention policy asks for.
    async fn mend_claims(&self, set: &StatefulSet, pod: &Pod) -> Result<(), ApiError> {
        let api = Api::<PersistentVolumeClaim>::namespaced(self.api.clone(), text(&set.metadata.namespace));
        for name in claims::names(set, pod) {
            let Some(claim) = self.claims.get(set.metadata.namespace.as_deref(), &name) else { continue };
            if claims::has_other_controller(&claim, set, pod) {
                let message = format!(
                    "PersistentVolumeClaim {name} has a conflicting OwnerReference that acts as a manging \
                     controller, the retention policy is ignored for this claim"
                );
                self.recorder.event(&reference_to(set), EventType::Warning, "ConflictingController", message);
            }
            if claims::is_owned_right(&claim, set, pod) {
                continue;
            }
            let mut owned = (*claim).clone();
            owned.metadata.owner_references = Some(claims::right_owners(&claim, set, pod));
            if let Err(error) = api.update(&owned).await {
                let error = ApiError::internal(format!(
                    "could not update claim {name} for delete policy ownerRefs: {error}"
                ));
                self.tell_pod(set, "Update", pod, Some(&error));
                return Err(error);
            }
        }
        Ok(())
    }

    fn tell_pod(&self, set: &StatefulSet, verb: &str, pod: &Pod, error: Option<&ApiError>) {
        let what = format!("{verb} Pod {} in StatefulSet {}", text(&pod.metadata.name), name_of(set));
        self.tell(set, verb, error, format!("{what} successful"), what);
    }

    fn tell_claim(&self, set: &StatefulSet, pod: &Pod, claim: &str, error: Option<&ApiError>) {
        let (pod, set_name) = (text(&pod.metadata.name), name_of(set));
        let done = format!("Create Claim {claim} Pod {pod} in StatefulSet {set_name} success");
        let what = format!("Create Claim {claim} for Pod {pod} in StatefulSet {set_name}");
        self.tell(set, "Create", error, done, what);
    }

    fn tell(&self, set: &StatefulSet, verb: &str, error: Option<&ApiError>, done: String, what: String) {
        let (kind, reason, message) = match error {
            None => (EventType::Normal, format!("Successful{verb}"), done),
            // A namespace that goes away refuses every pod; nobody needs to be told.
            Some(error) if error.is_namespace_terminating() => return,
            Some(error) => {
                (EventType::Warning, format!("Failed{verb}"), format!("{what} failed error: {error}"))
            }
        };
        self.recorder.event(&reference_to(set), kind, &reason, message);
    }
}
