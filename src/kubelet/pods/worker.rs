//! One pod's worker: serial, woken by changes, ends when nothing of the pod is left.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use client::Api;
use client::events::EventType;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::execute::{Done, Execution};
use super::{admit, kill, plan};
use crate::context::{Context, Mail, Mailbox};
use crate::files;
use crate::runtime::RuntimeError;
use crate::runtime::state::{ContainerPhase, PodRuntime};
use crate::spec::PodExt;
use crate::status::generate::{Reasons, StatusInput, generate};
use crate::volumes::Mounted;

/// Where a pod is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It should run; the runtime is kept in line with its specification.
    Syncing,
    /// It is to end: deleted, gone, refused, or its containers are done for good. Containers are being stopped.
    Terminating,
    /// Its containers have ended. What it used is given back; then it waits to be deleted.
    Terminated,
}

/// When to look again if nobody wakes the worker.
enum Next {
    Now,
    /// At this time, or only when woken.
    Wait(Option<Timestamp>),
    /// After a failure of the runtime or the API.
    Retry,
    /// Nothing is left.
    End,
}

pub(crate) struct Worker {
    context: Arc<Context>,
    uid: String,
    mailbox: Arc<Mailbox>,
    state: State,
    reasons: Reasons,
    admitted: bool,
    /// Why the kubelet ends the pod: reason and message.
    failed: Option<(String, String)>,
    mount_failures: u32,
    sandbox_failures: u32,
    failures: u32,
    /// Volumes and cgroup have been given back.
    cleaned: bool,
}

