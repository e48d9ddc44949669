//! How fast the number of replicas may change: bounds, stabilization, and the policies of a behaviour. Pure,
//! over a history of what was recommended and done.
//!
//! Times are monotonic, so that setting the clock neither ends nor lengthens a window. The history is the
//! process's own: after a restart the first size counts as recommended, which holds back whoever would go
//! down at once.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules};
use tokio::time::Instant;

/// Whatever the behaviour, samples are not looked at for longer than the API admits windows and periods.
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);
const LONGEST_PERIOD: Duration = Duration::from_secs(1800);
/// Without a behaviour the replicas at most double, or become four.
const FACTOR: i32 = 2;
const LEAST_STEP: i32 = 4;

/// A number and when it was noted: of replicas that were recommended, or that were added or taken away.
type Sample = (Instant, i32);

/// What happened to one target.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// As they were before stabilization.
    recommended: Vec<Sample>,
    added: Vec<Sample>,
    removed: Vec<Sample>,
}

/// The bounds of a round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) min: i32,
    pub(super) max: i32,
    pub(super) current: i32,
}

/// A reason and a message of a condition.
pub(super) type Told = (&'static str, &'static str);

/// The number of replicas to have, and what is told of how it came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paced {
    pub(super) replicas: i32,
    /// Of `AbleToScale`.
    pub(super) stabilized: Told,
    /// Of `ScalingLimited`, and whether it is.
    pub(super) limited: (bool, Told),
}

/// The two directions of a behaviour; the API server has filled in what an object leaves out.
pub(super) struct Behavior<'a> {
    pub(super) up: &'a HPAScalingRules,
    pub(super) down: &'a HPAScalingRules,
}

const READY: Told = ("ReadyForNewScale", "recommended size matches current size");
const WITHIN: Told = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FEW: Told = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_MANY: Told =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FAST_UP: Told =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: Told =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const HELD_UP: Told = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const HELD_DOWN: Told = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);

impl History {
    /// Notes the size that a target is found with.
    pub(super) fn begin(&mut self, current: i32, now: Instant) {
        if self.recommended.is_empty() {
            self.recommended.push((now, current));
        }
    }

    /// Notes that the target was given another size.
    pub(super) fn rescaled(&mut self, from: i32, to: i32, now: Instant) {
        let (samples, change) = match to > from {
            true => (&mut self.added, to.saturating_sub(from)),
            false => (&mut self.removed, from.saturating_sub(to)),
        };
        samples.retain(|(at, _)| now.duration_since(*at) <= LONGEST_PERIOD);
        samples.push((now, change));
    }

    /// The size to take where nothing is said of how fast to go: down only to the largest recommendation of
    /// the window.
    pub(super) fn pace(&mut self, desired: i32, bounds: Bounds, window: Duration, now: Instant) -> Paced {
        let recent = self.recommended.iter().filter(|(at, _)| now.duration_since(*at) <= window);
        let stable = recent.map(|(_, replicas)| *replicas).fold(desired, i32::max);
        self.recommend(desired, now);
        let up_to = bounds.current.saturating_mul(FACTOR).max(LEAST_STEP);
        let (most, too_many) = if bounds.max > up_to { (up_to, TOO_FAST_UP) } else { (bounds.max, TOO_MANY) };
        let (replicas, told) = match stable {
            less if less < bounds.min => (bounds.min, TOO_FEW),
            more if more > most => (most, too_many),
            within => (within, WITHIN),
        };
        let stabilized = if stable == desired { READY } else { HELD_UP };
        Paced { replicas, stabilized, limited: (replicas != stable, told) }
    }

