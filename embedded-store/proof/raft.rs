//! openraft's own test suite for storage, on our log and our state machine: replication can be put on these two seams as
//! they are. The adapter here changes names, and indexes: openraft counts records from 0, we from 1.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Debug;
use std::io::Cursor;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use openraft::entry::{FromAppData, RaftEntry, RaftPayload};
use openraft::log_id::RaftLogId;
use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{
    BasicNode, CommittedLeaderId, LogState, Membership, OptionalSend, RaftLogReader, RaftSnapshotBuilder,
    Snapshot, SnapshotMeta, StorageError, StorageIOError, StoredMembership, TokioRuntime,
};
use parking_lot::Mutex;

use crate::HistoryLimits;
use crate::core::Core;
use crate::disk::fake::FakeDisk;
use crate::log::Log;
use crate::record::{Record, Request};
use crate::replica::{self, LogStorage, StateMachine};
use crate::snapshot;
use crate::state::Outcome;
use crate::types::StoreError;

type Member = u64;
type LogId = openraft::LogId<Member>;
type Vote = openraft::Vote<Member>;
type Failure = StorageError<Member>;

/// What a client asks of the group, and what it is told.
#[derive(Debug)]
struct Proposal(Request);
#[derive(Debug)]
struct Answer(#[expect(dead_code, reason = "told to whoever prints it")] Result<Outcome, StoreError>);

openraft::declare_raft_types!(
    Group: D = Proposal, R = Answer, NodeId = Member, Node = BasicNode, Entry = Entry, SnapshotData = Vec<u8>,
    AsyncRuntime = TokioRuntime
);

/// A record, with what openraft wants to borrow of it.
#[derive(Clone, Debug)]
struct Entry {
    record: Record,
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

    fn new(id: LogId, request: Request) -> Entry {
        let replica::LogId { term, index } = our_id(id);
        Entry::of(Record { term, index, time: 0, request })
    }
}

fn our_id(id: LogId) -> replica::LogId {
    replica::LogId { term: id.leader_id.term, index: id.index + 1 }
}

fn their_id(id: replica::LogId) -> Option<LogId> {
    (id.index > 0).then(|| LogId::new(CommittedLeaderId::new(id.term, 0), id.index - 1))
}

fn ours(membership: &Membership<Member, BasicNode>) -> replica::Membership {
    let configs = membership.get_joint_config().iter().map(|config| config.iter().copied().collect());
    let members = membership.nodes().map(|(member, node)| (*member, node.addr.clone().into()));
    replica::Membership { configs: configs.collect(), members: members.collect() }
}

fn theirs(membership: &replica::Membership) -> Membership<Member, BasicNode> {
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
        Entry::new(LogId::default(), proposal.0)
    }
}

impl RaftLogId<Member> for Entry {
    fn get_log_id(&self) -> &LogId {
        &self.id
    }

    fn set_log_id(&mut self, id: &LogId) {
        *self = Entry::new(*id, self.record.request.clone());
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
        Entry::new(id, Request::Blank)
    }

    fn new_membership(id: LogId, membership: Membership<Member, BasicNode>) -> Self {
        Entry::new(id, Request::Members(ours(&membership)))
    }
}

fn failed(e: impl std::error::Error + 'static) -> Failure {
    StorageIOError::write(&e).into()
}

/// The suite takes a log for a map: it begins in the middle, leaves gaps and goes back behind what was purged. The
/// engine does none of it: its logs are contiguous, as ours must be.
fn make_room(log: &mut Box<dyn LogStorage>, id: replica::LogId) {
    let next = log.state().last.index + 1;
    if id.index < next {
        let vote = log.vote();
        *log = empty_log();
        vote.into_iter().for_each(|vote| log.save_vote(vote).unwrap());
    }
    if log.state().last.index == 0 && id.index > 1 {
        log.purge(replica::LogId { term: 0, index: id.index - 1 }).unwrap();
    }
    for index in log.state().last.index + 1..id.index {
        log.append(&Record { term: id.term, index, time: 0, request: Request::Blank });
    }
}

/// With small segments, so that the suite goes through their joints.
fn empty_log() -> Box<dyn LogStorage> {
    Box::new(Log::create(Arc::new(FakeDisk::default()), 300, 1, 1).unwrap())
}

#[derive(Clone)]
struct Storage(Arc<Mutex<Box<dyn LogStorage>>>);

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
        let records = self.0.lock().read(start..end).map_err(failed)?;
        Ok(records.into_iter().map(Entry::of).collect())
    }
}