impl Worker {
    pub(crate) fn new(context: Arc<Context>, uid: String, mailbox: Arc<Mailbox>) -> Self {
        Worker {
            context,
            uid,
            mailbox,
            state: State::Syncing,
            reasons: Reasons::new(),
            admitted: false,
            failed: None,
            mount_failures: 0,
            sandbox_failures: 0,
            failures: 0,
            cleaned: false,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let mail = self.mailbox.read();
            let next = match self.state {
                State::Syncing => self.sync(&mail).await,
                State::Terminating => self.terminate(&mail).await,
                State::Terminated => self.finish(&mail).await,
            };
            let wait = match next {
                Next::Now => continue,
                Next::End => break,
                Next::Wait(None) => None,
                Next::Wait(Some(at)) => {
                    Some(Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default())
                }
                Next::Retry => {
                    self.failures = (self.failures + 1).min(6);
                    Some(Duration::from_millis(100) * 2u32.pow(self.failures))
                }
            };
            if !matches!(next, Next::Retry) {
                self.failures = 0;
            }
            match wait {
                None => self.mailbox.changed().await,
                Some(wait) => {
                    tokio::select! {
                        () = self.mailbox.changed() => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
        self.context.wakers.remove(&self.uid);
        self.context.sources.release(&self.uid);
        self.context.status.forget(&self.uid);
        self.context.restarts.lock().forget_all(&self.uid);
        self.context.images.forget_pod(&self.uid);
        self.context.owners.lock().retain(|_, owner| *owner != self.uid);
    }

    /// The runtime's view of the pod, in step with the events that have arrived.
    async fn look(&self, mail: &Mail) -> Result<PodRuntime, RuntimeError> {
        let mut runtime = PodRuntime::read(&self.context.cri, &self.uid).await?;
        let mut delay = Duration::from_millis(5);
        // An exit event reaches us and the CRI's own record at the same time: let the record catch up.
        for _ in 0..12 {
            let behind = runtime.running().any(|one| mail.exited.contains(&one.id))
                || runtime.sandboxes.iter().any(|one| one.ready && mail.exited.contains(&one.id));
            if !behind {
                break;
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_millis(500));
            runtime = PodRuntime::read(&self.context.cri, &self.uid).await?;
        }
        let present: HashSet<&str> = runtime
            .containers
            .iter()
            .map(|one| one.id.as_str())
            .chain(runtime.sandboxes.iter().map(|one| one.id.as_str()))
            .collect();
        // An event may be older than what was read, but not newer: ids are forgotten only once the runtime has.
        self.mailbox.forget_missing(&present);
        {
            let mut owners = self.context.owners.lock();
            for id in present {
                if !owners.contains_key(id) {
                    owners.insert(id.to_string(), self.uid.clone());
                }
            }
        }
        for record in &mut runtime.containers {
            if record.phase == ContainerPhase::Exited
                && record.reason == "Error"
                && mail.out_of_memory.contains(&record.id)
            {
                record.reason = "OOMKilled".to_string();
            }
        }
        Ok(runtime)
    }

    async fn sync(&mut self, mail: &Mail) -> Next {
        let Some(pod) = mail.pod.clone().filter(|pod| !mail.gone && !pod.is_deleted() && !pod.is_finished())
        else {
            self.state = State::Terminating;
            return Next::Now;
        };
        let runtime = match self.look(mail).await {
            Ok(runtime) => runtime,
            Err(error) => return self.runtime_failed(&error),
        };
        if !self.admitted && !self.admit(&pod, &runtime) {
            self.state = State::Terminating;
            return Next::Now;
        }
        let now = Timestamp::now();
        let deadline = self.deadline(&pod);
        if deadline.is_some_and(|deadline| now >= deadline) {
            let message = "Pod was active on the node longer than the specified deadline";
            self.context.pod_event(&pod, EventType::Normal, "DeadlineExceeded", message);
            self.failed = Some(("DeadlineExceeded".to_string(), message.to_string()));
            self.state = State::Terminating;
            return Next::Now;
        }
        self.context.probes.update(&pod, &runtime, &self.context.status.latest(&pod));
        let status = self.status(&pod, &runtime, false);
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            self.state = State::Terminating;
            return Next::Now;
        }
        let sender = self.context.status.clone();
        let send = sender.send(&pod, &status);
        let act = self.act(&pod, &status, &runtime, now);
        let (sent, (done, refresh)) = futures::future::join(send, act).await;
        if let Err(error) = sent {
            tracing::debug!(pod = %pod.described(), %error, "status was not sent, will retry");
            return Next::Retry;
        }
        if done.changed {
            return Next::Now;
        }
        Next::Wait([done.retry, refresh, deadline].into_iter().flatten().min())
    }

    /// Volumes, then the plan.
    async fn act(
        &mut self,
        pod: &Pod,
        status: &k8s_openapi::api::core::v1::PodStatus,
        runtime: &PodRuntime,
        now: Timestamp,
    ) -> (Done, Option<Timestamp>) {
        let context = self.context.clone();
        let mounted = match context.volumes.mount(pod, &context.allocatable, now).await {
            Ok(mounted) => {
                self.mount_failures = 0;
                mounted
            }
            Err(error) => {
                context.pod_event(pod, EventType::Warning, "FailedMount", error.to_string());
                self.mount_failures = (self.mount_failures + 1).min(8);
                // 500 ms doubling to about two minutes, as upstream retries volume operations.
                let wait = SignedDuration::from_millis(500 << (self.mount_failures - 1))
                    .min(SignedDuration::from_secs(122));
                // Containers that run go on; nothing new starts.
                return (Done { changed: false, retry: Some(now + wait) }, None);
            }
        };
        let refresh = mounted.refresh;
        let plan = plan::plan(pod, runtime, &context.probes);
        let done = self.execute(pod, status, runtime, &mounted, plan).await;
        prune(&context, runtime).await;
        (done, refresh)
    }

    async fn execute(
        &mut self,
        pod: &Pod,
        status: &k8s_openapi::api::core::v1::PodStatus,
        runtime: &PodRuntime,
        mounted: &Mounted,
        plan: plan::Plan,
    ) -> Done {
        let turn = if plan.starts_something() {
            tokio::select! {
                turn = self.context.turns.take() => Some(turn),
                () = self.mailbox.ending.cancelled() => return Done { changed: true, retry: None },
            }
        } else {
            None
        };
        let execution = Execution {
            context: &self.context,
            pod,
            status,
            runtime,
            mounted,
            reasons: &mut self.reasons,
            ending: self.mailbox.ending.clone(),
            sandbox_failures: &mut self.sandbox_failures,
            turn: turn.as_ref(),
        };
        match &turn {
            Some(turn) => turn.spend(execution.run(plan)).await,
            None => execution.run(plan).await,
        }
    }

    fn runtime_failed(&self, error: &RuntimeError) -> Next {
        tracing::debug!(uid = %self.uid, %error, "the runtime does not answer, will retry");
        Next::Retry
    }

    /// A pod that runs already was admitted before.
    fn admit(&mut self, pod: &Pod, runtime: &PodRuntime) -> bool {
        self.admitted = true;
        let ran = pod.status.as_ref().is_some_and(|status| status.container_statuses.is_some());
        if ran || !runtime.is_empty() {
            return true;
        }
        let Some(node) = self.context.node.borrow().clone() else { return true };
        let mails: Vec<Mail> = self.context.wakers.all().iter().map(|mailbox| mailbox.read()).collect();
        let others: Vec<&Pod> = mails
            .iter()
            .filter_map(|mail| mail.pod.as_deref())
            .filter(|other| other.uid() != pod.uid() && !other.is_finished() && came_before(other, pod))
            .collect();
        let rules = admit::Rules {
            allocatable: &self.context.allocatable,
            sysctls: &self.context.config.sysctls,
            apparmor: self.context.apparmor,
        };
        match admit::admit(pod, &node, &rules, &others) {
            Ok(()) => true,
            Err((reason, message)) => {
                self.context.pod_event(pod, EventType::Warning, &reason, message.clone());
                self.failed = Some((reason, format!("Pod was rejected: {message}")));
                false
            }
        }
    }

    fn deadline(&self, pod: &Pod) -> Option<Timestamp> {
        let seconds = pod.spec_ref().active_deadline_seconds?;
        let began = self.context.status.latest(pod).start_time.as_ref().map(|time| time.0)?;
        Some(began + SignedDuration::from_secs(seconds))
    }

    fn status(&self, pod: &Pod, runtime: &PodRuntime, ended: bool) -> k8s_openapi::api::core::v1::PodStatus {
        let old = self.context.status.latest(pod);
        generate(&StatusInput {
            pod,
            old: &old,
            runtime,
            reasons: &self.reasons,
            probes: &self.context.probes,
            host_ips: &self.context.host_ips(),
            now: Timestamp::now(),
            ended,
            failed: self.failed.as_ref(),
        })
    }

    async fn terminate(&mut self, mail: &Mail) -> Next {
        let pod = mail.pod.as_deref();
        self.context.probes.stop(&self.uid);
        let runtime = match self.look(mail).await {
            Ok(runtime) => runtime,
            Err(error) => return self.runtime_failed(&error),
        };
        // How it ended is told before its network is taken down; a final phase only once nothing runs.
        if let Some(pod) = pod.filter(|_| !mail.gone && runtime.running().next().is_none()) {
            let status = self.status(pod, &runtime, false);
            if let Err(error) = self.context.status.send(pod, &status).await {
                tracing::debug!(pod = %pod.described(), %error, "status was not sent, will retry");
                return Next::Retry;
            }
        }
        let grace = kill::grace_of(pod, runtime.containers.first());
        let stop = async {
            kill::containers(&self.context, pod, &runtime, grace).await?;
            kill::sandboxes(&self.context.cri, &runtime).await
        };
        let stopped = tokio::select! {
            stopped = stop => stopped,
            // Someone has less patience than was asked for at first: begin again with the shorter time.
            () = self.shorter(grace) => return Next::Now,
        };
        if let Err(error) = stopped {
            return self.runtime_failed(&error);
        }
        let addresses = runtime.sandboxes.first().map(|one| one.ips.clone()).unwrap_or_default();
        let mut runtime = match PodRuntime::read(&self.context.cri, &self.uid).await {
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
            if let Err(error) = self.context.status.send(pod, &status).await {
                tracing::debug!(pod = %pod.described(), %error, "status was not sent, will retry");
                return Next::Retry;
            }
        }
        self.state = State::Terminated;
        Next::Now
    }

    /// Returns when the pod's grace becomes shorter than this.
    async fn shorter(&self, grace: Duration) {
        loop {
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

    /// Gives back what the pod used; once it is deleted, removes the rest and its object.
    async fn finish(&mut self, mail: &Mail) -> Next {
        if !self.cleaned {
            if let Err(error) = self.context.volumes.remove(&self.uid).await {
                tracing::debug!(uid = %self.uid, %error, "volumes not removed yet, will retry");
                return Next::Retry;
            }
            if !self.remove_cgroup().await {
                return Next::Retry;
            }
            self.context.sources.release(&self.uid);
            self.cleaned = true;
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
        let pods: Api<Pod> = Api::namespaced(self.context.api.clone(), pod.namespace());
        match pods.delete(pod.name(), &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    async fn remove_cgroup(&self) -> bool {
        let removed = self.context.cgroups.remove_pod(&self.uid).await;
        if let Err(error) = &removed {
            tracing::debug!(uid = %self.uid, %error, "cgroup not removed yet, will retry");
        }
        removed.is_ok()
    }

    async fn remove_rest(&self, mail: &Mail) -> Next {
        let runtime = match PodRuntime::read(&self.context.cri, &self.uid).await {
            Ok(runtime) => runtime,
            Err(error) => return self.runtime_failed(&error),
        };
        if let Err(error) = kill::remove(&self.context.cri, &runtime).await {
            return self.runtime_failed(&error);
        }
        // The runtime may have put something into the cgroup until its sandbox was removed.
        if !self.remove_cgroup().await {
            return Next::Retry;
        }
        if let Some(pod) = &mail.pod {
            let logs = Execution::log_directory(&self.context, pod);
            let _ = files::blocking(move || files::tree::remove(&logs)).await;
        }
        Next::End
    }
}

/// Order in which pods claim the node's room: older first.
fn came_before(other: &Pod, pod: &Pod) -> bool {
    let running = other.status.as_ref().is_some_and(|status| status.container_statuses.is_some());
    let key =
        |pod: &Pod| (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.uid().to_string());
    running || key(other) < key(pod)
}

/// Removes dead instances but the newest two of each container: the present one and the one whose logs `--previous` shows.
async fn prune(context: &Context, runtime: &PodRuntime) {
    let mut seen: std::collections::HashMap<&str, u32> = std::collections::HashMap::new();
    for record in &runtime.containers {
        let count = seen.entry(&record.name).or_insert(0);
        *count += 1;
        if *count > 2 && record.phase != ContainerPhase::Running {
            if let Err(error) = context.cri.remove_container(&record.id).await {
                tracing::debug!(container = %record.id, %error, "dead container not removed");
                continue;
            }
            context.owners.lock().remove(&record.id);
            let log = record.log_path.clone();
            let _ = files::blocking(move || std::fs::remove_file(log)).await;
        }
    }
    let current = runtime.sandboxes.first().map(|one| one.id.as_str());
    for sandbox in &runtime.sandboxes {
        let used = runtime.containers.iter().any(|one| one.sandbox == sandbox.id);
        if Some(sandbox.id.as_str()) != current && !sandbox.ready && !used {
            let _ = context.cri.remove_sandbox(&sandbox.id).await;
        }
    }
}
