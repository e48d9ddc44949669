//! Stages and their tasks: spawning, what an exit means, stop in reverse order of creation.
//!
//! A stage can have children, which stop before it, and can stop by itself while the process goes on.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Clock;

/// What it means when a task's future ends before it was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// The task is done; nothing follows. A panic is logged.
    Done,
    /// The task should have gone on: the whole process stops, in order, with an error.
    Stop,
}

/// Owner of all stages. Clones share them.
#[derive(Clone)]
pub struct Supervisor {
    stages: Arc<Mutex<Vec<Stage>>>,
    failure: watch::Sender<Option<String>>,
    /// Counts how often the machine's clock was set.
    pub(crate) clock: watch::Sender<u64>,
}

/// A group of tasks that stop together. Clones share the group.
#[derive(Clone)]
pub struct Stage {
    name: Arc<str>,
    stop: CancellationToken,
    tracker: TaskTracker,
    failure: watch::Sender<Option<String>>,
    clock: watch::Sender<u64>,
    tasks: Arc<Mutex<BTreeMap<Arc<str>, Tasks>>>,
    children: Arc<Mutex<Children>>,
}

/// The children of a stage, oldest first.
#[derive(Default)]
struct Children {
    stages: Vec<Stage>,
    /// The stage is being stopped: a child that comes now is stopped from the beginning.
    closed: bool,
}

/// How many tasks of one name there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    pub running: usize,
    /// Since the start.
    pub panicked: usize,
}

/// A stage as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageReport {
    pub name: String,
    /// By name; tasks that have ended well are not in it.
    pub tasks: BTreeMap<String, Tasks>,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    pub fn new() -> Self {
        Supervisor { stages: Arc::default(), failure: watch::Sender::new(None), clock: watch::Sender::new(0) }
    }

    /// Adds a stage; it will be stopped before all stages added earlier.
    pub fn stage(&self, name: &str) -> Stage {
        let stage = Stage::new(name, &self.failure, &self.clock);
        self.stages.lock().push(stage.clone());
        stage
    }

    /// Every stage that has not been stopped, oldest first, with its tasks; children follow their parent.
    pub fn report(&self) -> Vec<StageReport> {
        let mut reports = Vec::new();
        for stage in self.stages.lock().iter() {
            stage.report(&mut reports);
        }
        reports
    }

    /// Returns, with a sentence, when a task that must not end has ended.
    pub async fn failed(&self) -> String {
        let mut receiver = self.failure.subscribe();
        match receiver.wait_for(Option::is_some).await {
            Ok(failure) => failure.clone().unwrap_or_default(),
            Err(_) => "the supervisor is gone".to_string(),
        }
    }

    /// Stops every stage, newest first, and waits for each; a stage that takes longer than `grace` is named
    /// in the log and left behind.
    pub async fn shutdown(&self, grace: Duration) {
        loop {
            let Some(stage) = self.stages.lock().pop() else { return };
            if !stage.stop(grace).await {
                let left = stage.tracker.len();
                tracing::warn!(stage = %stage.name, left, "tasks did not stop in time and are abandoned");
            }
        }
    }
}

impl Stage {
    fn new(name: &str, failure: &watch::Sender<Option<String>>, clock: &watch::Sender<u64>) -> Self {
        Stage {
            name: name.into(),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
            failure: failure.clone(),
            clock: clock.clone(),
            tasks: Arc::default(),
            children: Arc::default(),
        }
    }

    /// Adds a stage that stops before this one, and before its older siblings; or by itself, with
    /// [`Stage::stop`].
    pub fn child(&self, name: &str) -> Stage {
        let child = Stage::new(name, &self.failure, &self.clock);
        let mut children = self.children.lock();
        children.stages.retain(|stage| !stage.has_stopped());
        if children.closed {
            child.stop.cancel();
        } else {
            children.stages.push(child.clone());
        }
        child
    }

