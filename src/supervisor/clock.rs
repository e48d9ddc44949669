//! The wall clock of a machine is set now and then: by NTP after a boot without a battery, by a virtual
//! machine that wakes, by hand. Who waits for a time of day, or has judged something by one, must look again
//! then.
//!
//! Found by comparing the wall clock with the monotonic one every few seconds: the kernel's own notice
//! (`TFD_TIMER_CANCEL_ON_SET`) would need a file descriptor for each process and cannot be tested without
//! setting the machine's clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::{OnExit, Supervisor};

/// A follower of the machine's clock.
#[derive(Clone, Debug)]
pub struct Clock {
    sets: watch::Receiver<u64>,
}

/// How often the clocks are compared.
const LOOK: Duration = Duration::from_secs(5);
/// A smaller difference is the clock being steered, not set.
const TOLERANCE: Duration = Duration::from_secs(2);
/// Longest sleep towards a time of day.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Seconds since 1970; before that, 0.
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// How far the wall clock has moved beyond the monotonic one, if that was by setting it. Forward, or back.
fn jump(wall: Duration, passed: Duration, wall_before: Duration) -> Option<(bool, Duration)> {
    let expected = wall_before + passed;
    let by = wall.abs_diff(expected);
    (by > TOLERANCE).then_some((wall > expected, by))
}

impl Supervisor {
    /// Starts looking at the clock, in a stage of its own. Without it no [`Clock`] ever tells anything.
    pub fn watch_clock(&self) {
        let sets = self.clock.clone();
        self.stage("clock").spawn_cancellable("clock", OnExit::Stop, async move {
            let (mut wall_before, mut before) = (wall(), Instant::now());
            loop {
                tokio::time::sleep(LOOK).await;
                let (now, instant) = (wall(), Instant::now());
                if let Some((forward, by)) = jump(now, instant.duration_since(before), wall_before) {
                    let direction = if forward { "forward" } else { "back" };
                    tracing::warn!(direction, ?by, "the machine's clock was set");
                    sets.send_modify(|count| *count += 1);
                }
                (wall_before, before) = (now, instant);
            }
        });
    }
}

impl Clock {
    pub(crate) fn new(sets: &watch::Sender<u64>) -> Self {
        Clock { sets: sets.subscribe() }
    }

    /// Returns when the clock was set since the last call. Cancelling it loses nothing.
    pub async fn was_set(&mut self) {
        if self.sets.changed().await.is_err() {
            // The supervisor is gone, and whoever waits is about to be.
            std::future::pending::<()>().await;
        }
    }

    /// Sleeps for a while, or until the clock is set.
    pub async fn sleep(&mut self, duration: Duration) {
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = self.was_set() => {}
        }
    }

    /// Sleeps until a time of day in seconds since 1970, or until the clock is set, whichever comes first.
    pub async fn sleep_towards(&mut self, time: i64) {
        let now = i64::try_from(wall().as_secs()).unwrap_or(i64::MAX);
        let left = u64::try_from(time.saturating_sub(now)).unwrap_or(0);
        self.sleep(Duration::from_secs(left).min(LONGEST_SLEEP)).await;
    }
}

#[cfg(test)]
mod tests;
