//! Disks that are full, fail, or give back something else than was written.

use std::path::Path;
use std::sync::Arc;

use super::{Dice, config, get, put, rounds, run, runtime};
use crate::checkpoint::Job;
use crate::consensus::storage::LogStorage;
use crate::embedded::load;
use crate::log::Log;
use crate::log::disk::Disk;
use crate::log::disk::fake::{FakeDisk, Faults};
use crate::log::record::{Record, Request};
use crate::types::{Op, Store, StoreError, Txn};
use crate::{Config, EmbeddedStore, OpenError};

fn open(dir: &Path, disk: &FakeDisk) -> super::Shared {
    EmbeddedStore::open_on(config(dir), Arc::new(disk.clone()), None).unwrap().0
}

#[test]
fn a_failing_sync_is_never_an_acknowledgement() {
    a_failure_is_final(&Faults { sync: true, ..Faults::default() });
}

#[test]
fn half_a_write_is_never_an_acknowledgement() {
    a_failure_is_final(&Faults { write: true, ..Faults::default() });
}

fn a_failure_is_final(faults: &Faults) {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    let runtime = runtime();
    let store = open(dir.path(), &disk);
    runtime.block_on(async {
        run(&store, vec![put("a", "1")]).await.unwrap();
        disk.set(faults.clone());
        let failed = run(&store, vec![put("a", vec![b'2'; 3000])]).await;
        assert!(matches!(failed, Err(StoreError::Unwritable(_))), "{failed:?}");
        disk.set(Faults::default());
        // What the kernel threw away cannot be written again: only opening anew knows what is there.
        let failed = run(&store, vec![put("a", "3")]).await;
        assert!(matches!(failed, Err(StoreError::Unwritable(_))), "{failed:?}");
    });
    assert_eq!(get(&store, "a").unwrap(), "1");
    assert!(store.status().alarms.unwritable.is_some());
    drop(store);
    for kept in [false, true] {
        let store = open(dir.path(), &disk.copy().lose_power(|| kept));
        // A write that nobody was told of may be there, but then all of it.
        let value = get(&store, "a").unwrap();
        assert!(value == "1" || kept && faults.sync && value.len() == 3000, "{value:?}");
        runtime.block_on(run(&store, vec![put("a", "4")])).unwrap();
        assert_eq!(get(&store, "a").unwrap(), "4");
    }
}

#[test]
fn a_full_disk_refuses_writes_and_recovers() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    let runtime = runtime();
    let store = open(dir.path(), &disk);
    runtime.block_on(async {
        run(&store, vec![put("a", "1")]).await.unwrap();
        for room in [0, 1, 27, 28, 60, 700] {
            disk.set(Faults { room: Some(room), ..Faults::default() });
            let full = run(&store, vec![put("b", vec![1; 1000])]).await;
            assert!(matches!(full, Err(StoreError::NoSpace(_))), "{full:?}");
            disk.set(Faults::default());
            run(&store, vec![put("c", room.to_string())]).await.unwrap();
        }
    });
    drop(store);
    let store = open(dir.path(), &disk.lose_power(|| false));
    assert_eq!(
        (get(&store, "a").unwrap(), get(&store, "b"), get(&store, "c").unwrap()),
        ("1".into(), None, "700".into())
    );
}

#[test]
fn a_nearly_full_disk_refuses_what_grows() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    let config = Config { min_free_bytes: 1000, ..config(dir.path()) };
    let (store, _) = EmbeddedStore::open_on(config, Arc::new(disk.clone()), None).unwrap();
    runtime().block_on(async {
        run(&store, vec![put("a", "1")]).await.unwrap();
        disk.set(Faults { free: Some(999), ..Faults::default() });
        let refused = run(&store, vec![put("b", "1")]).await;
        assert!(matches!(refused, Err(StoreError::NoSpace(_))), "{refused:?}");
        assert!(store.status().alarms.no_space.is_some());
        assert_eq!(get(&store, "a").unwrap(), "1");
        run(&store, vec![Op::Delete { key: "a".into(), range_end: None }]).await.unwrap();
        disk.set(Faults::default());
        run(&store, vec![put("b", "1")]).await.unwrap();
        assert!(store.status().alarms.no_space.is_none());
    });
}