    /// Stops the stage's children, newest first, and then its own tasks, each joined for at most `grace`.
    /// Tells whether all tasks have ended; those that have not are still waited for by the next call.
    pub async fn stop(&self, grace: Duration) -> bool {
        let children = {
            let mut children = self.children.lock();
            children.closed = true;
            children.stages.clone()
        };
        let mut ended = true;
        for child in children.iter().rev() {
            ended &= Box::pin(child.stop(grace)).await;
        }
        self.stop.cancel();
        self.tracker.close();
        ended & tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }

    /// The stage was stopped, and all its tasks have ended.
    fn has_stopped(&self) -> bool {
        self.stop.is_cancelled() && self.tracker.is_empty()
    }

    fn report(&self, into: &mut Vec<StageReport>) {
        if self.has_stopped() {
            return;
        }
        let tasks = self.tasks.lock().iter().map(|(name, tasks)| (name.to_string(), *tasks)).collect();
        into.push(StageReport { name: self.name.to_string(), tasks });
        for child in &self.children.lock().stages {
            child.report(into);
        }
    }

    /// Cancelled when the stage is to stop; tasks select on it.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tells when the machine's clock was set.
    pub fn clock(&self) -> Clock {
        Clock::new(&self.clock)
    }

    /// Runs a task until it ends by itself; it is expected to watch [`Stage::stopping`].
    pub fn spawn<F>(&self, name: &str, on_exit: OnExit, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_stopped_by(name, on_exit, self.stop.clone(), Box::pin(task));
    }

    /// `stop` tells whether the task was meant to end. The task is behind a pointer, so that the runtime's
    /// code for tasks exists once and not for each task in the program.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    fn spawn_stopped_by(
        &self,
        name: &str,
        on_exit: OnExit,
        stop: CancellationToken,
        task: BoxFuture<'static, ()>,
    ) {
        let stage = self.clone();
        let name = self.begun(name);
        let supervised = std::panic::AssertUnwindSafe(task).catch_unwind().map(move |outcome| {
            stage.ended(&name, outcome.is_err());
            if outcome.is_err() {
                tracing::error!(stage = %stage.name, task = %name, "task panicked");
            }
            if on_exit == OnExit::Stop && !stop.is_cancelled() {
                let why = format!("task {name} of {} ended unexpectedly", stage.name);
                stage.failure.send_if_modified(|failure| {
                    let first = failure.is_none();
                    if first {
                        *failure = Some(why);
                    }
                    first
                });
            }
        });
        tokio::spawn(self.tracker.track_future(supervised));
    }

    /// Counts a task in.
    fn begun(&self, name: &str) -> Arc<str> {
        let mut tasks = self.tasks.lock();
        if let Some((known, _)) = tasks.get_key_value(name) {
            let known = known.clone();
            tasks.entry(known.clone()).or_default().running += 1;
            return known;
        }
        let name: Arc<str> = name.into();
        tasks.insert(name.clone(), Tasks { running: 1, panicked: 0 });
        name
    }

    fn ended(&self, name: &str, panicked: bool) {
        let mut tasks = self.tasks.lock();
        let Some(count) = tasks.get_mut(name) else { return };
        count.running = count.running.saturating_sub(1);
        count.panicked += usize::from(panicked);
        if *count == Tasks::default() {
            tasks.remove(name);
        }
    }

    /// Runs a task that is dropped at its next await point when the stage stops: for loops that hold nothing
    /// to tidy.
    pub fn spawn_cancellable<F>(&self, name: &str, on_exit: OnExit, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_until(name, on_exit, self.stop.clone(), task);
    }

    /// [`Stage::spawn_cancellable`] for a task that can be stopped alone: `stop` is a child of
    /// [`Stage::stopping`].
    pub fn spawn_until<F>(&self, name: &str, on_exit: OnExit, stop: CancellationToken, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_stopped_by(name, on_exit, stop.clone(), until(stop, Box::pin(task)).boxed());
    }
}

async fn until(stop: CancellationToken, task: BoxFuture<'static, ()>) {
    tokio::select! {
        // A stage that has been stopped begins nothing.
        biased;
        () = stop.cancelled() => {}
        () = task => {}
    }
}

#[cfg(test)]
mod tests;
