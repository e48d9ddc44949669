//! openraft's storage traits on our log and our state machine. The adapter changes names, and indexes:
//! openraft counts records from 0, we from 1.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Debug;
use std::io;
use std::io::Cursor;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use openraft::entry::{FromAppData, RaftEntry, RaftPayload};
use openraft::log_id::RaftLogId;
use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{
    BasicNode, CommittedLeaderId, LogState, Membership, OptionalSend, RaftLogReader, RaftSnapshotBuilder,
    Snapshot, SnapshotMeta, StorageError, StorageIOError, StoredMembership, TokioRuntime,
};
use parking_lot::Mutex;

use crate::checkpoint::CheckpointFailure;
use crate::consensus::ids;
use crate::consensus::storage::{LogStorage, StateMachine};
use crate::log::Log;
use crate::log::disk::fake::FakeDisk;
use crate::log::record::{Record, Request};
use crate::snapshot;
use crate::state::ApplyOutcome;
use crate::types::StoreError;
use crate::writer::queue::Shared;

pub(crate) type Member = u64;
pub(crate) type LogId = openraft::LogId<Member>;
pub(crate) type Vote = openraft::Vote<Member>;
pub(crate) type Failure = StorageError<Member>;

/// What a client asks of the group, and what it is told.
#[derive(Debug)]
pub(crate) struct Proposal {
    /// The clock of the leader that proposes it, in milliseconds.
    pub(crate) time: u64,
    pub(crate) request: Request,
}
#[derive(Debug)]
pub(crate) struct Answer(pub(crate) Result<ApplyOutcome, StoreError>);

openraft::declare_raft_types!(
    pub(crate) Group:
        D = Proposal, R = Answer, NodeId = Member, Node = BasicNode, Entry = Entry,
        SnapshotData = Vec<u8>, AsyncRuntime = TokioRuntime
);

/// A record, with what openraft wants to borrow of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    id: LogId,
    membership: Option<Membership<Member, BasicNode>>,
}

impl Entry {
    fn of(record: Record) -> Entry {
        let membership = match &record.request {
            Request::Members(membership) => Some(theirs(membership)),
            _ => None,
        };
        Entry { id: their_id(record.id()).unwrap(), membership, record }
    }

    fn new(id: LogId, time: u64, request: Request) -> Entry {
        let ids::LogId { term, index } = our_id(id);
        Entry::of(Record { term, index, time, request })
    }
}

pub(crate) fn our_id(id: LogId) -> ids::LogId {
    ids::LogId { term: id.leader_id.term, index: id.index + 1 }
}

pub(crate) fn their_id(id: ids::LogId) -> Option<LogId> {
    (id.index > 0).then(|| LogId::new(CommittedLeaderId::new(id.term, 0), id.index - 1))
}

fn ours(membership: &Membership<Member, BasicNode>) -> ids::Membership {
    let configs = membership.get_joint_config().iter().map(|config| config.iter().copied().collect());
    let members = membership.nodes().map(|(member, node)| (*member, node.addr.clone().into()));
    ids::Membership { configs: configs.collect(), members: members.collect() }
}

fn theirs(membership: &ids::Membership) -> Membership<Member, BasicNode> {
    let configs = membership.configs.iter().map(|config| config.iter().copied().collect::<BTreeSet<_>>());
    let node = |address: &[u8]| BasicNode::new(String::from_utf8_lossy(address));
    let members: BTreeMap<_, _> = membership.members.iter().map(|(id, at)| (*id, node(at))).collect();
    Membership::new(configs.collect(), members)
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.record)
    }
}

impl FromAppData<Proposal> for Entry {
    fn from_app_data(proposal: Proposal) -> Self {
        Entry::new(LogId::default(), proposal.time, proposal.request)
    }
}

impl RaftLogId<Member> for Entry {
    fn get_log_id(&self) -> &LogId {
        &self.id
    }

    fn set_log_id(&mut self, id: &LogId) {
        let ids::LogId { term, index } = our_id(*id);
        (self.id, self.record.term, self.record.index) = (*id, term, index);
    }
}

impl RaftPayload<Member, BasicNode> for Entry {
    fn is_blank(&self) -> bool {
        self.record.request == Request::Blank
    }

    fn get_membership(&self) -> Option<&Membership<Member, BasicNode>> {
        self.membership.as_ref()
    }
}

impl RaftEntry<Member, BasicNode> for Entry {
    fn new_blank(id: LogId) -> Self {
        Entry::new(id, 0, Request::Blank)
    }

    fn new_membership(id: LogId, membership: Membership<Member, BasicNode>) -> Self {
        Entry::new(id, 0, Request::Members(ours(&membership)))
    }
}

fn failed(e: impl std::error::Error + 'static) -> Failure {
    StorageIOError::write(&e).into()
}

/// The suite takes a log for a map: it begins in the middle, leaves gaps and goes back behind what was
/// purged. The engine does none of it: its logs are contiguous, as ours must be.
fn make_room(log: &mut Box<dyn LogStorage>, id: ids::LogId) {
    let next = log.state().last.index + 1;
    if id.index < next {
        let vote = log.vote();
        *log = empty_log();
        vote.into_iter().for_each(|vote| log.save_vote(vote).unwrap());
    }
    if log.state().last.index == 0 && id.index > 1 {
        log.purge(ids::LogId { term: 0, index: id.index - 1 }).unwrap();
    }
    for index in log.state().last.index + 1..id.index {
        log.append(&Record { term: id.term, index, time: 0, request: Request::Blank });
    }
}

