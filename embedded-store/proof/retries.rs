//! A checkpoint that fails is tried again by itself, and says so meanwhile.
//!
//! The failures are real ones, of sled on a real file system: the process may write no more bytes, or open no
//! more files. Both limits are the process's, so each test has one of its own.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{alone, config, get, put, run, runtime};
use crate::log::disk::fake::FakeDisk;
use crate::types::Store;
use crate::{Config, EmbeddedStore, OpenError};

/// Waits for what happens by itself.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Only the soft limit, so that it can be lifted again.
fn limit(resource: Resource, to: u64) {
    let (_, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, to.min(hard), hard).unwrap();
}

fn metric(store: &EmbeddedStore, name: &str) -> u64 {
    let text = store.render_metrics();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap().parse().unwrap()
}

#[test]
fn a_failed_checkpoint_is_reported_and_tried_again() {
    if !alone("proof::retries::a_failed_checkpoint_is_reported_and_tried_again") {
        return;
    }
    // Otherwise writing too much is a signal that ends the process.
    // SAFETY: nothing is called when it comes.
    unsafe {
        nix::sys::signal::signal(nix::sys::signal::Signal::SIGXFSZ, nix::sys::signal::SigHandler::SigIgn)
    }
    .unwrap();
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    let runtime = runtime();
    let open = || EmbeddedStore::open_on(config(dir.path()), Arc::new(disk.clone()), None).unwrap();
    let (store, _) = open();
    let write = |from: usize| {
        runtime.block_on(async {
            for number in from..from + 60 {
                run(&store, vec![put(&format!("key-{}", number % 40), vec![1; 2000])]).await.unwrap();
            }
        });
    };
    write(0);
    runtime.block_on(store.checkpoint()).unwrap();
    assert_eq!(store.status().alarms.checkpoint, None);

    limit(Resource::RLIMIT_FSIZE, 1);
    write(60);
    eventually("a checkpoint fails", || store.status().alarms.checkpoint.is_some());
    eventually("it is tried again", || metric(&store, "minik8s_store_checkpoint_failures_total") >= 2);
    assert_eq!(metric(&store, "minik8s_store_checkpoint_failing"), 1);
    let asked = runtime.block_on(store.checkpoint());
    assert!(asked.is_err(), "who asks for one is told why not");
    // Writes go on, and the log keeps what they wrote.
    write(120);
    let grown = store.status().log_size;

    limit(Resource::RLIMIT_FSIZE, u64::MAX);
    eventually("it is written in the end", || store.status().alarms.checkpoint.is_none());
    assert_eq!(metric(&store, "minik8s_store_checkpoint_failing"), 0);
    eventually("and the log before it is gone", || store.status().log_size < grown);
    // From then on as always.
    write(180);
    runtime.block_on(store.checkpoint()).unwrap();
    runtime.block_on(run(&store, vec![put("last", "x")])).unwrap();
    let revision = store.revision();
    store.close();
    drop(store);
    let (store, recovery) = open();
    assert_eq!((recovery.revision, recovery.rebuilt), (revision, None));
    assert!(recovery.replayed < 5, "{} records after the checkpoint", recovery.replayed);
    assert_eq!(get(&store, "key-39").unwrap(), vec![1; 2000]);
}

/// As many files as can be opened.
fn use_up_descriptors() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[test]
fn a_lack_of_descriptors_ends_nothing() {
    if !alone("proof::retries::a_lack_of_descriptors_ends_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let open = |path: &Path| EmbeddedStore::open(Config { segment_bytes: 8 << 20, ..config(path) });
    limit(Resource::RLIMIT_NOFILE, 100);
    let (mut store, _) = open(dir.path()).unwrap();
    let (mut rewrites, mut openings) = (0, 0);
    // Whichever of the files that it opens is one too many.
    for left in 0..14 {
        let value = format!("value-{left}");
        runtime.block_on(run(&store, vec![put("key", value.clone())])).unwrap();
        let mut used = use_up_descriptors();
        used.truncate(used.len() - left.min(used.len()));
        rewrites += usize::from(runtime.block_on(store.defragment()).is_err());
        drop(used);
        runtime.block_on(store.checkpoint()).unwrap();
        assert_eq!(store.status().alarms.checkpoint, None);

        store.close();
        drop(store);
        let mut used = use_up_descriptors();
        used.truncate(used.len() - left.min(used.len()));
        match open(dir.path()) {
            Err(OpenError::Damaged { path, what }) => panic!("{left} left: {} {what}", path.display()),
            Err(_) => openings += 1,
            Ok((opened, recovery)) => {
                assert_eq!(recovery.rebuilt, None, "{left} left");
                opened.close();
            }
        }
        drop(used);
        let recovery;
        (store, recovery) = open(dir.path()).unwrap();
        assert_eq!((recovery.rebuilt, recovery.torn_tail), (None, None), "{left} left");
        assert_eq!(get(&store, "key").unwrap(), value, "{left} left");
    }
    assert!(rewrites > 2 && openings > 2, "descriptors were used up: {rewrites} and {openings} times");
}
