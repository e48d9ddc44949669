//! The time between the decision that a pod ends and the end of its containers: they are stopped with grace,
//! and whether they are ready is told meanwhile, since endpoints go by it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::{Next, State, Worker};
use crate::pods::kill;
use crate::runtime::state::PodRuntime;
use crate::spec::PodExt;
use crate::wake::Mail;

impl Worker {
    pub(super) async fn terminate(&mut self, mail: &Mail) -> Next {
        let pod = mail.pod.as_deref();
        self.deps.probes.stop_health(&self.uid);
        let runtime = match self.look(mail).await {
            Ok(runtime) => runtime,
            Err(error) => return self.runtime_failed(&error),
        };
        // How it ended is told before its network is taken down; a final phase only once nothing runs.
        if let Some(pod) = pod.filter(|_| !mail.gone && runtime.running().next().is_none()) {
            let status = self.status(pod, &runtime, false);
            if let Err(error) = self.deps.status.send(pod, &status).await {
                tracing::debug!(pod = %pod.described(), %error, "status was not sent, will retry");
                return Next::Retry;
            }
        }
        let grace = kill::grace_of(pod, runtime.containers.first());
        let grace = mail.ending.as_ref().map_or(grace, |ending| ending.grace.min(grace));
        let stop = async {
            let killer = &self.deps.launcher.killer;
            killer.containers(pod, &runtime, grace).await?;
            self.deps.probes.remove(&self.uid);
            killer.sandboxes(&runtime).await
        };
        let stopped = tokio::select! {
            stopped = stop => stopped,
            // Another deletion allows less time than the first: begin again with that.
            () = self.watch_ending(pod, grace) => return Next::Now,
        };
        if let Err(error) = stopped {
            return self.runtime_failed(&error);
        }
        let addresses = runtime.sandboxes.first().map(|one| one.ips.clone()).unwrap_or_default();
        let mut runtime = match PodRuntime::read(&*self.deps.runtime, &self.uid).await {
            Ok(runtime) => runtime,
            Err(error) => return self.runtime_failed(&error),
        };
        if runtime.running().next().is_some() {
            return Next::Retry;
        }
        if let Some(sandbox) = runtime.sandboxes.first_mut().filter(|one| one.ips.is_empty()) {
            sandbox.ips = addresses;
        }
        if let Some(pod) = pod.filter(|_| !mail.gone) {
            let status = self.status(pod, &runtime, true);
            if let Err(error) = self.deps.status.send(pod, &status).await {
                tracing::debug!(pod = %pod.described(), %error, "status was not sent, will retry");
                return Next::Retry;
            }
        }
        self.state = State::Terminated;
        Next::Now
    }

    /// Tells what readiness probes find meanwhile; returns when the pod's grace becomes shorter than this.
    async fn watch_ending(&self, pod: Option<&Pod>, grace: Duration) {
        loop {
            if let Some(pod) = pod {
                self.tell_readiness(pod).await;
            }
            self.mailbox.changed().await;
            let mail = self.mailbox.read();
            if mail
                .pod
                .as_deref()
                .is_some_and(|pod| pod.is_deleted() && kill::grace_of(Some(pod), None) < grace)
            {
                return;
            }
        }
    }

    /// Sends the status of a pod that is being stopped if other containers are ready than was told. Not a
    /// final phase: that comes once nothing runs.
    async fn tell_readiness(&self, pod: &Pod) {
        let mail = self.mailbox.read();
        if mail.gone
            || self.failed.is_some()
            || pod.containers().iter().all(|one| one.readiness_probe.is_none())
        {
            return;
        }
        let Ok(runtime) = self.look(&mail).await else { return };
        let status = self.status(pod, &runtime, false);
        let ready = |status: &PodStatus| -> Vec<bool> {
            status.container_statuses.iter().flatten().map(|one| one.ready).collect()
        };
        let is_final = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if is_final || ready(&status) == ready(&self.deps.status.latest(pod)) {
            return;
        }
        if let Err(error) = self.deps.status.send(pod, &status).await {
            tracing::debug!(pod = %pod.described(), %error, "readiness was not sent, the end will tell");
        }
    }
}
