//! Whatever sled does to what it holds is noticed: its own checksums are not what we rely on.

use super::*;
use crate::consensus::ids::Membership;
use crate::log::record::{Record, Request};
use crate::state::history::HistoryLimits;
use crate::types::{Op, Txn};

fn apply(state: &mut State, request: Request) {
    state.apply(&Record { term: 1, index: state.index + 1, time: 0, request }).outcome.unwrap();
}

fn put(key: &str, value: Vec<u8>, lease: LeaseId) -> Request {
    let op = Op::Put { key: key.to_string().into(), value: value.into(), lease };
    Request::Txn(Txn { success: vec![op], ..Txn::default() })
}

/// A base of several pieces with two checkpoints of changes behind it, and the state they stand for.
fn filled(path: &Path) -> State {
    let mut checkpoints = Checkpoints::open(path).unwrap();
    let mut state = State::new(HistoryLimits::default());
    state.dirty = Some(Default::default());
    let members =
        Membership { configs: vec![vec![1, 2]], members: vec![(1, "one".into()), (2, "two".into())] };
    apply(&mut state, Request::Members(members));
    apply(&mut state, Request::LeaseGrant { id: 7, ttl: 30 });
    apply(&mut state, put("leased", vec![1; 10], 7));
    apply(&mut state, put("large", vec![2; 100_000], 0));
    apply(&mut state, put("other", vec![3; 70_000], 0));
    checkpoints.write(Job::take(&mut state, 5, true)).unwrap();
    apply(&mut state, put("other", vec![4; 20], 0));
    checkpoints.write(Job::take(&mut state, 5, false)).unwrap();
    apply(&mut state, Request::LeaseGrant { id: 8, ttl: 60 });
    apply(&mut state, put("leased", vec![5; 50_000], 8));
    apply(&mut state, Request::LeaseRevoke { id: 7 });
    checkpoints.write(Job::take(&mut state, 5, false)).unwrap();
    state
}

fn load(path: &Path) -> Result<(State, Description), CheckpointError> {
    Checkpoints::open(path)?.load(HistoryLimits::default()).map(|found| found.expect("a description"))
}

#[test]
fn a_state_reads_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let state = filled(dir.path());
    let (found, description) = load(dir.path()).unwrap();
    assert_eq!((&found.keys, &found.group, &found.leases), (&state.keys, &state.group, &state.leases));
    assert_eq!((description, description.store), (Description::of(&state, 5), 5));
    found.validate();
}

#[test]
fn a_kill_while_sled_opens_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let state = filled(dir.path());
    for half in [&b""[..], b"half", &[7; 5000]] {
        std::fs::write(dir.path().join("snap.FFFFFFFFFFFFFFF0.generating"), half).unwrap();
        assert_eq!(load(dir.path()).unwrap().0.keys, state.keys);
    }
}

#[test]
fn what_sled_loses_or_changes_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let mut checkpoints = Checkpoints::open(dir.path()).unwrap();
    let whole: Vec<(sled::IVec, sled::IVec)> = checkpoints.db.iter().map(Result::unwrap).collect();
    assert!(whole.len() > 8, "there are pieces of all kinds: {}", whole.len());
    let mut tried = 0;
    let mut check = |what: &str, key: &sled::IVec, changed: Option<Vec<u8>>| {
        let whole = match changed {
            Some(changed) => checkpoints.db.insert(key, changed),
            None => checkpoints.db.remove(key),
        };
        let found = checkpoints.load(HistoryLimits::default());
        assert!(matches!(found, Err(CheckpointError::Damaged { .. })), "{key:?}, {what}: goes unnoticed");
        checkpoints.db.insert(key, whole.unwrap().unwrap()).unwrap();
        tried += 1;
    };
    for (key, value) in &whole {
        check("gone", key, None);
        check("short", key, Some(value[..value.len() - 1].to_vec()));
        for position in [0, 1, value.len() / 2, value.len() - 1] {
            let mut changed = value.to_vec();
            changed[position] ^= 0x10;
            check("a bit changed", key, Some(changed));
        }
        for (_, other) in whole.iter().filter(|(other, _)| other != key) {
            check("another's value", key, Some(other.to_vec()));
        }
    }
    assert!(tried > 100, "{tried} ways");
    checkpoints.load(HistoryLimits::default()).unwrap();
}
