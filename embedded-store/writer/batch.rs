//! Requests that are proposed together, and who waits for their answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::log::record::Request;
use crate::state::ApplyOutcome;
use crate::types::{LeaseId, OpResult, StoreError};
use crate::writer::queue::{Answer, Shared};
use crate::writer::submission::{Deliveries, Reply};

/// Requests that are proposed together.
pub(crate) struct Batch {
    pub(crate) requests: Vec<Request>,
    pub(crate) waiting: Waiting,
    /// About as many bytes as they have.
    pub(crate) size: usize,
}

/// The receivers of a batch's answers, in the order of its requests. If it is dropped, they see that the
/// store is stopped.
pub(crate) struct Waiting {
    pub(super) shared: Arc<Shared>,
    pub(super) replies: Vec<Option<Reply>>,
    /// Leases that have expired. Their revocations are the last requests of the batch.
    pub(super) expired: Vec<LeaseId>,
}

impl Waiting {
    /// Sends each receiver the outcome of its request.
    pub(crate) fn answered(self, outcomes: Vec<Answer>) {
        self.count(&outcomes);
        let revocations = outcomes.iter().rev().zip(self.expired.iter().rev());
        let failed = |outcome: &Answer| outcome.as_ref().is_err_and(|e| *e != StoreError::LeaseNotFound);
        revocations
            .filter(|(outcome, _)| failed(outcome))
            .for_each(|(_, id)| self.shared.lessor.start(*id, 1));
        let mut deliveries = Deliveries::default();
        for (reply, outcome) in self.replies.into_iter().zip(outcomes) {
            if let Some(reply) = reply {
                deliveries.add(reply, outcome);
            }
        }
        deliveries.send();
    }

    /// Sends all receivers an error: none of the requests was carried out.
    pub(crate) fn refused(self, error: &StoreError) {
        self.shared.metrics.failed_proposals.fetch_add(self.replies.len() as u64, Ordering::Relaxed);
        // Tried again in a second. Until then they can be renewed.
        self.expired.iter().for_each(|id| self.shared.lessor.start(*id, 1));
        for reply in self.replies.into_iter().flatten() {
            reply.send(Err(error.clone()));
        }
    }

    /// Counts what the requests did.
    fn count(&self, outcomes: &[Answer]) {
        let (mut puts, mut deletes) = (0, 0);
        for result in outcomes.iter().flatten() {
            let ApplyOutcome::Txn(result) = result else { continue };
            count_writes(&result.results, &mut puts, &mut deletes);
        }
        self.shared.metrics.puts.fetch_add(puts, Ordering::Relaxed);
        self.shared.metrics.deletes.fetch_add(deletes, Ordering::Relaxed);
    }
}

fn count_writes(results: &[OpResult], puts: &mut u64, deletes: &mut u64) {
    for result in results {
        match result {
            OpResult::Put { .. } => *puts += 1,
            OpResult::Delete { .. } => *deletes += 1,
            OpResult::Range(_) => {}
            OpResult::Txn(inner) => count_writes(&inner.results, puts, deletes),
        }
    }
}