impl RaftLogStorage<Group> for Storage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Group>, Failure> {
        let state = self.0.lock().state();
        Ok(LogState { last_purged_log_id: their_id(state.purged), last_log_id: their_id(state.last) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), Failure> {
        let member = vote.leader_id.voted_for.unwrap_or_default();
        let vote = replica::Vote { term: vote.leader_id.term, member, committed: vote.committed };
        self.0.lock().save_vote(vote).map_err(failed)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, Failure> {
        Ok(self.0.lock().vote().map(|vote| match vote.committed {
            true => Vote::new_committed(vote.term, vote.member),
            false => Vote::new(vote.term, vote.member),
        }))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Group>) -> Result<(), Failure>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut log = self.0.lock();
        for entry in entries {
            make_room(&mut log, entry.record.id());
            log.append(&entry.record);
        }
        callback.log_io_completed(log.sync());
        Ok(())
    }

    async fn truncate(&mut self, id: LogId) -> Result<(), Failure> {
        self.0.lock().truncate(our_id(id).index).map_err(failed)
    }

    async fn purge(&mut self, id: LogId) -> Result<(), Failure> {
        self.0.lock().purge(our_id(id)).map_err(failed)
    }
}

type Newest = Option<(SnapshotMeta<Member, BasicNode>, Vec<u8>)>;

#[derive(Clone)]
struct Machine {
    state: Arc<dyn StateMachine>,
    newest: Arc<Mutex<Newest>>,
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
}

impl RaftSnapshotBuilder<Group> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Group>, Failure> {
        let mut file = Cursor::new(Vec::new());
        let meta = self.meta();
        self.state.snapshot().write(&mut file, &[]).map_err(failed)?;
        *self.newest.lock() = Some((meta.clone(), file.get_ref().clone()));
        Ok(Snapshot { meta, snapshot: Box::new(file.into_inner()) })
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
        Ok(self.state.apply(&records).into_iter().map(Answer).collect())
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
        self.state.install(state);
        assert_eq!(&self.meta(), meta, "the file itself says what it stands for");
        *self.newest.lock() = Some((meta.clone(), *file));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Group>>, Failure> {
        let newest = self.newest.lock().clone();
        Ok(newest.map(|(meta, file)| Snapshot { meta, snapshot: Box::new(file) }))
    }
}

struct Builder;

impl StoreBuilder<Group, Storage, Machine> for Builder {
    async fn build(&self) -> Result<((), Storage, Machine), Failure> {
        let state = Core::new(HistoryLimits::default());
        Ok(((), Storage(Arc::new(Mutex::new(empty_log()))), Machine { state, newest: Arc::default() }))
    }
}

#[test]
fn openraft_could_stand_on_our_log_and_state() {
    Suite::test_all(Builder).unwrap();
}

#[test]
fn an_installed_snapshot_is_one_change_to_those_who_look() {
    use crate::types::{Op, RangeRequest, StoreError, Txn, WatchRequest};
    use futures::{FutureExt, StreamExt};
    let put = |key: &str, value: &str| Op::Put {
        key: key.to_string().into(),
        value: value.to_string().into(),
        lease: 0,
    };
    let apply = |core: &Core, index: u64, ops: Vec<Op>| {
        let request = Request::Txn(Txn { success: ops, ..Txn::default() });
        core.apply(&[Record { term: 1, index, time: 0, request }]).pop().unwrap().unwrap();
    };
    let (ahead, behind) = (Core::new(HistoryLimits::default()), Core::new(HistoryLimits::default()));
    for core in [&ahead, &behind] {
        apply(core, 1, vec![put("same", "1"), put("gone", "1"), put("changed", "1")]);
    }
    for index in 2..50 {
        apply(&ahead, index, vec![put("changed", &index.to_string()), put(&format!("new-{index}"), "x")]);
    }
    apply(&ahead, 50, vec![Op::Delete { key: "gone".into(), range_end: None }]);
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    behind.observe(Arc::new(move |events, revision| sink.lock().push((events.len(), revision))));
    let watch = |key: &'static str| {
        behind.watch(&WatchRequest { key: key.into(), range_end: None, start_revision: 0 }).unwrap()
    };
    let (mut changed, mut same) = (watch("changed"), watch("same"));

    let mut file = Cursor::new(Vec::new());
    ahead.snapshot().write(&mut file, &[]).unwrap();
    behind.install(snapshot::contents(Path::new("received"), file.get_ref()).unwrap());

    let all = RangeRequest { key: "\0".into(), range_end: Some("\0".into()), ..Default::default() };
    assert_eq!(behind.state.read().range(&all), ahead.state.read().range(&all));
    behind.state.read().validate();
    assert_eq!((behind.applied(), behind.published()), (ahead.applied(), 51));
    assert_eq!(*told.lock(), [(50, 51)], "one gone, one changed, 48 new");
    assert_eq!(changed.next().now_or_never(), Some(Some(Err(StoreError::Lagged))));
    assert_eq!(same.next().now_or_never(), None, "nothing of its own was changed");
    apply(&behind, 51, vec![put("same", "2")]);
    assert_eq!(same.next().now_or_never().unwrap().unwrap().unwrap().revision, 52);
}
