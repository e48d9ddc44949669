//! What has become of the snapshots since the start: for the status, and as events.

use agent::Problem;
use agent::status::collect::second;
use agent::status::report::{Failure, Snapshot};
use client::events::{EventType, Recorder};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::Mutex;

use super::Saved;

/// The last of each kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) failure: Option<Failure>,
    pub(crate) upload: Option<Snapshot>,
    pub(crate) upload_failure: Option<Failure>,
}

pub(crate) struct Past {
    outcomes: Mutex<Outcomes>,
    recorder: Recorder,
    /// What events are about.
    regarding: ObjectReference,
}

impl Past {
    pub(crate) fn new(recorder: Recorder, regarding: ObjectReference) -> Self {
        Past { outcomes: Mutex::default(), recorder, regarding }
    }

    pub(crate) fn outcomes(&self) -> Outcomes {
        self.outcomes.lock().clone()
    }

    /// Notes the outcome of saving; a success puts an earlier failure right.
    pub(super) fn saved(&self, outcome: Result<Saved, Problem>) -> Result<Saved, Problem> {
        self.outcomes.lock().failure =
            outcome.as_ref().err().map(|problem| self.failed("SnapshotFailed", problem));
        outcome
    }

    pub(super) fn uploaded(
        &self,
        name: &str,
        size: u64,
        outcome: Result<(), Problem>,
    ) -> Result<(), Problem> {
        let mut outcomes = self.outcomes.lock();
        match &outcome {
            Ok(()) => {
                outcomes.upload =
                    Some(Snapshot { name: name.to_string(), at: second(Timestamp::now()), size });
                outcomes.upload_failure = None;
            }
            Err(problem) => outcomes.upload_failure = Some(self.failed("SnapshotUploadFailed", problem)),
        }
        outcome
    }

    fn failed(&self, reason: &str, problem: &Problem) -> Failure {
        let why = problem.to_string();
        tracing::error!(%problem, "no snapshot is kept");
        self.recorder.event(&self.regarding, EventType::Warning, reason, why.clone());
        Failure { at: second(Timestamp::now()), why }
    }
}