    /// The size to take under a behaviour. `window` is that of going down where the behaviour names none.
    pub(super) fn pace_by(
        &mut self,
        behavior: &Behavior<'_>,
        desired: i32,
        bounds: Bounds,
        window: Duration,
        now: Instant,
    ) -> Paced {
        let stable = self.stabilized(behavior, desired, bounds.current, window, now);
        self.recommend(desired, now);
        let stabilized = match stable == desired {
            true => READY,
            false if desired >= bounds.current => HELD_DOWN,
            false => HELD_UP,
        };
        let (replicas, told) = self.limited(behavior, stable, bounds, now);
        Paced { replicas, stabilized, limited: (replicas != stable, told) }
    }

    fn recommend(&mut self, desired: i32, now: Instant) {
        self.recommended.retain(|(at, _)| now.duration_since(*at) <= LONGEST_WINDOW);
        self.recommended.push((now, desired));
    }

    /// Up no further than to the least, down no further than to the largest recommendation of the windows.
    fn stabilized(
        &self,
        behavior: &Behavior<'_>,
        desired: i32,
        current: i32,
        window: Duration,
        now: Instant,
    ) -> i32 {
        let up = behavior.up.stabilization_window_seconds.map_or(Duration::ZERO, seconds);
        let down = behavior.down.stabilization_window_seconds.map_or(window, seconds);
        let within = |window: Duration| {
            let recent = move |(at, _): &&Sample| now.duration_since(*at) < window;
            self.recommended.iter().filter(recent).map(|(_, replicas)| *replicas)
        };
        let least = within(up).fold(desired, i32::min);
        let largest = within(down).fold(desired, i32::max);
        current.max(least).min(largest)
    }

    fn limited(&self, behavior: &Behavior<'_>, desired: i32, bounds: Bounds, now: Instant) -> (i32, Told) {
        let current = bounds.current;
        if desired > current {
            let rate = self.up_to(behavior.up, current, now).max(current);
            let (most, told) = if bounds.max > rate { (rate, TOO_FAST_UP) } else { (bounds.max, TOO_MANY) };
            if desired > most {
                return (most, told);
            }
        } else if desired < current {
            let rate = self.down_to(behavior.down, current, now).min(current);
            let (least, told) = if bounds.min < rate { (rate, TOO_FAST_DOWN) } else { (bounds.min, TOO_FEW) };
            if desired < least {
                return (least, told);
            }
        }
        (desired, WITHIN)
    }

    /// How many replicas there may be by the policies for going up.
    fn up_to(&self, rules: &HPAScalingRules, current: i32, now: Instant) -> i32 {
        let limits = rules.policies.iter().flatten().map(|policy| {
            let start = self.at_start_of(policy, current, now);
            match &*policy.type_ {
                "Pods" => start.saturating_add(policy.value),
                // Rounded up: a small target would never grow.
                _ => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
            }
        });
        match rules.select_policy.as_deref() {
            Some("Disabled") => current,
            Some("Min") => limits.min().unwrap_or(i32::MAX),
            _ => limits.max().unwrap_or(i32::MIN),
        }
    }

    /// How few replicas there may be by the policies for going down.
    fn down_to(&self, rules: &HPAScalingRules, current: i32, now: Instant) -> i32 {
        let limits = rules.policies.iter().flatten().map(|policy| {
            let start = self.at_start_of(policy, current, now);
            match &*policy.type_ {
                "Pods" => start.saturating_sub(policy.value),
                _ => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
            }
        });
        match rules.select_policy.as_deref() {
            Some("Disabled") => current,
            Some("Min") => limits.max().unwrap_or(i32::MIN),
            _ => limits.min().unwrap_or(i32::MAX),
        }
    }

    /// How many replicas there were when the policy's period began.
    fn at_start_of(&self, policy: &HPAScalingPolicy, current: i32, now: Instant) -> i32 {
        let period = seconds(policy.period_seconds);
        let sum = |samples: &[Sample]| {
            let recent = samples.iter().filter(|(at, _)| now.duration_since(*at) < period);
            recent.fold(0_i32, |sum, (_, change)| sum.saturating_add(*change))
        };
        current.saturating_sub(sum(&self.added)).saturating_add(sum(&self.removed))
    }
}

fn seconds(count: i32) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests;
