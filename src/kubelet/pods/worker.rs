//! One pod's worker: serial, woken by changes, ends when nothing of the pod is left. How its containers are
//! stopped is in [`stopping`], what comes after that in [`giving_back`].

mod giving_back;
mod stopping;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use client::ObjectApi;
use client::events::EventType;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::admit::Admission;
use super::execute::{Done, Execution, Launcher};
use super::plan;
use super::resize::{self, Grant, Phase, Progress};
use super::turns::Turns;
use crate::events::PodEvents;
use crate::host::Host;
use crate::probes::ProbeManager;
use crate::runtime::state::{ContainerPhase, PodRuntime};
use crate::runtime::{Runtime, RuntimeError};
use crate::sources::Sources;
use crate::spec::PodExt;
use crate::status::generate::generate;
use crate::status::input::{Reasons, StatusInput};
use crate::status::sender::StatusSender;
use crate::volumes::{Mounted, Volumes};
use crate::wake::{Mail, Mailbox, Wakers};

/// Where a pod is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It should run; the runtime is kept in line with its specification.
    Syncing,
    /// It is to end: deleted, gone, refused, or its containers are done for good. Containers are being
    /// stopped.
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

/// What the workers of one node share.
pub(crate) struct WorkerDeps {
    pub(crate) api: Arc<dyn ObjectApi>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) events: PodEvents,
    pub(crate) wakers: Wakers,
    pub(crate) sources: Sources,
    pub(crate) admission: Admission,
    pub(crate) status: StatusSender,
    pub(crate) probes: ProbeManager,
    pub(crate) volumes: Volumes,
    pub(crate) launcher: Launcher,
    pub(crate) turns: Turns,
}

pub(crate) struct Worker {
    deps: Arc<WorkerDeps>,
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
    /// The volumes as they were set up last, if nothing has happened since that could change them.
    mounted: Option<Mounted>,
    /// The CPU and memory that the node has granted.
    grant: Option<Grant>,
    progress: Progress,
}

