//! Leader election: of all candidates one runs the loops, as long as it holds a Lease.
//!
//! The Lease has client-go's form and times, so that `kubectl get lease` shows what people expect and
//! upstream's components are candidates like ours. A candidate that cannot renew stops its loops before
//! anybody else may begin; the process goes on and stands again. Because a paused process cannot know that
//! its time is over, each term also has a [`Fence`], which the API server checks in the transaction of every
//! write of the loops.
//!
//! Times are measured here, from when a change was seen: candidates' clocks need not agree. Absent:
//! coordinated election (LeaseCandidate).

use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, CreateOptions, Kinded, Object, UpdateOptions};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use supervisor::{OnExit, Stage};
use tokio::time::Instant;

use crate::events::{EventType, Recorder};
use crate::{ObjectApi, ObjectRef};

/// What a write has to find in a Lease, in its own transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub namespace: String,
    pub name: String,
    /// `spec.holderIdentity` and `spec.leaseTransitions`: together they name a term, whatever is renewed
    /// meanwhile.
    pub holder: String,
    pub transitions: i32,
}

impl Fence {
    /// Whether this is still the term that the Lease names.
    pub fn is_current(&self, lease: &Lease) -> bool {
        let spec = lease.spec.as_ref();
        spec.and_then(|spec| spec.holder_identity.as_deref()) == Some(self.holder.as_str())
            && spec.and_then(|spec| spec.lease_transitions).unwrap_or(0) == self.transitions
    }
}

/// How long a Lease is good for and how it is kept.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Others wait so long after the last sign of its holder.
    pub lease: Duration,
    /// A holder that could not renew for so long stops.
    pub renew_deadline: Duration,
    /// Between two attempts to get or to keep it.
    pub retry: Duration,
}

impl Default for Times {
    /// kube-scheduler's and kube-controller-manager's.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Times { lease: seconds(15), renew_deadline: seconds(10), retry: seconds(2) }
    }
}

/// One candidate for one Lease.
pub struct Election {
    pub api: Arc<dyn ObjectApi>,
    pub recorder: Recorder,
    pub namespace: String,
    pub name: String,
    /// The name of this candidate alone. One that comes back with the identity that the Lease names goes on
    /// without waiting.
    pub identity: String,
    pub times: Times,
}

/// The time during which this candidate leads.
pub struct Term {
    /// Loops run here, and are stopped and joined when the term ends.
    pub stage: Stage,
    /// Goes with every write of the loops.
    pub fence: Arc<Fence>,
}

/// How long the loops of a term may take to stop before that is told. They are waited for in any case.
const GRACE: Duration = Duration::from_secs(15);

/// Stands for election in a task of `stage` until that stops. `lead` starts the loops of a term; it must not
/// wait. When the stage stops, the loops are stopped first and the Lease is released after them.
pub fn run(election: Election, stage: &Stage, lead: impl FnMut(&Term) + Send + 'static) {
    let name = format!("leader election of {}", election.name);
    let candidate = Candidate { election, seen: None, stage: stage.clone() };
    stage.spawn(&name, OnExit::Stop, candidate.run(lead));
}

/// The Lease as it was seen last.
struct Seen {
    object: Arc<Object>,
    lease: Arc<Lease>,
    /// When it was seen to change.
    at: Instant,
}

struct Candidate {
    election: Election,
    seen: Option<Seen>,
    stage: Stage,
}