#[test]
fn a_used_up_quota_refuses_what_is_new_and_lets_the_rest_be_changed_and_deleted() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    let config = Config { quota_bytes: 1000, ..config(dir.path()) };
    let (store, _) = EmbeddedStore::open_on(config, Arc::new(disk), None).unwrap();
    let is_full = |outcome: Result<_, StoreError>| matches!(outcome, Err(StoreError::NoSpace(_)));
    runtime().block_on(async {
        run(&store, vec![put("big", vec![1; 980])]).await.unwrap();
        run(&store, vec![put("lease", vec![1; 30])]).await.unwrap();
        assert!(store.status().alarms.no_space.is_none());
        let refused = run(&store, vec![put("new", "1")]).await;
        let message = refused.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert!(message.starts_with("mvcc: database space exceeded: the store holds"), "{message}");
        assert!(store.status().alarms.no_space.is_some());
        let metrics = store.render_metrics();
        assert!(metrics.contains("etcd_server_quota_backend_bytes 1000\n"), "{metrics}");
        assert!(metrics.contains("minik8s_store_no_space 1\n"), "{metrics}");
        let both = vec![put("lease", vec![2; 30]), put("new", "1")];
        assert!(is_full(run(&store, both).await), "a new key beside one that is there");
        run(&store, vec![put("lease", vec![2; 30])]).await.unwrap();
        let growing = vec![put("lease", vec![2; 31])];
        assert!(is_full(run(&store, growing).await), "growth of who has no right to the reserve");
        let reserve = |size: usize| Txn {
            success: vec![put("lease", vec![2; size])],
            may_use_reserve: true,
            ..Txn::default()
        };
        store.txn(reserve(140)).await.unwrap();
        assert!(is_full(store.txn(reserve(141)).await), "the reserve is used up");
        run(&store, vec![put("lease", vec![4; 140])]).await.unwrap();
        run(&store, vec![Op::Delete { key: "big".into(), range_end: None }]).await.unwrap();
        run(&store, vec![put("new", "1")]).await.unwrap();
        assert!(store.status().alarms.no_space.is_none());
    });
}

/// A store with a log of several batches that no checkpoint has swallowed yet.
fn filled(dir: &Path) -> FakeDisk {
    let disk = FakeDisk::default();
    let config = Config { segment_bytes: 1 << 20, checkpoint_bytes: 1 << 20, ..config(dir) };
    let (store, _) = EmbeddedStore::open_on(config, Arc::new(disk.clone()), None).unwrap();
    runtime().block_on(async {
        for number in 0..40 {
            run(&store, vec![put(&format!("key-{number}"), vec![9; 300])]).await.unwrap();
        }
    });
    store.close();
    disk
}

#[test]
fn a_flipped_bit_is_found_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let original = filled(dir.path());
    let name = original.names().pop().unwrap();
    let mut dice = Dice(7);
    for round in 0..rounds(60, 3000) {
        let disk = original.copy();
        let mut at = 0;
        disk.tamper(&name, |bytes| {
            let written = bytes.iter().rposition(|b| *b != 0).unwrap() as u64;
            at = usize::try_from(dice.roll(written)).unwrap();
            bytes[at] ^= 1 << dice.roll(8);
        });
        let fresh = tempfile::tempdir().unwrap();
        match EmbeddedStore::open_on(config(fresh.path()), Arc::new(disk), None) {
            Err(OpenError::Damaged { what, .. }) => assert!(!what.is_empty()),
            Err(e) => panic!("round {round}: {e}"),
            // Only the last record, of which nothing speaks any more, can pass as torn; that is reported.
            Ok((store, recovery)) => {
                assert!(recovery.torn_tail.is_some(), "round {round}: bit at {at} was not noticed");
                assert!(store.status().keys >= 39);
            }
        }
    }
}

