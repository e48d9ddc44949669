//! The end of a pod, once its containers have ended: its volumes, its cgroup, its object, and what the
//! runtime keeps of it. In this order, so that whoever sees the object gone may rely on the rest; each step
//! is repeated until it has worked.

use client::Api;
use k8s_openapi::api::core::v1::Pod;

use super::{Next, Worker, WorkerDeps};
use crate::files;
use crate::runtime::state::{ContainerPhase, PodRuntime};
use crate::spec::PodExt;
use crate::wake::Mail;

impl Worker {
    /// Gives back what the pod used; once it is deleted, removes the rest and its object.
    pub(super) async fn finish(&mut self, mail: &Mail) -> Next {
        if !self.cleaned {
            if let Err(error) = self.deps.volumes.remove(&self.uid).await {
                tracing::debug!(uid = %self.uid, %error, "volumes not removed yet, will retry");
                return Next::Retry;
            }
            if !self.remove_cgroup().await {
                return Next::Retry;
            }
            self.deps.sources.release(&self.uid);
            self.cleaned = true;
            self.mailbox.over.cancel();
        }
        match mail.pod.as_deref() {
            Some(pod) if !mail.gone => {
                if !pod.is_deleted() {
                    return Next::Wait(None);
                }
                if let Err(error) = self.delete_object(pod).await {
                    tracing::debug!(pod = %pod.described(), %error, "pod was not deleted, will retry");
                    return Next::Retry;
                }
            }
            _ => {}
        }
        self.remove_rest(mail).await
    }

    async fn delete_object(&self, pod: &Pod) -> Result<(), api::ApiError> {
        let options = api::DeleteOptions {
            grace_period_seconds: Some(0),
            preconditions: api::Preconditions { uid: Some(self.uid.clone()), resource_version: None },
            ..api::DeleteOptions::default()
        };
        let pods: Api<Pod> = Api::namespaced(self.deps.api.clone(), pod.namespace());
        match pods.delete(pod.name(), &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    async fn remove_cgroup(&self) -> bool {
        let removed = self.deps.launcher.cgroups.remove_pod(&self.uid).await;
        if let Err(error) = &removed {
            tracing::debug!(uid = %self.uid, %error, "cgroup not removed yet, will retry");
        }
        removed.is_ok()
    }

    async fn remove_rest(&self, mail: &Mail) -> Next {
        let runtime = match PodRuntime::read(&*self.deps.runtime, &self.uid).await {
            Ok(runtime) => runtime,
            Err(error) => return self.runtime_failed(&error),
        };
        if let Err(error) = self.deps.launcher.killer.remove(&runtime).await {
            return self.runtime_failed(&error);
        }
        runtime.containers.iter().for_each(|one| drop(self.deps.launcher.resized.lock().remove(&one.id)));
        // The runtime may have put something into the cgroup until its sandbox was removed.
        if !self.remove_cgroup().await {
            return Next::Retry;
        }
        if let Some(pod) = &mail.pod {
            let (host, logs) = (self.deps.host.clone(), self.deps.launcher.settings.log_directory(pod));
            let _ = files::blocking(move || host.remove_tree(&logs)).await;
        }
        Next::End
    }
}

/// Removes dead instances but the newest two of each container: the present one and the one whose logs
/// `--previous` shows.
pub(super) async fn prune(deps: &WorkerDeps, runtime: &PodRuntime) {
    let mut seen: std::collections::HashMap<&str, u32> = std::collections::HashMap::new();
    for record in &runtime.containers {
        let count = seen.entry(&record.name).or_insert(0);
        *count += 1;
        if *count > 2 && record.phase != ContainerPhase::Running {
            if let Err(error) = deps.runtime.remove_container(&record.id).await {
                tracing::debug!(container = %record.id, %error, "dead container not removed");
                continue;
            }
            deps.launcher.owners.forget(&record.id);
            deps.launcher.resized.lock().remove(&record.id);
            let (host, log) = (deps.host.clone(), record.log_path.clone());
            let _ = files::blocking(move || host.remove_file(log.as_ref())).await;
        }
    }
    let current = runtime.sandboxes.first().map(|one| one.id.as_str());
    for sandbox in &runtime.sandboxes {
        let used = runtime.containers.iter().any(|one| one.sandbox == sandbox.id);
        if Some(sandbox.id.as_str()) != current && !sandbox.ready && !used {
            let _ = deps.runtime.remove_sandbox(&sandbox.id).await;
        }
    }
}
