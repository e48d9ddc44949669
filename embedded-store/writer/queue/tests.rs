//! The writer's thread never oversleeps: a deadline that it computed before it waits may be out of date.

use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::clock::SystemClock;
use crate::state::history::HistoryLimits;

fn shared() -> Arc<Shared> {
    Arc::new(Shared::new(Core::new(HistoryLimits::default()), Lessor::new(Arc::<SystemClock>::default())))
}

/// Whether a thread that knows of nothing to do comes back.
fn comes_back(shared: &Arc<Shared>, checkpointing: bool) -> bool {
    let (done, wait) = mpsc::channel();
    let waiting = Arc::clone(shared);
    let thread = std::thread::spawn(move || {
        waiting.next(None, checkpointing, None);
        let _ = done.send(());
    });
    let back = wait.recv_timeout(Duration::from_secs(10)).is_ok();
    shared.stop();
    thread.join().unwrap();
    back
}

#[test]
fn a_nudge_before_it_sleeps_is_not_lost() {
    let shared = shared();
    shared.wake_now();
    assert!(comes_back(&shared, false));
}

#[test]
fn a_wish_before_it_sleeps_is_not_lost() {
    let shared = shared();
    let _wait = shared.request_checkpoint(false);
    assert!(comes_back(&shared, true));
}

#[test]
fn a_plan_before_it_sleeps_is_kept() {
    let shared = shared();
    shared.wake_by(Some(Instant::now() + Duration::from_millis(10)));
    shared.wake_by(Some(Instant::now() + Duration::from_secs(600)));
    assert!(comes_back(&shared, false));
}
