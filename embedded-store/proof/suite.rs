//! The conformance suite on the stores of this crate, and what only opening and closing shows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use parking_lot::Mutex;

use super::{alone, config, get, put, resident, rounds, run, runtime};
use crate::conformance;
use crate::types::{Backend, Durability, Leases, Store, StoreError, Txn, WatchRequest};
use crate::{Clock, Config, EmbeddedStore, HistoryLimits, MemoryStore, OpenError};

#[test]
fn memory_keeps_the_promises() {
    let make = || async { Arc::new(MemoryStore::new()) as Arc<dyn Backend> };
    runtime().block_on(async {
        conformance::run_all(make).await;
        conformance::run_local(make).await;
    });
}

#[test]
fn the_durable_store_keeps_the_promises() {
    let dirs = Mutex::new(Vec::new());
    let make = || async {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = EmbeddedStore::open(config(dir.path())).unwrap();
        dirs.lock().push(dir);
        store as Arc<dyn Backend>
    };
    runtime().block_on(async {
        conformance::run_all(make).await;
        conformance::run_local(make).await;
    });
}

#[test]
fn a_directory_has_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = EmbeddedStore::open(config(dir.path())).unwrap();
    let second = EmbeddedStore::open(config(dir.path())).err().unwrap();
    assert!(matches!(second, OpenError::Locked { .. }));
    assert!(second.to_string().contains("in use by another server"), "{second}");
    first.close();
    EmbeddedStore::open(config(dir.path())).unwrap();
}

#[test]
fn everything_is_there_after_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let mut revision = 1;
    for life in 0..4 {
        let (store, recovery) = EmbeddedStore::open(config(dir.path())).unwrap();
        assert_eq!((recovery.revision, &recovery.torn_tail), (revision, &None));
        runtime.block_on(async {
            for number in 0..100 {
                let key = format!("key-{}", number % 10);
                run(&store, vec![put(&key, format!("{life}-{number}"))]).await.unwrap();
                let lazy =
                    Txn { success: vec![put("lazy", key)], durability: Durability::Lazy, ..Txn::default() };
                store.txn(lazy).await.unwrap();
            }
            // A value in several parts, one that shrinks again, and one that goes.
            let size = if life % 2 == 0 { 300_000 } else { 10 };
            run(&store, vec![put("large", vec![life; size])]).await.unwrap();
        });
        revision = store.revision();
        store.close();
        let stopped = runtime.block_on(run(&store, vec![put("late", "x")]));
        assert_eq!(stopped, Err(StoreError::Stopped));
        assert_eq!(get(&store, "key-9").unwrap(), format!("{life}-99"), "reads go on");
    }
    assert_eq!(revision, 1 + 4 * 201, "no revision is skipped by a clean stop");
}

#[test]
fn leases_survive_and_run_out() {
    #[derive(Default)]
    struct Manual(Mutex<Duration>);
    impl Clock for Manual {
        fn monotonic(&self) -> Duration {
            *self.0.lock()
        }
        fn wall(&self) -> Duration {
            // A wall clock that makes no sense must not matter.
            Duration::from_secs(self.0.lock().as_secs() % 7 * 1_000_000)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Manual::default());
    let open = || {
        let config = Config { clock: clock.clone(), ..config(dir.path()) };
        EmbeddedStore::open(config).unwrap().0
    };
    let runtime = runtime();
    let store = open();
    runtime.block_on(async {
        store.grant(5, 30).await.unwrap();
        let op = crate::types::Op::Put { key: "leased".into(), value: "x".into(), lease: 5 };
        run(&store, vec![op]).await.unwrap();
    });
    *clock.0.lock() += Duration::from_secs(29);
    assert_eq!(store.lease(5).unwrap().remaining_ttl, 1);
    assert_eq!(store.keep_alive(5), Ok(30));
    *clock.0.lock() += Duration::from_secs(29);
    assert_eq!(store.lease(5).unwrap().remaining_ttl, 1);
    store.close();
    drop(store);
    let store = open();
    assert_eq!(store.lease(5).unwrap().remaining_ttl, 30, "a restart gives the whole time again");
    assert_eq!(store.lease(5).unwrap().keys, ["leased"]);
    let request = WatchRequest { key: "leased".into(), ..Default::default() };
    let mut watch = store.watch(&request).unwrap();
    *clock.0.lock() += Duration::from_secs(31);
    store.wake_now();
    let gone = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), watch.next()).await.unwrap().unwrap().unwrap()
    });
    assert!(gone.events[0].new.is_none());
    assert_eq!(store.keep_alive(5), Err(StoreError::LeaseNotFound));
}

