//! Upstream's published cases as data (`cases.jsonl`: rules of policies, changes in the last two minutes),
//! and stabilization.

use serde_json::{Value, json};

use super::*;

/// Now, late enough for everything that has been.
fn now() -> Instant {
    Instant::now() + Duration::from_secs(10_000)
}

fn ago(now: Instant, seconds: u64) -> Instant {
    now - Duration::from_secs(seconds)
}

fn rules(tree: Value) -> HPAScalingRules {
    serde_json::from_value(tree).unwrap()
}

/// Pods, their period, percent and its period; zeros stand for no policy, nothing for the defaults.
fn policies(case: &Value, otherwise: Value) -> HPAScalingRules {
    let Some(numbers) = case.as_array() else { return rules(otherwise) };
    let policy =
        |kind: &str, at: usize| json!({"type": kind, "value": numbers[at], "periodSeconds": numbers[at + 1]});
    let policies: Vec<Value> = [("Pods", 0), ("Percent", 2)]
        .into_iter()
        .filter(|(_, at)| numbers[*at] != 0)
        .map(|(kind, at)| policy(kind, at))
        .collect();
    rules(json!({"selectPolicy": "Max", "policies": policies}))
}

/// Changes spread evenly over the last two minutes, each in the middle of its part.
fn spread(changes: &Value, now: Instant) -> Vec<Sample> {
    let changes = changes.as_array().map_or(&[][..], Vec::as_slice);
    let part = 120.0 / changes.len().max(1) as f64;
    let at = |index: usize| ago(now, (120.0 - part * (index as f64 + 0.5)) as u64);
    let change = |value: &Value| i32::try_from(value.as_i64().unwrap()).unwrap();
    changes.iter().enumerate().map(|(index, value)| (at(index), change(value))).collect()
}

#[test]
fn published_cases_come_out_as_published() {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let up = json!({"selectPolicy": "Max", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, percent]});
    let down = json!({"selectPolicy": "Max", "policies": [percent]});
    let mut count = 0;
    for line in include_str!("cases.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let number = |field: &str| i32::try_from(case[field].as_i64().unwrap()).unwrap();
        let now = now();
        let history = History {
            recommended: Vec::new(),
            added: spread(&case["added"], now),
            removed: spread(&case["removed"], now),
        };
        let (up, down) = (policies(&case["up"], up.clone()), policies(&case["down"], down.clone()));
        let bounds = Bounds { min: number("min"), max: number("max"), current: number("current") };
        let behavior = Behavior { up: &up, down: &down };
        let (replicas, (reason, _)) = history.limited(&behavior, number("desired"), bounds, now);
        assert_eq!((replicas, reason), (number("expected"), case["reason"].as_str().unwrap()), "{line}");
        count += 1;
    }
    assert_eq!(count, 42);
}

#[test]
fn of_several_policies_one_is_selected() {
    let two = |select: &str| {
        rules(json!({"selectPolicy": select, "policies": [
            {"type": "Pods", "value": 2, "periodSeconds": 60},
            {"type": "Percent", "value": 50, "periodSeconds": 60}]}))
    };
    let (history, now) = (History::default(), now());
    let up = |select: &str, current| history.up_to(&two(select), current, now);
    assert_eq!((up("Min", 1), up("Max", 1), up("Disabled", 1)), (2, 3, 1));
    let down = |select: &str, current| history.down_to(&two(select), current, now);
    assert_eq!((down("Min", 5), down("Max", 5), down("Disabled", 5)), (3, 2, 5));
}

#[test]
fn without_a_behavior_the_size_doubles_at_most_and_stays_for_the_window() {
    let window = Duration::from_secs(300);
    let bounds = |min, max, current| Bounds { min, max, current };
    let now = now();
    let fresh = |desired, bounds: Bounds| History::default().pace(desired, bounds, window, now);
    let outcome = |paced: Paced| (paced.replicas, paced.limited.0, paced.limited.1.0);
    assert_eq!(outcome(fresh(7, bounds(3, 8, 5))), (7, false, "DesiredWithinRange"));
    assert_eq!(outcome(fresh(1, bounds(2, 8, 3))), (2, true, "TooFewReplicas"));
    assert_eq!(outcome(fresh(0, bounds(0, 10, 1))), (0, false, "DesiredWithinRange"));
    assert_eq!(outcome(fresh(1000, bounds(1, 10, 20))), (10, true, "TooManyReplicas"));
    assert_eq!(outcome(fresh(1000, bounds(1, 2000, 3))), (6, true, "ScaleUpLimit"));
    assert_eq!(outcome(fresh(1000, bounds(1, 2000, 1))), (4, true, "ScaleUpLimit"));

    let stabilized = |recommended: &[(i32, u64)], desired| {
        let recommended = recommended.iter().map(|(replicas, seconds)| (ago(now, *seconds), *replicas));
        let mut history = History { recommended: recommended.collect(), ..History::default() };
        let paced = history.pace(desired, bounds(1, 100, 10), window, now);
        assert_eq!(history.recommended.last(), Some(&(now, desired)), "what is noted is not stabilized");
        (paced.replicas, paced.stabilized.0)
    };
    assert_eq!(stabilized(&[], 5), (5, "ReadyForNewScale"));
    assert_eq!(stabilized(&[(4, 120), (5, 60)], 3), (5, "ScaleDownStabilized"));
    assert_eq!(stabilized(&[(1, 120), (2, 60)], 3), (3, "ReadyForNewScale"));
    assert_eq!(stabilized(&[(10, 600), (9, 540)], 3), (3, "ReadyForNewScale"));
    assert_eq!(stabilized(&[(10, 600), (4, 60), (5, 120), (9, 540)], 3), (5, "ScaleDownStabilized"));
}

