//! openraft's own test suite for storage, on our log and our state machine: replication can be put on these
//! two seams as they are.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};
use parking_lot::Mutex;

use crate::HistoryLimits;
use crate::consensus::storage::StateMachine;
use crate::log::record::{Record, Request};
use crate::snapshot;
use crate::state::core::Core;

pub(crate) mod adapter;

use adapter::{Failure, Group, Machine, Storage, empty_log};

struct Builder;

impl StoreBuilder<Group, Storage, Machine> for Builder {
    async fn build(&self) -> Result<((), Storage, Machine), Failure> {
        let state = Core::new(HistoryLimits::default());
        let log = Storage { log: Arc::new(Mutex::new(empty_log())), makes_room: true };
        let (newest, committed) = (Arc::default(), Arc::default());
        Ok(((), log, Machine { state, newest, store: None, committed }))
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