#[test]
fn a_clock_that_jumps_loses_nothing() {
    /// Monotonic time passes as it should, what the machine takes for the time does not.
    #[derive(Default)]
    struct Jumpy {
        passed: Mutex<Duration>,
        wall: Mutex<Duration>,
    }
    impl Clock for Jumpy {
        fn monotonic(&self) -> Duration {
            *self.passed.lock()
        }
        fn wall(&self) -> Duration {
            *self.wall.lock()
        }
    }
    const DAY: Duration = Duration::from_secs(86_400);
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Jumpy::default());
    *clock.wall.lock() = DAY * 20_000;
    let open = || {
        let config = Config { clock: clock.clone(), ..config(dir.path()) };
        EmbeddedStore::open(config).unwrap().0
    };
    let runtime = runtime();
    let mut store = open();
    runtime.block_on(store.grant(5, 60)).unwrap();
    for (life, jump) in [DAY * 20_400, DAY * 3, Duration::ZERO, DAY * 40_000].into_iter().enumerate() {
        let before = runtime.block_on(run(&store, vec![put("a", "before")])).unwrap().revision;
        *clock.wall.lock() = jump;
        *clock.passed.lock() += Duration::from_secs(10);
        store.wake_now();
        runtime.block_on(run(&store, vec![put("a", "after")])).unwrap();
        assert_eq!(store.lease(5).unwrap().remaining_ttl, 50, "life {life}: ten seconds have passed");
        // Neither is history older than it is, nor does it become immortal.
        let request = WatchRequest { key: "a".into(), start_revision: before, ..Default::default() };
        let told = runtime.block_on(store.watch(&request).unwrap().next()).unwrap().unwrap();
        assert_eq!(told.revision, before, "life {life}: history of ten seconds ago is there");
        *clock.passed.lock() += Duration::from_secs(400);
        store.keep_alive(5).unwrap_err();
        store.wake_now();
        runtime.block_on(run(&store, vec![put("a", "later")])).unwrap();
        runtime.block_on(run(&store, vec![put("a", "latest")])).unwrap();
        let old = store.watch(&request).map(|_| ());
        assert!(matches!(old, Err(StoreError::Compacted { .. })), "life {life}: {old:?}");
        drop(store);
        store = open();
        assert_eq!(get(&store, "a").unwrap(), "latest");
        assert_eq!(store.lease(5), None);
        runtime.block_on(store.grant(5, 60)).unwrap();
    }
}

#[test]
fn a_watcher_that_sleeps_is_cut_off_and_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let history = HistoryLimits { events: 100, ..HistoryLimits::default() };
    let (store, _) = EmbeddedStore::open(Config { history, ..config(dir.path()) }).unwrap();
    let watch =
        |key: &'static str| store.watch(&WatchRequest { key: key.into(), ..Default::default() }).unwrap();
    let (mut slow, mut quiet, mut ready) = (watch("busy"), watch("quiet"), watch("busy"));
    runtime().block_on(async {
        run(&store, vec![put("busy", "first")]).await.unwrap();
        for number in 0..500 {
            run(&store, vec![put("busy", number.to_string())]).await.unwrap();
            assert!(ready.next().await.unwrap().is_ok());
        }
        run(&store, vec![put("quiet", "x")]).await.unwrap();
        assert_eq!(slow.next().await, Some(Err(StoreError::Lagged)));
        assert_eq!(slow.next().await, None);
        // Nothing of its own was lost, so the ring may have moved on.
        assert!(quiet.next().await.unwrap().is_ok());
    });
}

#[test]
fn renewals_leave_nothing_behind() {
    if !alone("proof::suite::renewals_leave_nothing_behind") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = EmbeddedStore::open(config(dir.path())).unwrap();
    let count = rounds(6_000, 1_000_000) as u64;
    runtime().block_on(async {
        for number in 0..count {
            let ops = vec![put(&format!("lease-{}", number % 5), vec![1; 500])];
            store.txn(Txn { success: ops, durability: Durability::Lazy, ..Txn::default() }).await.unwrap();
        }
        store.checkpoint().await.unwrap();
    });
    let syncs = store.metrics().wal_fsync.count();
    assert!(syncs < count / 500, "{syncs} syncs");
    let status = store.status();
    assert_eq!((status.keys, status.revision), (5, count + 1));
    let size = disk_use(dir.path());
    assert!(size < 12 << 20, "{size} bytes for five keys");
    // The history holds ten thousand renewals of half a kilobyte, with what each one replaced.
    assert!(resident() < 120, "{} MiB for five keys", resident());
}

/// Bytes of all files below a directory.
fn disk_use(dir: &std::path::Path) -> u64 {
    std::fs::read_dir(dir)
        .unwrap()
        .map(Result::unwrap)
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => disk_use(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}

#[test]
fn churn_gives_space_back() {
    if !alone("proof::suite::churn_gives_space_back") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = EmbeddedStore::open(config(dir.path())).unwrap();
    runtime().block_on(async {
        let turns = rounds(20, 500);
        for turn in 0..turns {
            let puts =
                (0..64).map(|n| put(&format!("churn-{n}"), vec![u8::try_from(turn % 251).unwrap(); 2000]));
            run(&store, puts.collect()).await.unwrap();
            let all = crate::types::Op::Delete { key: "churn-".into(), range_end: Some("churn.".into()) };
            run(&store, vec![all]).await.unwrap();
        }
    });
    store.close();
    let status = store.status();
    assert_eq!((status.keys, status.size_in_use), (0, 0));
    let size = disk_use(dir.path());
    assert!(size < 16 << 20, "{size} bytes for no keys");
    assert!(resident() < 250, "{} MiB for no keys", resident());
}

/// A gibibyte in the long form.
#[test]
fn a_large_store_opens_quickly() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config { min_free_bytes: 0, ..Config::new(dir.path()) };
    let (groups, each) = (rounds(128, 8192), 128);
    {
        let (store, _) = EmbeddedStore::open(config()).unwrap();
        runtime().block_on(async {
            for group in 0..groups {
                let key = |n| put(&format!("/large/{:08}", group * each + n), vec![7; 1024]);
                run(&store, (0..each).map(key).collect()).await.unwrap();
            }
        });
        store.close();
    }
    let started = Instant::now();
    let (store, _) = EmbeddedStore::open(config()).unwrap();
    let took = started.elapsed();
    assert_eq!(store.status().keys, (groups * each) as u64);
    println!("opening {} MiB took {took:?}", store.status().size_in_use >> 20);
    // The goal is for a release build.
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 5 });
    assert!(took < limit, "opening took {took:?}");
}
