//! Changes of containers that are there: resizing them in place, and beginning all of a pod's anew.

use jiff::{SignedDuration, Timestamp};

use super::{Done, Execution};
use crate::cgroups::CgroupError;
use crate::pods::plan::PodActions;
use crate::pods::{kill, resize};
use crate::runtime::RuntimeError;
use crate::spec::{PodExt, Slot, resources};

/// Why a pod could not be given what it was granted.
#[derive(Debug, thiserror::Error)]
enum ResizeError {
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("failed to resize container {name:?}: {source}")]
    Container { name: String, source: RuntimeError },
}

impl Execution<'_> {
    /// Stops all containers and removes them, so that the pod begins anew in its sandbox. The one that wanted
    /// it goes last: whoever is interrupted finds it again.
    pub(super) async fn reset(&mut self, slot: Slot, done: &mut Done) {
        let Some(definition) = slot.of(self.pod) else { return };
        if let Err(failure) = self.check_backoff(slot, &definition) {
            failure.retry.into_iter().for_each(|at| done.retry_at(at));
            let reason = (failure.reason.to_string(), failure.message);
            if self.reasons.insert(definition.name.clone(), reason.clone()) != Some(reason) {
                done.changed = true;
            }
            return;
        }
        let killer = &self.launcher.killer;
        let grace = kill::grace_of(Some(self.pod), None);
        let mut outcome = killer.containers(Some(self.pod), self.runtime, grace).await;
        let (last, others): (Vec<_>, Vec<_>) =
            self.runtime.containers.iter().partition(|one| one.name == definition.name);
        let ephemeral = |name: &str| self.pod.ephemeral_containers().iter().any(|one| one.name == name);
        for record in others.into_iter().chain(last).filter(|one| !ephemeral(&one.name)) {
            if outcome.is_ok() {
                outcome = self.launcher.runtime.remove_container(&record.id).await;
            }
        }
        match outcome {
            Ok(()) => done.changed = true,
            Err(error) => {
                tracing::debug!(pod = %self.pod.described(), %error, "containers are not reset yet, will retry");
                done.retry_at(Timestamp::now() + SignedDuration::from_secs(2));
            }
        }
    }

    /// Brings the pod's cgroup and its containers to what was granted. The pod's cgroup is as wide as both
    /// need it while its containers change.
    pub(super) async fn resize(&self, plan: &PodActions, done: &mut Done) {
        let cgroups = &self.launcher.cgroups;
        if plan.resize.is_empty() && cgroups.fits(self.pod) {
            return;
        }
        let changes = resize::in_order(plan.resize.clone());
        let resized = async {
            if !changes.is_empty() {
                cgroups.widen_pod(self.pod).await?;
            }
            for change in &changes {
                self.resize_container(change).await?;
            }
            Ok::<_, ResizeError>(cgroups.create_pod(self.pod).await?)
        };
        match resized.await {
            Ok(()) => done.changed |= !changes.is_empty(),
            Err(error) => {
                done.resize_error = Some(error.to_string());
                done.retry_at(Timestamp::now() + SignedDuration::from_secs(10));
            }
        }
    }

    async fn resize_container(&self, change: &resize::Resize) -> Result<(), ResizeError> {
        let Some(definition) = self.pod.find_container(&change.name) else { return Ok(()) };
        let settings = &self.launcher.settings;
        let memory = i64::try_from(settings.node_memory).unwrap_or(i64::MAX);
        let wanted = resources::of_container(self.pod, definition, memory, self.launcher.cgroups.is_v2());
        let updated = self.launcher.runtime.update_container(&change.id, wanted).await;
        let name = change.name.clone();
        updated.map_err(|source| ResizeError::Container { name, source })?;
        let has = definition.resources.clone().unwrap_or_default();
        self.launcher.resized.lock().insert(change.id.clone(), has);
        Ok(())
    }
}
