//! Linearizability of concurrent reads, writes and compare-and-swaps of a register, checked after Wing and
//! Gong: some order of the operations, in which each takes effect between its call and its answer, explains
//! all answers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Dice, config, get, rounds, run, runtime};
use crate::EmbeddedStore;
use crate::types::{Compare, CompareOp, CompareTarget, Durability, Op, Store, Txn};

#[derive(Clone, Debug)]
pub(super) enum Operation {
    Read {
        saw: u64,
    },
    Write {
        value: u64,
    },
    /// Whether it was done is not known if it was not answered.
    Swap {
        from: u64,
        to: u64,
        done: Option<bool>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) operation: Operation,
    pub(super) began: Instant,
    /// `None` if there was no answer: it took effect at any time since it began, or never.
    pub(super) ended: Option<Instant>,
}

/// The register after an operation, if the operation can have answered as it did.
fn step(value: u64, operation: &Operation) -> Option<u64> {
    match operation {
        Operation::Read { saw } => (*saw == value).then_some(value),
        Operation::Write { value } => Some(*value),
        Operation::Swap { from, to, done } => match (*from == value, done) {
            (true, Some(true) | None) => Some(*to),
            (false, Some(false) | None) => Some(value),
            _ => None,
        },
    }
}

/// Whether the calls not in `taken` can follow in some order.
pub(super) fn explains(calls: &[Call], taken: u64, value: u64, dead: &mut HashSet<(u64, u64)>) -> bool {
    let open = |position: &usize| taken & (1 << position) == 0;
    let ends = (0..calls.len()).filter(open).filter_map(|p| calls[p].ended);
    let Some(first_end) = ends.min() else { return true };
    if !dead.insert((taken, value)) {
        return false;
    }
    // A call can come next only if it began before any open call had ended.
    (0..calls.len()).filter(open).filter(|p| calls[*p].began <= first_end).any(|position| {
        step(value, &calls[position].operation)
            .is_some_and(|after| explains(calls, taken | 1 << position, after, dead))
    })
}

fn register(value: u64) -> Op {
    Op::Put { key: "register".into(), value: value.to_string().into(), lease: 0 }
}

fn read(store: &EmbeddedStore) -> u64 {
    get(store, "register").map_or(0, |value| String::from_utf8_lossy(&value).parse().unwrap())
}

#[test]
fn the_checker_finds_what_is_wrong() {
    let start = Instant::now();
    let at = |ms: u64| start + std::time::Duration::from_millis(ms);
    let call = |operation, began, ended| Call { operation, began: at(began), ended: Some(at(ended)) };
    // A read after a write that does not see it.
    let stale = [call(Operation::Write { value: 1 }, 0, 1), call(Operation::Read { saw: 0 }, 2, 3)];
    assert!(!explains(&stale, 0, 0, &mut HashSet::new()));
    let concurrent = [call(Operation::Write { value: 1 }, 0, 3), call(Operation::Read { saw: 0 }, 1, 2)];
    assert!(explains(&concurrent, 0, 0, &mut HashSet::new()));
    // A write without an answer may be seen later, or never, but not before it began and not for a while.
    let lost = |began| Call { operation: Operation::Write { value: 1 }, began: at(began), ended: None };
    let saw = |saw, began| call(Operation::Read { saw }, began, began + 1);
    for (history, right) in [([0, 1], true), ([0, 0], true), ([1, 1], true), ([1, 0], false)] {
        let calls = [lost(0), saw(history[0], 5), saw(history[1], 8)];
        assert_eq!(explains(&calls, 0, 0, &mut HashSet::new()), right, "{history:?}");
    }
    assert!(!explains(&[saw(1, 0), lost(5)], 0, 0, &mut HashSet::new()));
    // Two swaps from the same value that both say they did it.
    let swap = |to| Operation::Swap { from: 0, to, done: Some(true) };
    let twice = [call(swap(1), 0, 3), call(swap(2), 1, 2)];
    assert!(!explains(&twice, 0, 0, &mut HashSet::new()));
}

#[test]
fn concurrent_histories_are_linearizable() {
    const TASKS: u64 = 5;
    const EACH: usize = 10;
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = EmbeddedStore::open(config(dir.path())).unwrap();
    let runtime = runtime();
    for round in 0..rounds(40, 3000) as u64 {
        runtime.block_on(run(&store, vec![register(0)])).unwrap();
        let tasks = (0..TASKS).map(|task| {
            let store = Arc::clone(&store);
            let mut dice = Dice(round * 100 + task);
            runtime.spawn(async move {
                let mut calls = Vec::new();
                for _ in 0..EACH {
                    let began = Instant::now();
                    let operation = match dice.roll(3) {
                        0 => Operation::Read { saw: read(&store) },
                        1 => {
                            let value = 1 + dice.roll(3);
                            let durability =
                                if dice.roll(2) == 0 { Durability::Lazy } else { Durability::Synced };
                            let txn = Txn { success: vec![register(value)], durability, ..Txn::default() };
                            store.txn(txn).await.unwrap();
                            Operation::Write { value }
                        }
                        _ => {
                            let (from, to) = (dice.roll(4), 1 + dice.roll(3));
                            let target = CompareTarget::Value(Bytes::from(from.to_string()));
                            let key = "register".into();
                            let compare = Compare { key, range_end: None, op: CompareOp::Equal, target };
                            let txn = Txn {
                                compares: vec![compare],
                                success: vec![register(to)],
                                ..Txn::default()
                            };
                            let done = Some(store.txn(txn).await.unwrap().succeeded);
                            Operation::Swap { from, to, done }
                        }
                    };
                    calls.push(Call { operation, began, ended: Some(Instant::now()) });
                }
                calls
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let calls: Vec<Call> = tasks.into_iter().flat_map(|task| runtime.block_on(task).unwrap()).collect();
        assert!(explains(&calls, 0, 0, &mut HashSet::new()), "round {round}: {calls:?}");
    }
}
