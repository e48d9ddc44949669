//! Graceful node shutdown: while the machine is about to go down, pods end in order and with grace.
//!
//! logind is asked to hold a shutdown back ([`logind`]). When one is announced, the node becomes NotReady and
//! lets no pod in, ordinary pods are ended, then critical ones; then logind may go on. Each of the two has
//! its share of the time, whether or not its pods have ended by then. Off unless a time is configured, as
//! upstream's. Absent: shares by priority, and metrics about shutdowns.

mod logind;

use std::sync::Arc;
use std::time::Duration;

use client::BoxFuture;
use client::events::{EventType, Recorder};
use futures::future::join_all;
use supervisor::{OnExit, Stage};
use tokio::sync::watch;

use crate::images::import::node_reference;
use crate::pods::kill;
use crate::spec::PodExt;
use crate::wake::{Ending, Mailbox, Wakers};

pub(crate) use logind::Logind;

const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
/// When logind is asked again after it was not reached.
const RECONNECT: Duration = Duration::from_secs(1);
const LONGEST_RECONNECT: Duration = Duration::from_secs(60);

/// How long a shutdown is held back for pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownGrace {
    /// For all pods; nothing is held back if it is zero.
    pub total: Duration,
    /// The part of it that is kept for critical ones.
    pub critical: Duration,
}

/// Why a shutdown is not held back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PowerError {
    #[error("cannot reach logind over D-Bus: {0}")]
    Bus(#[from] zbus::Error),
    #[error("cannot tell logind to wait longer in {path}: {source}")]
    File { path: &'static str, source: std::io::Error },
    #[error("logind lets a shutdown wait for {} s at most, and {} s are wanted", .allowed.as_secs(), .wanted.as_secs())]
    TooShort { allowed: Duration, wanted: Duration },
}

/// Holds a shutdown back until it is dropped.
pub(crate) type Lock = Box<dyn Send>;

/// Who shuts the machine down.
pub(crate) trait Power: Send {
    /// Has a shutdown wait for at most so long.
    fn hold(&mut self, most: Duration) -> BoxFuture<'_, Result<Lock, PowerError>>;
    /// Whether one is announced, or called off; none if nothing more will be said.
    fn announced(&mut self) -> BoxFuture<'_, Option<bool>>;
}

/// A node that may be shut down.
pub(crate) struct NodeShutdown {
    pub(crate) grace: ShutdownGrace,
    pub(crate) wakers: Wakers,
    pub(crate) recorder: Recorder,
    pub(crate) node_name: String,
    /// What admission and the node's status go by.
    pub(crate) is_going: watch::Sender<bool>,
}

/// Looks after shutdowns for ever, if any time is configured for them.
pub(crate) fn start(shutdown: NodeShutdown, stage: &Stage) {
    if shutdown.grace.total.is_zero() {
        return;
    }
    stage.spawn_cancellable("node shutdown", OnExit::Stop, async move {
        let mut delay = RECONNECT;
        loop {
            match Logind::connect().await {
                Ok(mut power) => match shutdown.follow(&mut power).await {
                    Ok(()) => delay = RECONNECT,
                    Err(error) => tracing::warn!(%error, "pods get no time when the machine is shut down"),
                },
                Err(error) => tracing::warn!(%error, "pods get no time when the machine is shut down"),
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(LONGEST_RECONNECT);
        }
    });
}

impl NodeShutdown {
    /// Returns when nothing more is announced.
    async fn follow(&self, power: &mut dyn Power) -> Result<(), PowerError> {
        let mut lock = Some(power.hold(self.grace.total).await?);
        while let Some(goes) = power.announced().await {
            let what = if goes { "shutdown event" } else { "shutdown cancellation" };
            let message = format!("Shutdown manager detected {what}");
            let node = node_reference(&self.node_name);
            self.recorder.event(&node, EventType::Normal, "NodeShutdown", message);
            self.is_going.send_replace(goes);
            if goes {
                self.end_pods().await;
                lock = None;
            } else {
                lock = Some(power.hold(self.grace.total).await?);
            }
        }
        drop(lock);
        Ok(())
    }

    /// Ordinary pods first, then critical ones.
    async fn end_pods(&self) {
        let critical = self.grace.critical.min(self.grace.total);
        for (is_critical, time) in [(false, self.grace.total - critical), (true, critical)] {
            let is_of_this_part = |mailbox: &Arc<Mailbox>| {
                let pod = mailbox.read().pod;
                pod.is_some_and(|pod| !pod.is_finished() && pod.is_critical() == is_critical)
            };
            let pods: Vec<Arc<Mailbox>> = self.wakers.all().into_iter().filter(is_of_this_part).collect();
            let ends = join_all(pods.iter().map(|mailbox| end(mailbox, time)));
            if tokio::time::timeout(time, ends).await.is_err() {
                tracing::warn!(is_critical, ?time, "pods did not end in the time that a shutdown waits");
            }
        }
    }
}

/// Ends a pod in its own time, but no later than this; returns once its containers have ended and its volumes
/// are given back.
async fn end(mailbox: &Mailbox, time: Duration) {
    let grace = kill::grace_of(mailbox.read().pod.as_deref(), None).min(time);
    mailbox.end(Ending {
        reason: "Terminated".to_string(),
        message: MESSAGE.to_string(),
        is_disruption: true,
        grace,
    });
    mailbox.over.cancelled().await;
}

#[cfg(test)]
mod tests;
