//! When a checkpoint waits for a burst to end, and that waiting for one that cannot come is no reason to stay
//! awake.

use std::sync::atomic::Ordering;

use super::checkpoints::BURST;
use super::*;
use crate::{Config, EmbeddedStore};

fn open(dir: &tempfile::TempDir) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(Config { min_free_bytes: 0, ..Config::new(dir.path()) }).unwrap().0
}

#[test]
fn a_checkpoint_waits_for_the_end_of_a_burst_but_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let mut place = store.writer.lock();
    let writer = place.as_mut().unwrap();
    writer.free = u64::MAX;
    writer.since_checkpoint = writer.limits.checkpoint_bytes;
    assert!(writer.checkpoint_due(), "nobody writes");
    writer.last_concurrent = Some(Instant::now() + Duration::from_secs(60));
    assert!(!writer.checkpoint_due() && writer.postponed, "a concurrency does");
    assert!(writer.due().is_some(), "it is looked at again");
    writer.since_checkpoint = writer.limits.checkpoint_bytes * BURST;
    assert!(writer.checkpoint_due(), "the log has become long");
    writer.since_checkpoint = writer.limits.checkpoint_bytes;
    writer.free = 0;
    assert!(writer.checkpoint_due(), "there is no room for a long log");
}

#[test]
fn a_postponed_checkpoint_that_cannot_begin_keeps_nobody_awake() {
    for stopped in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let mut place = store.writer.lock();
        let writer = place.as_mut().unwrap();
        writer.postponed = true;
        writer.last_concurrent = Instant::now().checked_sub(BURST_END);
        writer.checkpointing = !stopped;
        writer.shared.alarms.lock().unwritable = stopped.then(|| "no disk".to_string());
        assert!(writer.due().is_some_and(|due| due <= Instant::now()));
        writer.maintain();
        assert!(writer.due().is_none_or(|due| due > Instant::now()));
        writer.checkpointing = false;
    }
}

#[test]
fn a_file_that_is_far_too_large_is_reason_enough() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let mut place = store.writer.lock();
    let writer = place.as_mut().unwrap();
    writer.shared.state_bytes.store(writer.limits.spare_bytes + 1, Ordering::Relaxed);
    writer.since_checkpoint = 0;
    assert!(!writer.checkpoint_due(), "nothing has changed since the last one");
    writer.since_checkpoint = 1;
    assert!(writer.oversized() && writer.checkpoint_due());
    writer.last_concurrent = Some(Instant::now() + Duration::from_secs(60));
    writer.free = u64::MAX;
    assert!(!writer.checkpoint_due() && writer.postponed, "a burst comes first");
    writer.last_concurrent = None;
    writer.limits.min_free = u64::MAX;
    assert!(!writer.checkpoint_due(), "there is no room for another one");
}
