//! Space is given back, and a crash at any step of it leaves all that was there.

use super::*;
use crate::checkpoint::Job;
use crate::log::record::{Record, Request};
use crate::state::State;
use crate::state::history::HistoryLimits;
use crate::types::{Op, Txn};

fn apply(state: &mut State, op: Op) {
    let request = Request::Txn(Txn { success: vec![op], ..Txn::default() });
    state.apply(&Record { term: 1, index: state.index + 1, time: 0, request }).outcome.unwrap();
}

fn put(state: &mut State, key: usize, size: usize) {
    apply(state, Op::Put { key: format!("key-{key:04}").into(), value: vec![7; size].into(), lease: 0 });
}

fn empty() -> State {
    let mut state = State::new(HistoryLimits::default());
    state.dirty = Some(Default::default());
    state
}

fn load(path: &Path) -> (Checkpoints, State) {
    let mut checkpoints = Checkpoints::open(path).unwrap();
    let (state, _) = checkpoints.load(HistoryLimits::default()).unwrap().expect("a description");
    (checkpoints, state)
}

#[test]
fn what_is_gone_takes_no_space() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut checkpoints = Checkpoints::open(&path).unwrap();
    let mut state = empty();
    (0..3000).for_each(|key| put(&mut state, key, 8000));
    checkpoints.write(Job::take(&mut state, 5, true)).unwrap();
    (10..3000).for_each(|key| {
        apply(&mut state, Op::Delete { key: format!("key-{key:04}").into(), range_end: None });
    });
    checkpoints.write(Job::take(&mut state, 5, true)).unwrap();
    let live = crate::checkpoint::live(&state);
    assert!(oversized(checkpoints.bytes(), live, 16 << 20), "{} bytes for {live}", checkpoints.bytes());

    let rewrite = Job { rewrite: true, ..Job::take(&mut state, 5, true) };
    checkpoints.write(rewrite).unwrap();
    assert!(checkpoints.bytes() < 4 << 20, "{} bytes for {live}", checkpoints.bytes());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");

    // And it goes on from there, with changes and with bases.
    for all in [false, true, false] {
        put(&mut state, 5, 20_000);
        checkpoints.write(Job::take(&mut state, 5, all)).unwrap();
    }
    drop(checkpoints);
    assert_eq!(load(&path).1.keys, state.keys);
}

#[test]
fn a_crash_in_between_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut state = empty();
    put(&mut state, 1, 100);
    Checkpoints::open(&path).unwrap().write(Job::take(&mut state, 5, true)).unwrap();
    let before = state.keys.clone();
    put(&mut state, 2, 100);
    let complete = |path: &Path, state: &mut State| {
        Checkpoints::open_sled(path).unwrap().write(Job::take(state, 5, true)).unwrap();
    };
    let check = |what: &str, keys: &std::collections::BTreeMap<_, _>| {
        assert_eq!(&load(&path).1.keys, keys, "{what}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{what}: nothing is left beside it");
    };

    Checkpoints::open_sled(&new(&path)).unwrap().db.insert(b"b", b"half").unwrap();
    check("the new one is not complete", &before);
    complete(&new(&path), &mut state);
    check("the new one is complete", &before);
    complete(&new(&path), &mut state);
    fs::rename(&path, old(&path)).unwrap();
    check("the old one has been moved away", &before);
    complete(&new(&path), &mut state);
    fs::rename(&path, old(&path)).unwrap();
    fs::rename(new(&path), &path).unwrap();
    check("the new one is in place", &state.keys);
}

#[test]
fn what_cannot_be_written_anew_is_written_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut checkpoints = Checkpoints::open(&path).unwrap();
    let mut state = empty();
    let mut rewrite = |checkpoints: &mut Checkpoints| {
        put(&mut state, 1, 100);
        checkpoints.write(Job { rewrite: true, ..Job::take(&mut state, 5, true) }).unwrap();
        state.revision
    };
    fs::write(new(&path), "in the way").unwrap();
    rewrite(&mut checkpoints);
    assert!(checkpoints.rewrite_failed && checkpoints.layout.base == 1);
    let revision = rewrite(&mut checkpoints);
    assert_eq!(checkpoints.layout.base, 2, "the next one goes there, too");
    drop(checkpoints);
    fs::remove_file(new(&path)).unwrap();
    let (mut checkpoints, found) = load(&path);
    assert_eq!(found.revision, revision);
    // Nothing is in the way any more.
    let revision = rewrite(&mut checkpoints);
    assert!(!checkpoints.rewrite_failed && checkpoints.layout.base == 1);
    drop(checkpoints);
    assert_eq!(load(&path).1.revision, revision);
}

/// sled puts a value that is too large for it into a file of its own, by a path that is not synced and, after
/// a move, not there.
#[test]
fn sled_never_needs_files_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut checkpoints = Checkpoints::open(&path).unwrap();
    let mut state = empty();
    let mut dice = crate::proof::Dice(21);
    for round in 0..crate::proof::rounds(300, 3000) {
        for _ in 0..dice.roll(60) {
            let key = usize::try_from(dice.roll(80)).unwrap();
            put(&mut state, key, usize::try_from(dice.roll(12_000)).unwrap());
        }
        let all = round == 0 || dice.roll(2) == 0;
        let rewrite = round == 3;
        checkpoints.write(Job { rewrite, ..Job::take(&mut state, 5, all || rewrite) }).unwrap();
        let blobs = fs::read_dir(path.join("blobs")).unwrap().count();
        assert_eq!(blobs, 0, "round {round}");
    }
    drop(checkpoints);
    assert_eq!(load(&path).1.keys, state.keys);
}
