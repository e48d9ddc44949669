//! Random operations on the durable store against a model that keeps every version of everything.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};

use super::{config, rounds, runtime};
use crate::types::{
    Compare, Durability, KeyValue, Leases, Op, OpResult, RangeRequest, Store, StoreError, Txn,
};
use crate::{EmbeddedStore, MemoryStore};

#[derive(Clone, Debug)]
enum Step {
    Put {
        key: u8,
        size: usize,
        lease: bool,
        lazy: bool,
    },
    PutTwo {
        keys: (u8, u8),
        size: usize,
    },
    DeleteRange {
        from: u8,
        to: u8,
    },
    /// Put if the key was last changed at the model's idea of it, or at a wrong one.
    Swap {
        key: u8,
        right: bool,
    },
    /// Read everything at a revision so many before the current one.
    ReadBack {
        ago: u64,
    },
    Compact {
        ago: u64,
    },
    Grant,
    Revoke,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0u8..8;
    let size = || prop_oneof![8 => 0usize..600, 1 => 32_760usize..33_000, 1 => Just(70_000usize)];
    prop_oneof![
        8 => (key(), size(), any::<bool>(), any::<bool>())
            .prop_map(|(key, size, lease, lazy)| Step::Put { key, size, lease, lazy }),
        3 => ((key(), key()), size()).prop_map(|(keys, size)| Step::PutTwo { keys, size }),
        3 => (key(), key()).prop_map(|(from, to)| Step::DeleteRange { from, to }),
        4 => (key(), any::<bool>()).prop_map(|(key, right)| Step::Swap { key, right }),
        4 => (0u64..20).prop_map(|ago| Step::ReadBack { ago }),
        1 => (0u64..10).prop_map(|ago| Step::Compact { ago }),
        1 => Just(Step::Grant),
        1 => Just(Step::Revoke),
        2 => Just(Step::Reopen),
    ]
}

const LEASE: i64 = 99;

type Keys = BTreeMap<Bytes, KeyValue>;

/// Every version of everything.
struct Model {
    versions: Vec<Keys>,
    lease: bool,
}

impl Model {
    fn revision(&self) -> u64 {
        self.versions.len() as u64
    }

    fn now(&self) -> &Keys {
        self.versions.last().unwrap()
    }

    fn put(&self, keys: &mut Keys, key: &Bytes, value: &Bytes, lease: i64) {
        let revision = self.revision() + 1;
        let old = keys.get(key);
        let kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: old.map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: old.map_or(1, |kv| kv.version + 1),
            lease,
        };
        keys.insert(key.clone(), kv);
    }
}

fn name(key: u8) -> Bytes {
    format!("key-{key}").into()
}

fn whole(revision: u64) -> RangeRequest {
    RangeRequest { key: "k".into(), range_end: Some("l".into()), revision, ..Default::default() }
}

