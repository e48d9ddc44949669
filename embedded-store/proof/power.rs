//! Power cuts: everything not synced is gone, or half there, and nothing acknowledged is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::future::join_all;

use super::{Dice, config, get, put, rounds, run, runtime};
use crate::EmbeddedStore;
use crate::log::disk::fake::FakeDisk;
use crate::types::{Durability, Store, Txn};

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let mut dice = Dice(42);
    let mut disk = FakeDisk::default();
    let mut acknowledged = [0u64; 4];
    let mut highest = 0;
    for round in 0..rounds(25, 1000) {
        let (store, recovery) =
            EmbeddedStore::open_on(config(dir.path()), Arc::new(disk.clone()), None).unwrap();
        assert!(recovery.revision >= highest, "revision {highest} was seen, {} is next", recovery.revision);
        for (writer, number) in acknowledged.iter_mut().enumerate() {
            let [a, b] = ["a", "b"].map(|side| read(&store, &format!("{side}-{writer}")));
            assert_eq!(a, b, "round {round}: a transaction is whole");
            assert!(a >= *number, "round {round}: {number} was acknowledged, {a} is there");
            *number = a;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let total = Arc::new(AtomicU64::new(0));
        let enough = 20 + dice.roll(200);
        let writers = acknowledged.iter().enumerate().map(|(writer, from)| {
            let (store, stop, total) = (Arc::clone(&store), Arc::clone(&stop), Arc::clone(&total));
            let disk = disk.clone();
            let mut number = *from;
            runtime.spawn(async move {
                let mut seen = 0;
                while !stop.load(Ordering::Acquire) {
                    let value = format!("{:0500}", number + 1);
                    let ops =
                        vec![put(&format!("a-{writer}"), value.clone()), put(&format!("b-{writer}"), value)];
                    let Ok(result) = run(&store, ops).await else { break };
                    number += 1;
                    seen = result.revision;
                    let lease = Txn {
                        success: vec![put("lease", "x")],
                        durability: Durability::Lazy,
                        ..Txn::default()
                    };
                    let Ok(result) = store.txn(lease).await else { break };
                    seen = seen.max(result.revision);
                    if total.fetch_add(1, Ordering::AcqRel) > enough {
                        stop.store(true, Ordering::Release);
                    }
                }
                drop(disk);
                (number, seen)
            })
        });
        let writers: Vec<_> = writers.collect();
        // The power goes while they write.
        let cut = runtime.block_on(async {
            while !stop.load(Ordering::Acquire) {
                tokio::task::yield_now().await;
            }
            disk.lose_power(|| dice.roll(2) == 0)
        });
        let results = runtime.block_on(join_all(writers));
        for (number, result) in acknowledged.iter_mut().zip(results) {
            let (last, seen) = result.unwrap();
            // Acknowledged after the cut does not count, but there is none: the disk was dead.
            *number = (*number).max(last);
            highest = highest.max(seen);
        }
        store.close();
        disk = cut;
    }
}

fn read(store: &EmbeddedStore, key: &str) -> u64 {
    get(store, key).map_or(0, |value| String::from_utf8_lossy(&value).parse().unwrap())
}

#[test]
fn lazy_writes_cost_no_sync() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    let (store, _) = EmbeddedStore::open_on(config(dir.path()), Arc::new(disk.clone()), None).unwrap();
    runtime().block_on(async {
        let lazy = |value| Txn {
            success: vec![put("lease", value)],
            durability: Durability::Lazy,
            ..Txn::default()
        };
        // The first one raises the ceiling, which goes to disk and takes it along.
        store.txn(lazy("first")).await.unwrap();
        let before = disk.syncs();
        for _ in 0..500 {
            store.txn(lazy("later")).await.unwrap();
        }
        assert_eq!(disk.syncs(), before);
    });
    let seen = store.revision();
    // Lost, but no revision is given out twice.
    let cut = disk.lose_power(|| false);
    store.close();
    let (store, recovery) = EmbeddedStore::open_on(config(dir.path()), Arc::new(cut), None).unwrap();
    assert!(recovery.revision >= seen && store.revision() == recovery.revision);
    assert_eq!(get(&store, "lease").unwrap(), "first");
}

#[test]
fn lazy_writes_are_lost_from_the_end_only() {
    let runtime = runtime();
    let mut dice = Dice(5);
    let mut lost = 0;
    for round in 0..rounds(30, 1000) {
        let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
        let (store, _) = EmbeddedStore::open_on(config(dir.path()), Arc::new(disk.clone()), None).unwrap();
        let (count, synced) = (2 + dice.roll(20), dice.roll(20));
        runtime.block_on(async {
            for number in 0..count {
                let durability = if number == synced { Durability::Synced } else { Durability::Lazy };
                let success = vec![put(&format!("key-{number}"), vec![1; 300])];
                store.txn(Txn { success, durability, ..Txn::default() }).await.unwrap();
            }
        });
        let cut = disk.lose_power(|| dice.roll(2) == 0);
        store.close();
        let (store, _) = EmbeddedStore::open_on(config(dir.path()), Arc::new(cut), None).unwrap();
        let there =
            (0..count).take_while(|number| get(&store, &format!("key-{number}")).is_some()).count() as u64;
        assert_eq!(store.status().keys, there, "round {round}: none is there that follows one that is not");
        assert!(synced >= count || there > synced, "round {round}: {there} of {count}, {synced} was synced");
        lost += count - there;
    }
    assert!(lost > 0, "some of them were not on disk yet");
}