impl Candidate {
    async fn run(mut self, mut lead: impl FnMut(&Term) + Send + 'static) {
        let stopping = self.stage.stopping();
        loop {
            let acquired = tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                acquired = self.acquire() => acquired,
            };
            let Some(fence) = self.fence() else { continue };
            let (name, identity) = (self.election.name.clone(), self.election.identity.clone());
            tracing::info!(lease = %name, %identity, transitions = fence.transitions, "leading");
            self.tell("became leader");
            let fence = Arc::new(fence);
            let term = Term { stage: self.stage.child(&name), fence: fence.clone() };
            lead(&term);
            let lost = tokio::select! {
                biased;
                () = stopping.cancelled() => None,
                why = self.keep(acquired, &fence) => Some(why),
            };
            if let Some(why) = &lost {
                tracing::warn!(lease = %name, why, "not leading any more, the loops are stopped");
            }
            while !term.stage.stop(GRACE).await {
                tracing::warn!(lease = %name, "loops that may not go on have not stopped yet");
            }
            self.tell("stopped leading");
            if lost.is_none() {
                self.release().await;
                return;
            }
        }
    }

    /// Tries until the Lease is held; the answer is the time from which on it is.
    async fn acquire(&mut self) -> Instant {
        loop {
            let began = Instant::now();
            match tokio::time::timeout(self.election.times.renew_deadline, self.attempt()).await {
                Ok(Ok(true)) => return began,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(lease = %self.election.name, %error, "cannot get the lease"),
                Err(_) => tracing::warn!(lease = %self.election.name, "getting the lease takes too long"),
            }
            self.pause().await;
        }
    }

    /// Renews for as long as that succeeds; the answer says why it does no more.
    async fn keep(&mut self, acquired: Instant, term: &Fence) -> String {
        let mut renewed = acquired;
        loop {
            self.pause().await;
            let (began, deadline) = (Instant::now(), renewed + self.election.times.renew_deadline);
            if began >= deadline {
                return "it was not renewed in time".to_string();
            }
            match tokio::time::timeout_at(deadline, self.attempt()).await {
                Ok(Ok(true)) if self.fence().as_ref() == Some(term) => renewed = began,
                // Somebody deleted or changed it: what the loops write now would be refused.
                Ok(Ok(true)) => return "it was replaced, and a new term begins".to_string(),
                Ok(Ok(false)) if self.held_by_other() => return "another candidate holds it".to_string(),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(lease = %self.election.name, %error, "cannot renew the lease");
                }
                Err(_) => return "it could not be renewed in time".to_string(),
            }
        }
    }

    /// Between two attempts; not all candidates at once.
    async fn pause(&self) {
        tokio::time::sleep(self.election.times.retry.mul_f64(rand::random_range(1.0..1.2))).await;
    }

    fn at(&self) -> ObjectRef<'_> {
        ObjectRef::new(Some(&self.election.namespace), &self.election.name)
    }

    /// Takes the Lease or renews it, if nobody else has it. Tells whether it is held now.
    async fn attempt(&mut self) -> Result<bool, ApiError> {
        match self.election.api.get(Lease::row(), self.at()).await {
            Ok(object) => self.see(object)?,
            Err(error) if error.is_not_found() => self.seen = None,
            Err(error) => return Err(error),
        }
        let now = micro_time(Timestamp::now());
        let Some(seen) = &self.seen else {
            let mut body = json!({
                "apiVersion": Lease::row().api_version(),
                "kind": Lease::row().kind,
                "metadata": {"name": self.election.name},
            });
            body["spec"] = self.spec(&now, &now, 0);
            let (namespace, options) = (Some(self.election.namespace.as_str()), CreateOptions::default());
            return match self.election.api.create(Lease::row(), namespace, body, &options).await {
                Ok(object) => self.see(object).map(|()| true),
                Err(error) if error.is_already_exists() => Ok(false),
                Err(error) => Err(error),
            };
        };
        if self.held_by_other() && !self.is_over(seen) {
            return Ok(false);
        }
        let mut tree = seen.object.tree().map_err(ApiError::internal)?;
        let spec = seen.lease.spec.clone().unwrap_or_default();
        let transitions = spec.lease_transitions.unwrap_or(0);
        let own = spec.holder_identity.as_deref() == Some(self.election.identity.as_str());
        let acquired = tree["spec"]["acquireTime"].as_str().filter(|_| own).unwrap_or(&now).to_string();
        tree["spec"] = self.spec(&acquired, &now, if own { transitions } else { transitions + 1 });
        self.update(tree).await
    }

    /// Puts the Lease in the place of the one that was seen. Tells whether that was still the one.
    async fn update(&mut self, mut tree: Value) -> Result<bool, ApiError> {
        let version = self.seen.as_ref().map(|seen| seen.object.resource_version().to_string());
        tree["metadata"]["resourceVersion"] = json!(version);
        let options = UpdateOptions::default();
        match self.election.api.update(Lease::row(), self.at(), tree, &options).await {
            Ok(object) => self.see(object).map(|()| true),
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, acquired: &str, renewed: &str, transitions: i32) -> Value {
        json!({
            "holderIdentity": self.election.identity,
            "leaseDurationSeconds": self.election.times.lease.as_secs(),
            "acquireTime": acquired,
            "renewTime": renewed,
            "leaseTransitions": transitions,
        })
    }

    fn see(&mut self, object: Arc<Object>) -> Result<(), ApiError> {
        let lease: Arc<Lease> = object.typed().map_err(ApiError::internal)?;
        let same = self.seen.as_ref().is_some_and(|seen| seen.lease.spec == lease.spec);
        let at = self.seen.as_ref().filter(|_| same).map_or_else(Instant::now, |seen| seen.at);
        self.seen = Some(Seen { object, lease, at });
        Ok(())
    }

    fn held_by_other(&self) -> bool {
        let spec = self.seen.as_ref().and_then(|seen| seen.lease.spec.as_ref());
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or("");
        !holder.is_empty() && holder != self.election.identity
    }

    /// Its holder has given no sign for as long as it wanted to be waited for.
    fn is_over(&self, seen: &Seen) -> bool {
        let wanted = seen.lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let wanted = wanted.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        seen.at.elapsed() >= wanted.unwrap_or(self.election.times.lease)
    }

    /// The fence of the term that the Lease names, which is this candidate's.
    fn fence(&self) -> Option<Fence> {
        let spec = self.seen.as_ref()?.lease.spec.as_ref()?;
        Some(Fence {
            namespace: self.election.namespace.clone(),
            name: self.election.name.clone(),
            holder: spec.holder_identity.clone()?,
            transitions: spec.lease_transitions.unwrap_or(0),
        })
    }

    /// Lets others have the Lease at once.
    async fn release(&mut self) {
        let Some(seen) = self.seen.as_ref().filter(|_| !self.held_by_other()) else { return };
        let Ok(mut tree) = seen.object.tree() else { return };
        let now = micro_time(Timestamp::now());
        let transitions = tree["spec"]["leaseTransitions"].take();
        tree["spec"] = json!({
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        });
        let released = tokio::time::timeout(self.election.times.retry, self.update(tree)).await;
        match released {
            Ok(Ok(true)) => tracing::info!(lease = %self.election.name, "the lease is released"),
            _ => tracing::warn!(lease = %self.election.name, "the lease could not be released and runs out"),
        }
    }

    /// As client-go tells it.
    fn tell(&self, what: &str) {
        let regarding = ObjectReference {
            api_version: Some(Lease::row().api_version()),
            kind: Some(Lease::row().kind.to_string()),
            namespace: Some(self.election.namespace.clone()),
            name: Some(self.election.name.clone()),
            uid: self.seen.as_ref().map(|seen| seen.object.uid().to_string()),
            ..ObjectReference::default()
        };
        let message = format!("{} {what}", self.election.identity);
        self.election.recorder.event(&regarding, EventType::Normal, "LeaderElection", message);
    }
}

/// A `MicroTime` as the API writes it.
fn micro_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