async fn check(store: &EmbeddedStore, twin: &MemoryStore, model: &mut Model, step: &Step) {
    let txn = async |txn: Txn| {
        let (ours, theirs) = (store.txn(txn.clone()).await, twin.txn(txn).await);
        assert_eq!(ours, theirs, "both back ends answer alike");
        ours
    };
    let value = |size: usize| Bytes::from(vec![u8::try_from(model.revision() % 251).unwrap(); size]);
    match step {
        Step::Put { key, size, lease, lazy } => {
            let (key, value) = (name(*key), value(*size));
            let lease = if *lease { LEASE } else { 0 };
            let durability = if *lazy { Durability::Lazy } else { Durability::Synced };
            let op = Op::Put { key: key.clone(), value: value.clone(), lease };
            let result = txn(Txn { success: vec![op], durability, ..Txn::default() }).await;
            if lease != 0 && !model.lease {
                assert_eq!(result, Err(StoreError::LeaseNotFound));
                return;
            }
            let mut next = model.now().clone();
            let previous = next.get(&key).cloned();
            model.put(&mut next, &key, &value, lease);
            model.versions.push(next);
            let result = result.unwrap();
            assert_eq!(result.results, [OpResult::Put { previous }]);
            assert_eq!(result.revision, model.revision());
        }
        Step::PutTwo { keys: (a, b), size } => {
            let ops = [a, b].map(|key| Op::Put { key: name(*key), value: value(*size), lease: 0 });
            let result = txn(Txn { success: ops.to_vec(), ..Txn::default() }).await;
            if a == b {
                assert_eq!(result, Err(StoreError::DuplicateKey));
                return;
            }
            let mut next = model.now().clone();
            for key in [a, b] {
                model.put(&mut next, &name(*key), &value(*size), 0);
            }
            model.versions.push(next);
            assert_eq!(result.unwrap().revision, model.revision());
        }
        Step::DeleteRange { from, to } => {
            let op = Op::Delete { key: name(*from), range_end: Some(name(*to)) };
            let result = txn(Txn { success: vec![op], ..Txn::default() }).await.unwrap();
            let mut next = model.now().clone();
            let mut previous: Vec<KeyValue> = next.values().cloned().collect();
            previous.retain(|kv| kv.key >= name(*from) && kv.key < name(*to));
            next.retain(|key, _| !(*key >= name(*from) && *key < name(*to)));
            if !previous.is_empty() {
                model.versions.push(next);
            }
            assert_eq!(result.results, [OpResult::Delete { previous }]);
            assert_eq!(result.revision, model.revision());
        }
        Step::Swap { key, right } => {
            let key = name(*key);
            let actual = model.now().get(&key).map_or(0, |kv| kv.mod_revision);
            let expected = if *right { actual } else { actual + 1 };
            let op = Op::Put { key: key.clone(), value: value(5), lease: 0 };
            let txn = txn(Txn {
                compares: vec![Compare::mod_revision(key.clone(), expected)],
                success: vec![op],
                ..Txn::default()
            });
            assert_eq!(txn.await.unwrap().succeeded, *right);
            if *right {
                let mut next = model.now().clone();
                model.put(&mut next, &key, &value(5), 0);
                model.versions.push(next);
            }
        }
        Step::ReadBack { ago } => {
            let revision = model.revision().saturating_sub(*ago).max(1);
            match store.range(&whole(revision)) {
                Ok(result) => {
                    let then: Vec<KeyValue> =
                        model.versions[usize::try_from(revision).unwrap() - 1].values().cloned().collect();
                    assert_eq!(result.kvs, then, "at revision {revision}");
                }
                Err(StoreError::Compacted { oldest }) => {
                    assert!(revision < oldest.max(store.compacted_revision() + 1));
                }
                Err(e) => panic!("{e}"),
            }
        }
        Step::Compact { ago } => {
            let revision = model.revision().saturating_sub(*ago).max(1);
            let (ours, theirs) = (store.compact(revision).await, twin.compact(revision).await);
            assert_eq!(ours.is_ok(), theirs.is_ok());
            if ours.is_ok() {
                assert!(store.compacted_revision() >= revision);
            }
        }
        Step::Grant => {
            let (ours, theirs) = (store.grant(LEASE, 1000).await, twin.grant(LEASE, 1000).await);
            assert_eq!(ours, theirs);
            model.lease = true;
        }
        Step::Revoke => {
            let (ours, theirs) = (store.revoke(LEASE).await, twin.revoke(LEASE).await);
            assert_eq!(ours, theirs);
            let mut next = model.now().clone();
            next.retain(|_, kv| kv.lease != LEASE);
            if next.len() < model.now().len() {
                model.versions.push(next);
            }
            model.lease = false;
        }
        Step::Reopen => {}
    }
    assert_eq!(store.revision(), model.revision());
    let now: Vec<KeyValue> = model.now().values().cloned().collect();
    assert_eq!(store.range(&whole(0)).unwrap().kvs, now);
}

#[test]
fn random_histories_match_the_model() {
    let cases = u32::try_from(rounds(24, 2000)).unwrap();
    // Without files of past failures: a failure prints its smallest case, which becomes a test.
    let runs = Runs { cases, failure_persistence: None, ..Runs::default() };
    let runtime = runtime();
    let result = TestRunner::new_with_rng(
        runs,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    )
    .run(&prop::collection::vec(step(), 1..120), |steps| {
        let dir = tempfile::tempdir().unwrap();
        let mut store = EmbeddedStore::open(config(dir.path())).unwrap().0;
        let twin = MemoryStore::new();
        let mut model = Model { versions: vec![Keys::new()], lease: false };
        for step in &steps {
            if matches!(step, Step::Reopen) {
                drop(store);
                store = EmbeddedStore::open(config(dir.path())).unwrap().0;
            }
            runtime.block_on(check(&store, &twin, &mut model, step));
        }
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e}");
    }
}
