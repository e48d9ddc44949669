//! openraft's state machine on ours.
//!
//! A snapshot is taken as a copy of the state in memory and written out only when it is sent: most are asked
//! for only to know how far the log may go.

use std::io::{self, Cursor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::storage::RaftStateMachine;
use openraft::{BasicNode, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StoredMembership};
use parking_lot::Mutex;

use crate::checkpoint::CheckpointFailure;
use crate::consensus::ids;
use crate::consensus::storage::StateMachine;
use crate::group::entry::{Answer, Entry, LogId, MemberId, Types, our_id, their_id, theirs};
use crate::group::forward::Forwards;
use crate::group::storage::{Failure, failed};
use crate::log::record::{Record, Request};
use crate::state::frozen::Frozen;
use crate::state::{ApplyOutcome, State};
use crate::types::StoreError;
use crate::writer::queue::Shared;

/// What a snapshot holds.
pub(crate) enum Body {
    /// A copy of this member's state.
    Frozen(Box<Frozen>),
    /// What another member has sent: the file that `minik8s snapshot save` writes.
    File(Vec<u8>),
}

impl Body {
    /// The snapshot as a file. Takes as long as the state is large.
    pub(crate) fn into_file(self) -> io::Result<Vec<u8>> {
        match self {
            Body::File(file) => Ok(file),
            Body::Frozen(frozen) => {
                let mut file = Cursor::new(Vec::new());
                frozen.write(&mut file, &[])?;
                Ok(file.into_inner())
            }
        }
    }
}

/// Reads a snapshot in the form of a file.
pub(crate) type ReadSnapshot = fn(&[u8]) -> io::Result<State>;

pub(crate) type Meta = SnapshotMeta<MemberId, BasicNode>;

#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) state: Arc<dyn StateMachine>,
    /// The store that the state belongs to, if it keeps it on disk.
    pub(crate) store: Option<Arc<Shared>>,
    pub(crate) committed: Arc<Mutex<ids::LogId>>,
    /// Who waits for what this member has asked the leader to write.
    pub(crate) forwards: Arc<Forwards>,
    /// A checkpoint is being written for a snapshot.
    pub(crate) checkpointing: Arc<AtomicBool>,
    pub(crate) read: ReadSnapshot,
}

impl Machine {
    pub(crate) fn meta(&self) -> Meta {
        let (applied, since, membership) = self.state.applied();
        SnapshotMeta {
            last_log_id: their_id(applied),
            last_membership: StoredMembership::new(their_id(since), theirs(&membership)),
            snapshot_id: format!("{}-{}", applied.term, applied.index),
        }
    }

    /// Brings the state to disk. Only then may the log before it go.
    async fn checkpoint(&self) -> Result<(), Failure> {
        let Some(store) = &self.store else { return Ok(()) };
        self.checkpointing.store(true, Ordering::Release);
        let written = store.request_checkpoint(false).await.unwrap_or(Err(CheckpointFailure::Stopped));
        self.checkpointing.store(false, Ordering::Release);
        written.map_err(|why| failed(io::Error::other(why)))
    }

    fn freeze(&self) -> Snapshot<Types> {
        let frozen = self.state.snapshot();
        let applied = ids::LogId { term: frozen.term, index: frozen.index };
        let group = &frozen.group;
        let meta = SnapshotMeta {
            last_log_id: their_id(applied),
            last_membership: StoredMembership::new(their_id(group.since), theirs(&group.membership)),
            snapshot_id: format!("{}-{}", applied.term, applied.index),
        };
        Snapshot { meta, snapshot: Box::new(Body::Frozen(Box::new(frozen))) }
    }

    /// The leader has the deadlines of leases, whoever asked for them.
    fn note_leases(&self, request: &Request, outcome: &Result<ApplyOutcome, StoreError>) {
        let Some(store) = &self.store else { return };
        match (request, outcome) {
            (Request::LeaseGrant { id, ttl }, Ok(_)) => store.lessor.start(*id, *ttl),
            (Request::LeaseRevoke { id } | Request::LeaseRevokeUnless { id, .. }, Ok(_)) => {
                store.lessor.forget(*id);
            }
            _ => {}
        }
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, Failure> {
        let snapshot = self.freeze();
        self.checkpoint().await?;
        Ok(snapshot)
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId>, StoredMembership<MemberId, BasicNode>), Failure> {
        let meta = self.meta();
        Ok((meta.last_log_id, meta.last_membership))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answer>, Failure>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records: Vec<Record> = entries.into_iter().map(|entry| entry.record).collect();
        if let Some(last) = records.last() {
            *self.committed.lock() = last.id();
        }
        let outcomes = self.state.apply(&records);
        for (record, outcome) in records.iter().zip(&outcomes) {
            let (requests, Ok(ApplyOutcome::Batch(outcomes))) = (record.request.batch(), outcome) else {
                continue;
            };
            for (request, outcome) in requests.iter().zip(outcomes) {
                self.note_leases(request, outcome);
            }
            if let Request::Forwarded { member, number, .. } = &record.request {
                self.forwards.applied(*member, *number, outcomes);
            }
        }
        // The writer's thread looks after watches, leases and checkpoints.
        self.store.iter().for_each(|store| store.wake_now());
        Ok(outcomes.into_iter().map(Answer).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Body>, Failure> {
        Ok(Box::new(Body::File(Vec::new())))
    }

    async fn install_snapshot(&mut self, meta: &Meta, body: Box<Body>) -> Result<(), Failure> {
        let state = Arc::clone(&self.state);
        let (committed, read) = (Arc::clone(&self.committed), self.read);
        let last = meta.last_log_id.map(our_id).unwrap_or_default();
        let installed = tokio::task::spawn_blocking(move || {
            let file = body.into_file()?;
            let contents = read(&file)?;
            if (contents.term, contents.index) != (last.term, last.index) {
                return Err(io::Error::other("the snapshot is not what it was announced as"));
            }
            *committed.lock() = last;
            state.install(contents);
            Ok(())
        });
        installed.await.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(failed)?;
        self.checkpoint().await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, Failure> {
        // Always a fresh one: what it is needed for is a member that is far behind.
        Ok(self.meta().last_log_id.is_some().then(|| self.freeze()))
    }
}