#[test]
fn a_behavior_stabilizes_both_directions() {
    let now = now();
    // Recommendations and how many seconds ago; the windows of going up and down; present and desired size.
    let stabilized = |recommended: &[(i32, u64)], (up, down): (i32, i32), (current, desired)| {
        let recommended = recommended.iter().map(|(replicas, seconds)| (ago(now, *seconds), *replicas));
        let history = History { recommended: recommended.collect(), ..History::default() };
        let window = |seconds: i32| rules(json!({"stabilizationWindowSeconds": seconds}));
        let (up, down) = (window(up), window(down));
        let behavior = Behavior { up: &up, down: &down };
        history.stabilized(&behavior, desired, current, Duration::ZERO, now)
    };
    assert_eq!(stabilized(&[], (0, 0), (100, 5)), 5);
    assert_eq!(stabilized(&[(4, 120), (5, 60)], (0, 180), (100, 3)), 5);
    assert_eq!(stabilized(&[(4, 120), (5, 60)], (300, 0), (1, 7)), 4);
    assert_eq!(stabilized(&[(1, 120), (2, 60)], (300, 0), (100, 3)), 3);
    assert_eq!(stabilized(&[(4, 120), (5, 60)], (0, 300), (1, 3)), 3);
    assert_eq!(stabilized(&[(10, 600), (9, 540)], (0, 0), (100, 3)), 3);
    assert_eq!(stabilized(&[(10, 600), (4, 60), (5, 120), (9, 540)], (0, 180), (100, 3)), 5);
    assert_eq!(stabilized(&[(10, 6000), (6, 60), (5, 120), (9, 180)], (300, 0), (1, 100)), 5);
    assert_eq!(stabilized(&[(2, 6000), (3, 180)], (300, 300), (2, 1)), 2, "not up while it goes down");
    assert_eq!(stabilized(&[(2, 6000), (1, 180)], (300, 300), (2, 3)), 2, "not down while it goes up");
}

#[test]
fn what_is_held_back_is_told() {
    let now = now();
    let mut history = History::default();
    history.begin(10, ago(now, 20));
    history.begin(99, now);
    let none = rules(json!({"selectPolicy": "Max", "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}));
    let down = HPAScalingRules { stabilization_window_seconds: None, ..none.clone() };
    let behavior = Behavior { up: &none, down: &down };
    let bounds = Bounds { min: 1, max: 50, current: 10 };
    // The window that is not named is the controller's.
    let paced = history.pace_by(&behavior, 4, bounds, Duration::from_secs(300), now);
    assert_eq!((paced.replicas, paced.stabilized), (10, HELD_UP));
    assert_eq!(paced.limited, (false, WITHIN));
    let paced = history.pace_by(&behavior, 30, bounds, Duration::from_secs(300), now);
    assert_eq!((paced.replicas, paced.stabilized, paced.limited), (20, READY, (true, TOO_FAST_UP)));
    history.rescaled(10, 20, now);
    let bounds = Bounds { current: 20, ..bounds };
    let paced = history.pace_by(&behavior, 30, bounds, Duration::from_secs(300), now);
    assert_eq!((paced.replicas, paced.limited), (20, (true, TOO_FAST_UP)), "the period is not over");
    let later = now + Duration::from_secs(16);
    let paced = history.pace_by(&behavior, 30, bounds, Duration::from_secs(300), later);
    assert_eq!((paced.replicas, paced.limited), (30, (false, WITHIN)));
}

#[test]
fn histories_do_not_grow_without_end() {
    let mut history = History::default();
    let begin = now();
    let bounds = Bounds { min: 1, max: 10, current: 5 };
    for round in 0..2000_u64 {
        let now = begin + Duration::from_secs(15 * round);
        history.pace(5, bounds, Duration::from_secs(300), now);
        history.rescaled(5, if round % 2 == 0 { 6 } else { 4 }, now);
    }
    assert_eq!((history.recommended.len(), history.added.len(), history.removed.len()), (241, 61, 61));
}