impl Worker {
    pub(crate) fn new(deps: Arc<WorkerDeps>, uid: String, mailbox: Arc<Mailbox>) -> Self {
        Worker {
            deps,
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
            mounted: None,
            grant: None,
            progress: Progress::default(),
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let reasons = self.mailbox.take_reasons();
            if reasons.iter().any(|reason| reason.concerns_volumes()) {
                self.mounted = None;
            }
            tracing::trace!(uid = %self.uid, ?reasons, state = ?self.state, "looking at a pod");
            let mail = self.mailbox.read();
            // Boxed, so that a worker that waits, as nearly all do, does not hold the room that a look takes.
            let next = match self.state {
                State::Syncing => Box::pin(self.sync(&mail)).await,
                State::Terminating => Box::pin(self.terminate(&mail)).await,
                State::Terminated => Box::pin(self.finish(&mail)).await,
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
        self.deps.wakers.remove(&self.uid);
        self.deps.wakers.room_is_made();
        self.deps.sources.release(&self.uid);
        self.deps.status.forget(&self.uid);
        self.deps.launcher.restarts.lock().forget_all(&self.uid);
        self.deps.launcher.images.forget_pod(&self.uid);
        self.deps.launcher.owners.forget_pod(&self.uid);
    }

    /// The runtime's view of the pod, in step with the events that have arrived.
    async fn look(&self, mail: &Mail) -> Result<PodRuntime, RuntimeError> {
        let mut runtime = PodRuntime::read(&*self.deps.runtime, &self.uid).await?;
        let mut delay = Duration::from_millis(5);
        // An exit event reaches us and the CRI's own record at the same time: let the record catch up.
        for _ in 0..12 {
            let lagging = runtime.running().any(|one| mail.exited.contains(&one.id))
                || runtime.sandboxes.iter().any(|one| one.ready && mail.exited.contains(&one.id));
            if !lagging {
                break;
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_millis(500));
            runtime = PodRuntime::read(&*self.deps.runtime, &self.uid).await?;
        }
        let present: HashSet<&str> = runtime
            .containers
            .iter()
            .map(|one| one.id.as_str())
            .chain(runtime.sandboxes.iter().map(|one| one.id.as_str()))
            .collect();
        // An event may be older than what was read, but not newer: ids are forgotten only once the runtime
        // has.
        self.mailbox.forget_missing(&present);
        for id in present {
            self.deps.launcher.owners.note(id, &self.uid);
        }
        for record in &mut runtime.containers {
            if let Some(resources) = self.deps.launcher.resized.lock().get(&record.id) {
                record.resources = Some(resources.clone());
            }
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
        if let Some(ending) = &mail.ending {
            self.failed = Some((ending.reason.clone(), ending.message.clone()));
            self.state = State::Terminating;
            return Next::Now;
        }
        let runtime = match self.look(mail).await {
            Ok(runtime) => runtime,
            Err(error) => return self.runtime_failed(&error),
        };
        if !self.admitted && !self.admit(&pod, &runtime) {
            self.state = State::Terminating;
            return Next::Now;
        }
        let pod = self.granted(&pod);
        self.follow_resize(&pod, &runtime);
        let now = Timestamp::now();
        let deadline = self.deadline(&pod);
        if deadline.is_some_and(|deadline| now >= deadline) {
            let message = "Pod was active on the node longer than the specified deadline";
            self.deps.events.pod(&pod, EventType::Normal, "DeadlineExceeded", message);
            self.failed = Some(("DeadlineExceeded".to_string(), message.to_string()));
            self.state = State::Terminating;
            return Next::Now;
        }
        self.deps.probes.update(&pod, &runtime, &self.deps.status.latest(&pod));
        let status = self.status(&pod, &runtime, false);
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            self.state = State::Terminating;
            return Next::Now;
        }
        let sender = self.deps.status.clone();
        let send = sender.send(&pod, &status);
        let act = self.act(&pod, &status, &runtime, now);
        let (sent, (done, refresh)) = futures::future::join(send, act).await;
        if let Err(error) = sent {
            tracing::debug!(pod = %pod.described(), %error, "status was not sent, will retry");
            return Next::Retry;
        }
        if let Some(error) = &done.resize_error {
            self.tell_resize_error(&pod, error);
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
        status: &PodStatus,
        runtime: &PodRuntime,
        now: Timestamp,
    ) -> (Done, Option<Timestamp>) {
        let mounted = match self.mounted.take().filter(|one| one.refresh.is_none_or(|at| now < at)) {
            Some(mounted) => mounted,
            None => match self.mount(pod, now).await {
                Ok(mounted) => mounted,
                // Containers that run go on; nothing new starts.
                Err(retry) => return (Done { retry: Some(retry), ..Done::default() }, None),
            },
        };
        let actions = plan::plan(pod, runtime, &self.deps.probes);
        let done = self.execute(pod, status, runtime, &mounted, actions).await;
        giving_back::prune(&self.deps, runtime).await;
        let refresh = mounted.refresh;
        self.mounted = Some(mounted);
        (done, refresh)
    }

    /// Sets the volumes up, or tells why not and when to try again.
    async fn mount(&mut self, pod: &Pod, now: Timestamp) -> Result<Mounted, Timestamp> {
        let deps = &self.deps;
        match deps.volumes.mount(pod, &deps.admission.allocatable, now).await {
            Ok(mounted) => {
                self.mount_failures = 0;
                Ok(mounted)
            }
            Err(error) => {
                deps.events.pod(pod, EventType::Warning, "FailedMount", error.to_string());
                self.mount_failures = (self.mount_failures + 1).min(8);
                // 500 ms doubling to about two minutes, as upstream retries volume operations.
                let wait = SignedDuration::from_millis(500 << (self.mount_failures - 1))
                    .min(SignedDuration::from_secs(122));
                Err(now + wait)
            }
        }
    }

    async fn execute(
        &mut self,
        pod: &Pod,
        status: &PodStatus,
        runtime: &PodRuntime,
        mounted: &Mounted,
        plan: plan::PodActions,
    ) -> Done {
        let turn = if plan.starts_something() {
            tokio::select! {
                turn = self.deps.turns.take() => Some(turn),
                () = self.mailbox.ending.cancelled() => return Done { changed: true, ..Done::default() },
            }
        } else {
            None
        };
        let execution = Execution {
            launcher: &self.deps.launcher,
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
        let Err((reason, message)) = self.deps.admission.judge(pod) else { return true };
        self.deps.events.pod(pod, EventType::Warning, &reason, message.clone());
        self.failed = Some((reason, format!("Pod was rejected: {message}")));
        false
    }

    /// The pod with the CPU and memory that the node grants it: what it asks for, if there is room.
    fn granted(&mut self, pod: &Arc<Pod>) -> Arc<Pod> {
        let asked = Grant::asked(pod);
        let grant = match self.grant.take() {
            Some(grant) => grant,
            None => Grant::adopted(pod, &self.deps.status.latest(pod)),
        };
        let generation = pod.metadata.generation;
        let refused = if grant == asked { Ok(()) } else { self.deps.admission.judge_resize(pod) };
        if let Err((_, message)) = refused {
            let phase = Phase { reason: "Deferred".to_string(), message, generation };
            let known = self.progress.pending.as_ref().is_some_and(|old| old.generation == generation);
            if !known {
                let text = resize::message("Pod resize Deferred", pod, generation, &phase.message);
                self.deps.events.pod(pod, EventType::Warning, "ResizeDeferred", text);
            }
            self.progress.pending = Some(phase);
            let granted = Arc::new(grant.applied(pod).into_owned());
            self.mailbox.note_granted(Some(granted.clone()));
            self.grant = Some(grant);
            return granted;
        }
        if grant != asked {
            let text = resize::message("Pod resize started", pod, generation, "");
            self.deps.events.pod(pod, EventType::Normal, "ResizeStarted", text);
            self.progress.running = Some(Phase { generation, ..Phase::default() });
        }
        self.progress.pending = None;
        self.mailbox.note_granted(None);
        self.grant = Some(asked);
        pod.clone()
    }

    /// Notes whether a resize goes on, and tells when it is done.
    fn follow_resize(&mut self, pod: &Pod, runtime: &PodRuntime) {
        if resize::is_under_way(pod, runtime) {
            let begun = Phase { generation: pod.metadata.generation, ..Phase::default() };
            self.progress.running.get_or_insert(begun);
        } else if let Some(done) = self.progress.running.take() {
            let text = resize::message("Pod resize completed", pod, done.generation, "");
            self.deps.events.pod(pod, EventType::Normal, "ResizeCompleted", text);
            self.deps.wakers.room_is_made();
        }
    }

    fn tell_resize_error(&mut self, pod: &Pod, error: &str) {
        let generation = pod.metadata.generation;
        let phase = self.progress.running.get_or_insert(Phase { generation, ..Phase::default() });
        if phase.message != error {
            let text = resize::message("Pod resize error", pod, phase.generation, error);
            self.deps.events.pod(pod, EventType::Warning, "ResizeError", text);
        }
        (phase.reason, phase.message) = ("Error".to_string(), error.to_string());
    }

    fn deadline(&self, pod: &Pod) -> Option<Timestamp> {
        let seconds = pod.spec_ref().active_deadline_seconds?;
        let began = self.deps.status.latest(pod).start_time.as_ref().map(|time| time.0)?;
        Some(began + SignedDuration::from_secs(seconds))
    }

    fn status(&self, pod: &Pod, runtime: &PodRuntime, ended: bool) -> PodStatus {
        let old = self.deps.status.latest(pod);
        let ending = self.mailbox.read().ending;
        generate(&StatusInput {
            pod,
            old: &old,
            runtime,
            reasons: &self.reasons,
            progress: &self.progress,
            probes: &self.deps.probes,
            host_ips: &self.deps.launcher.inputs.host_ips(),
            now: Timestamp::now(),
            ended,
            failed: self.failed.as_ref(),
            disruption: ending.as_ref().filter(|one| one.is_disruption).map(|one| one.message.as_str()),
        })
    }
}

#[cfg(test)]
mod tests;
