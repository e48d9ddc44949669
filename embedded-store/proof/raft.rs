//! openraft's own test suite for storage, on our log and our state machine as a group's engine uses them.

use std::io;
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};
use parking_lot::Mutex;

use crate::HistoryLimits;
use crate::consensus::ids::{LogId, Vote};
use crate::consensus::storage::{LogState, LogStorage, StateMachine};
use crate::group::entry::Types;
use crate::group::forward::Forwards;
use crate::group::machine::Machine;
use crate::group::storage::{Failure, SharedLog, Storage};
use crate::log::Log;
use crate::log::disk::fake::FakeDisk;
use crate::log::error::LogError;
use crate::log::record::{Record, Request};
use crate::snapshot;
use crate::state::core::Core;

struct Builder;

impl StoreBuilder<Types, Storage, Machine> for Builder {
    async fn build(&self) -> Result<((), Storage, Machine), Failure> {
        let state = Core::new(HistoryLimits::default());
        let log = Storage(SharedLog::new(Box::new(Roomy(empty_log()))));
        let machine = Machine {
            state,
            store: None,
            committed: Arc::default(),
            forwards: Arc::new(Forwards::new(1)),
            checkpointing: Arc::default(),
            read: |file| snapshot::contents(Path::new("received"), file).map_err(io::Error::other),
        };
        Ok(((), log, machine))
    }
}

/// With small segments, so that the suite goes through their joints.
fn empty_log() -> Box<dyn LogStorage> {
    Box::new(Log::create(Arc::new(FakeDisk::default()), 300, 1, 1).unwrap())
}

/// The suite takes a log for a map: it begins in the middle, leaves gaps and goes back behind what was
/// purged. The engine does none of it: its logs are contiguous, as ours must be.
struct Roomy(Box<dyn LogStorage>);

impl Roomy {
    fn make_room(&mut self, id: LogId) {
        let log = &mut self.0;
        let next = log.state().last.index + 1;
        if id.index < next {
            let vote = log.vote();
            *log = empty_log();
            vote.into_iter().for_each(|vote| log.save_vote(vote).unwrap());
        }
        if log.state().last.index == 0 && id.index > 1 {
            log.purge(LogId { term: 0, index: id.index - 1 }).unwrap();
        }
        for index in log.state().last.index + 1..id.index {
            log.append(&Record { term: id.term, index, time: 0, request: Request::Blank });
        }
    }
}

impl LogStorage for Roomy {
    fn state(&self) -> LogState {
        self.0.state()
    }

    fn vote(&self) -> Option<Vote> {
        self.0.vote()
    }

    fn save_vote(&mut self, vote: Vote) -> io::Result<()> {
        self.0.save_vote(vote)
    }

    fn append(&mut self, record: &Record) {
        self.make_room(record.id());
        self.0.append(record);
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }

    fn read(&self, indexes: Range<u64>) -> Result<Vec<Record>, LogError> {
        self.0.read(indexes)
    }

    fn truncate(&mut self, since: u64) -> io::Result<()> {
        self.0.truncate(since)
    }

    fn purge(&mut self, up_to: LogId) -> io::Result<()> {
        self.0.purge(up_to)
    }

    fn roll(&mut self, now: bool) -> io::Result<()> {
        self.0.roll(now)
    }

    fn buffered(&self) -> usize {
        self.0.buffered()
    }

    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn free(&self) -> io::Result<u64> {
        self.0.free()
    }
}

#[test]
fn openraft_stands_on_our_log_and_state() {
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
    let (leader, follower) = (Core::new(HistoryLimits::default()), Core::new(HistoryLimits::default()));
    for core in [&leader, &follower] {
        apply(core, 1, vec![put("same", "1"), put("gone", "1"), put("changed", "1")]);
    }
    for index in 2..50 {
        apply(&leader, index, vec![put("changed", &index.to_string()), put(&format!("new-{index}"), "x")]);
    }
    apply(&leader, 50, vec![Op::Delete { key: "gone".into(), range_end: None }]);
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    follower.observe(Arc::new(move |events, revision| sink.lock().push((events.len(), revision))));
    let watch = |key: &'static str| {
        follower.watch(&WatchRequest { key: key.into(), range_end: None, start_revision: 0 }).unwrap()
    };
    let (mut changed, mut same) = (watch("changed"), watch("same"));

    let mut file = Cursor::new(Vec::new());
    leader.snapshot().write(&mut file, &[]).unwrap();
    follower.install(snapshot::contents(Path::new("received"), file.get_ref()).unwrap());

    let all = RangeRequest { key: "\0".into(), range_end: Some("\0".into()), ..Default::default() };
    assert_eq!(follower.state.read().range(&all), leader.state.read().range(&all));
    follower.state.read().validate();
    assert_eq!((follower.applied(), follower.published()), (leader.applied(), 51));
    assert_eq!(*told.lock(), [(50, 51)], "one gone, one changed, 48 new");
    assert_eq!(changed.next().now_or_never(), Some(Some(Err(StoreError::Lagged))));
    assert_eq!(same.next().now_or_never(), None, "nothing of its own was changed");
    apply(&follower, 51, vec![put("same", "2")]);
    assert_eq!(same.next().now_or_never().unwrap().unwrap().unwrap().revision, 52);
}