#[test]
fn a_missing_segment_is_named() {
    let disk = FakeDisk::default();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut log = Log::create(Arc::clone(&shared), 100, 5, 1).unwrap();
    for index in 1..=9 {
        log.append(&Record { term: 1, index, time: 0, request: Request::Compact { revision: index } });
        log.sync().unwrap();
        log.roll(false).unwrap();
    }
    drop(log);
    let names = disk.names();
    assert!(names.len() > 3);
    let open = |disk: FakeDisk, applied| {
        let shared: Arc<dyn Disk> = Arc::new(disk);
        let mut count = 0;
        match Log::open(&shared, 100, Some(5), applied, |_| count += 1) {
            Ok(_) => format!("{count} records"),
            Err(e) => e.to_string(),
        }
    };
    let without = |position: usize| {
        let disk = disk.copy();
        disk.delete(&names[position]);
        disk
    };
    assert_eq!(open(disk.copy(), 0), "9 records");
    assert_eq!(open(disk.copy(), 4), "5 records");
    let damaged = open(without(names.len() - 1), 0);
    assert!(damaged.contains("the segment after it is missing"), "{damaged}");
    let damaged = open(without(1), 0);
    assert!(damaged.contains("are missing"), "{damaged}");
    let damaged = open(without(0), 0);
    assert!(damaged.contains("records 1 to"), "{damaged}");
    let other = Log::open(&(Arc::new(disk.copy()) as Arc<dyn Disk>), 100, Some(6), 0, |_| ());
    assert!(other.err().unwrap().to_string().contains("another store"));
}

#[test]
fn a_damaged_state_is_rebuilt_from_a_whole_log_and_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let disk = filled(dir.path());
    // Bring the state up to date, and make a second log that begins after it.
    let short = FakeDisk::default();
    {
        let whole: Arc<dyn Disk> = Arc::new(disk.copy());
        let mut loaded = load(&config(dir.path()), &whole, true).unwrap();
        let store = loaded.log.store();
        loaded.checkpoints.write(Job::take(&mut loaded.state, store, false)).unwrap();
        Log::create(Arc::new(short.clone()), 16 << 10, store, loaded.state.index + 1).unwrap();
    }
    let original = std::fs::read(dir.path().join("state/db")).unwrap();
    let written = original.iter().rposition(|b| *b != 0).unwrap() as u64;
    let mut dice = Dice(3);
    let mut refused = 0;
    for round in 0..rounds(24, 2000) {
        let at = usize::try_from(dice.roll(written)).unwrap();
        let damage = |into: &Path| {
            std::fs::create_dir_all(into.join("state")).unwrap();
            for file in std::fs::read_dir(dir.path().join("state")).unwrap().map(Result::unwrap) {
                if file.file_type().unwrap().is_file() {
                    std::fs::copy(file.path(), into.join("state").join(file.file_name())).unwrap();
                }
            }
            let mut bytes = original.clone();
            bytes[at] ^= 1 << (round % 8);
            std::fs::write(into.join("state/db"), bytes).unwrap();
        };
        let check = |store: &EmbeddedStore| {
            assert_eq!(store.status().keys, 40, "round {round}");
            for number in 0..40 {
                assert_eq!(get(store, &format!("key-{number}")).unwrap(), vec![9; 300]);
            }
        };
        let fresh = tempfile::tempdir().unwrap();
        damage(fresh.path());
        let (store, _) = EmbeddedStore::open_on(config(fresh.path()), Arc::new(disk.copy()), None).unwrap();
        check(&store);
        let fresh = tempfile::tempdir().unwrap();
        damage(fresh.path());
        match EmbeddedStore::open_on(config(fresh.path()), Arc::new(short.copy()), None) {
            Ok((store, _)) => check(&store),
            Err(OpenError::Damaged { .. }) => refused += 1,
            Err(e) => panic!("{e}"),
        }
    }
    assert!(refused > 0, "some of the bits must have mattered");
}