/// With small segments, so that the suite goes through their joints.
pub(super) fn empty_log() -> Box<dyn LogStorage> {
    Box::new(Log::create(Arc::new(FakeDisk::default()), 300, 1, 1).unwrap())
}

pub(crate) type SharedLog = Arc<Mutex<Box<dyn LogStorage>>>;

#[derive(Clone)]
pub(crate) struct Storage {
    pub(crate) log: SharedLog,
    /// For openraft's suite only.
    pub(crate) makes_room: bool,
}

impl RaftLogReader<Group> for Storage {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, Failure> {
        let start = match range.start_bound() {
            Bound::Included(start) => start + 1,
            Bound::Excluded(start) => start + 2,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 2,
            Bound::Excluded(end) => end + 1,
            Bound::Unbounded => u64::MAX,
        };
        let records = self.log.lock().read(start..end).map_err(failed)?;
        Ok(records.into_iter().map(Entry::of).collect())
    }
}

impl RaftLogStorage<Group> for Storage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Group>, Failure> {
        let state = self.log.lock().state();
        Ok(LogState { last_purged_log_id: their_id(state.purged), last_log_id: their_id(state.last) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), Failure> {
        let member = vote.leader_id.voted_for.unwrap_or_default();
        let vote = ids::Vote { term: vote.leader_id.term, member, committed: vote.committed };
        self.log.lock().save_vote(vote).map_err(failed)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, Failure> {
        Ok(self.log.lock().vote().map(|vote| match vote.committed {
            true => Vote::new_committed(vote.term, vote.member),
            false => Vote::new(vote.term, vote.member),
        }))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Group>) -> Result<(), Failure>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut log = self.log.lock();
        for entry in entries {
            if self.makes_room {
                make_room(&mut log, entry.record.id());
            }
            log.append(&entry.record);
        }
        let synced = log.sync();
        if synced.is_ok() {
            // Failing to is no harm.
            let _ = log.roll();
        }
        callback.log_io_completed(synced);
        Ok(())
    }

    async fn truncate(&mut self, id: LogId) -> Result<(), Failure> {
        self.log.lock().truncate(our_id(id).index).map_err(failed)
    }

    async fn purge(&mut self, id: LogId) -> Result<(), Failure> {
        self.log.lock().purge(our_id(id)).map_err(failed)
    }
}

pub(crate) type Newest = Option<(SnapshotMeta<Member, BasicNode>, Vec<u8>)>;

#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) state: Arc<dyn StateMachine>,
    pub(crate) newest: Arc<Mutex<Newest>>,
    /// The store that the state belongs to, if it keeps it on disk.
    pub(crate) store: Option<Arc<Shared>>,
    pub(crate) committed: Arc<Mutex<ids::LogId>>,
}

impl Machine {
    fn meta(&self) -> SnapshotMeta<Member, BasicNode> {
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
        let written = store.request_checkpoint(false).await.unwrap_or(Err(CheckpointFailure::Stopped));
        written.map_err(|why| failed(io::Error::other(why)))
    }

    #[expect(clippy::result_large_err, reason = "it is openraft's own error")]
    fn freeze(&self) -> Result<(SnapshotMeta<Member, BasicNode>, Vec<u8>), Failure> {
        let mut file = Cursor::new(Vec::new());
        let meta = self.meta();
        self.state.snapshot().write(&mut file, &[]).map_err(failed)?;
        Ok((meta, file.into_inner()))
    }
}

impl RaftSnapshotBuilder<Group> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Group>, Failure> {
        let (meta, file) = self.freeze()?;
        self.checkpoint().await?;
        *self.newest.lock() = Some((meta.clone(), file.clone()));
        Ok(Snapshot { meta, snapshot: Box::new(file) })
    }
}

impl RaftStateMachine<Group> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId>, StoredMembership<Member, BasicNode>), Failure> {
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
        // The writer's thread looks after watches and leases.
        self.store.iter().for_each(|store| store.wake_now());
        Ok(outcomes.into_iter().map(Answer).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, Failure> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<Member, BasicNode>,
        file: Box<Vec<u8>>,
    ) -> Result<(), Failure> {
        let state = snapshot::contents(Path::new("received"), &file).map_err(failed)?;
        *self.committed.lock() = meta.last_log_id.map(our_id).unwrap_or_default();
        self.state.install(state);
        self.checkpoint().await?;
        assert_eq!(&self.meta(), meta, "the file itself says what it stands for");
        *self.newest.lock() = Some((meta.clone(), *file));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Group>>, Failure> {
        let mut newest = self.newest.lock().clone();
        if newest.is_none() && self.store.is_some() && self.meta().last_log_id.is_some() {
            // What was there when it was opened.
            newest = Some(self.freeze()?);
        }
        Ok(newest.map(|(meta, file)| Snapshot { meta, snapshot: Box::new(file) }))
    }
}
