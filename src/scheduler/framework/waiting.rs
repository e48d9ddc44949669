//! Pods that wait for Permit plugins: assumed on their nodes, not yet bound.
//!
//! A pod goes on once every plugin that asked it to wait has allowed it, and is rejected by the first that
//! does not, or whose time is up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Code, Status};
use crate::pod::PodInfo;

/// The waiting pods of all profiles.
#[derive(Default)]
pub struct WaitingPods {
    by_uid: Mutex<HashMap<String, Arc<WaitingPod>>>,
}

impl WaitingPods {
    pub fn get(&self, uid: &str) -> Option<Arc<WaitingPod>> {
        self.by_uid.lock().get(uid).cloned()
    }

    /// All that wait now, in no order.
    pub fn list(&self) -> Vec<Arc<WaitingPod>> {
        self.by_uid.lock().values().cloned().collect()
    }

    pub(crate) fn add(
        &self,
        pod: Arc<PodInfo>,
        node: &str,
        times: Vec<(&'static str, Duration)>,
    ) -> Arc<WaitingPod> {
        let now = Instant::now();
        let pending = times.into_iter().map(|(plugin, time)| (plugin, (time, now + time))).collect();
        let waiting = Arc::new(WaitingPod {
            pod: pod.clone(),
            node: node.to_string(),
            pending: Mutex::new(pending),
            outcome: watch::Sender::new(None),
        });
        self.by_uid.lock().insert(pod.uid.clone(), waiting.clone());
        waiting
    }

    /// Waits for the plugins' decision; the pod waits no more afterwards.
    pub(crate) async fn decided(&self, waiting: &WaitingPod) -> Status {
        let status = waiting.decided().await;
        self.by_uid.lock().remove(&waiting.pod.uid);
        if status.is_error() { status.while_doing("waiting on permit for pod") } else { status }
    }
}

/// One pod that waits.
pub struct WaitingPod {
    pub pod: Arc<PodInfo>,
    /// Where it is to be bound.
    pub node: String,
    /// What each plugin that asked for it allows, and until when that is.
    pending: Mutex<BTreeMap<&'static str, (Duration, Instant)>>,
    outcome: watch::Sender<Option<Status>>,
}

impl WaitingPod {
    /// Plugins that have not yet spoken.
    pub fn pending_plugins(&self) -> Vec<&'static str> {
        self.pending.lock().keys().copied().collect()
    }

    /// As far as this plugin is concerned the pod may go on.
    pub fn allow(&self, plugin: &str) {
        let mut pending = self.pending.lock();
        pending.remove(plugin);
        if pending.is_empty() {
            self.decide(Status::success());
        }
    }

    /// The pod is unschedulable. Tells whether that was news: the first decision stands.
    pub fn reject(&self, plugin: &'static str, message: impl Into<String>) -> bool {
        self.decide(Status::new(Code::Unschedulable, message.into()).by(plugin))
    }

    fn decide(&self, status: Status) -> bool {
        self.outcome.send_if_modified(|outcome| {
            let first = outcome.is_none();
            if first {
                *outcome = Some(status);
            }
            first
        })
    }

    async fn decided(&self) -> Status {
        let mut outcome = self.outcome.subscribe();
        loop {
            let next = self.pending.lock().iter().map(|(plugin, (time, end))| (*end, *plugin, *time)).min();
            let timeout = async {
                match next {
                    Some((end, ..)) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                decided = outcome.wait_for(Option::is_some) => {
                    let lost = || Status::error("nobody decides any more");
                    return decided.ok().and_then(|status| status.clone()).unwrap_or_else(lost);
                }
                () = timeout => {
                    let Some((_, plugin, time)) = next else { continue };
                    // One that has allowed it since does not count any more.
                    if self.pending.lock().contains_key(plugin) {
                        let waited = format!("rejected due to timeout after waiting {}", go_duration(time));
                        self.reject(plugin, format!("{waited} at plugin {plugin}"));
                    }
                }
            }
        }
    }
}

/// As Go prints durations: `1h0m0s`, `2m30s`, `1.5s`, `200ms`.
fn go_duration(time: Duration) -> String {
    let short = |value: f64, unit: &str| {
        let digits = format!("{value:.9}");
        format!("{}{unit}", digits.trim_end_matches('0').trim_end_matches('.'))
    };
    let nanos = time.as_nanos() as f64;
    if time.is_zero() {
        return "0s".to_string();
    }
    if time < Duration::from_secs(1) {
        return match time {
            _ if nanos < 1e3 => short(nanos, "ns"),
            _ if nanos < 1e6 => short(nanos / 1e3, "µs"),
            _ => short(nanos / 1e6, "ms"),
        };
    }
    let (hours, minutes) = (time.as_secs() / 3600, time.as_secs() / 60 % 60);
    let seconds = short((time.as_secs() % 60) as f64 + f64::from(time.subsec_nanos()) / 1e9, "s");
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, _) => format!("{minutes}m{seconds}"),
        _ => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests;
