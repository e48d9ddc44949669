//! Tests of budgets.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T10:00:00Z".parse().unwrap()
}

fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
    let metadata = json!({"name": "b", "namespace": "ns", "generation": 2});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
}

fn pod(name: &str, ready: bool, deleted: bool) -> Arc<Pod> {
    let status = if ready { "True" } else { "False" };
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "deletionTimestamp": deleted.then_some("2026-01-01T10:00:00Z")},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]},
        }))
        .unwrap(),
    )
}

fn expect(spec: Value, pods: usize, scale: i32) -> (i32, i32) {
    let spec = budget(spec, json!(null)).spec.unwrap();
    let expected = expected(&spec, pods, scale);
    (expected.pods, expected.healthy)
}

#[test]
fn budgets_are_numbers_or_shares() {
    assert_eq!(expect(json!({"minAvailable": 2}), 5, 0), (5, 2));
    assert_eq!(expect(json!({"minAvailable": "28%"}), 5, 10), (10, 3));
    assert_eq!(expect(json!({"maxUnavailable": 1}), 5, 4), (4, 3));
    assert_eq!(expect(json!({"maxUnavailable": "30%"}), 5, 7), (7, 4));
    assert_eq!(expect(json!({"maxUnavailable": 9}), 5, 4), (4, 0));
    assert_eq!(expect(json!({}), 5, 0), (0, 0));
    let needs = |spec: Value| needs_scale(&budget(spec, json!(null)).spec.unwrap());
    assert!(!needs(json!({"minAvailable": 2})));
    assert!(needs(json!({"minAvailable": "2%"})) && needs(json!({"maxUnavailable": 1})));
}

#[test]
fn pods_on_their_way_out_are_not_healthy() {
    let told = json!({"disruptedPods": {"a": "2026-01-01T09:59:00Z", "b": "2026-01-01T09:57:00Z",
        "gone": "2026-01-01T09:59:00Z", "d": "2026-01-01T09:59:00Z"}});
    let budget = budget(json!({"minAvailable": 1}), told);
    let pods = [pod("a", true, false), pod("b", true, false), pod("c", true, false), pod("d", true, true)];
    let disrupted = disrupted(&budget, &pods, now());
    assert_eq!(disrupted.pods.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(disrupted.overdue.len(), 1);
    assert_eq!(disrupted.again, Some(Duration::from_millis(60_010)));
    let status = status(&budget, &pods, Expected { pods: 4, healthy: 1 }, &disrupted, now());
    assert_eq!((status.current_healthy, status.disruptions_allowed), (Some(2), Some(1)));
    assert_eq!(status.observed_generation, Some(2));
    let condition = &status.conditions.unwrap()[0];
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "SufficientPods"));
}

#[test]
fn nothing_is_allowed_where_nothing_is_expected_or_known() {
    let budget = budget(json!({"minAvailable": 0}), json!(null));
    let none = status(&budget, &[], Expected { pods: 0, healthy: 0 }, &Disrupted::default(), now());
    assert_eq!(none.disruptions_allowed, Some(0));
    let failed = fail_safe(&budget, &ApiError::internal("no"), now());
    assert_eq!(failed.disruptions_allowed, Some(0));
    assert_eq!(failed.conditions.unwrap()[0].reason, "SyncFailed");
}

#[test]
fn marks_become_stale() {
    let marked = |reason: &str, phase: &str, since: &str| -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"phase": phase, "conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": since}]}}))
        .unwrap()
    };
    let seconds = |pod: &Pod| stale_in(pod, now()).map(|left| left.as_secs());
    assert_eq!(seconds(&marked("EvictionByEvictionAPI", "Running", "2026-01-01T09:59:00Z")), Some(60));
    assert_eq!(seconds(&marked("EvictionByEvictionAPI", "Running", "2026-01-01T09:00:00Z")), Some(0));
    assert_eq!(seconds(&marked("TerminationByKubelet", "Running", "2026-01-01T09:00:00Z")), None);
    assert_eq!(seconds(&marked("EvictionByEvictionAPI", "Failed", "2026-01-01T09:00:00Z")), None);
    let unmarked = unmarked(&marked("EvictionByEvictionAPI", "Running", "2026-01-01T09:00:00Z"), now());
    assert_eq!(unmarked[0].status, "False");
}

proptest! {
    /// Evicting as many pods as a budget allows never leaves fewer healthy ones than it asks for.
    #[test]
    fn what_is_allowed_keeps_the_budget(
        share in any::<bool>(),
        unavailable in any::<bool>(),
        amount in 0_i32..100,
        ready in prop::collection::vec((any::<bool>(), any::<bool>()), 0..12),
        scale in 0_i32..12,
    ) {
        let amount = if share { json!(format!("{amount}%")) } else { json!(amount % 12) };
        let spec = if unavailable { json!({"maxUnavailable": amount}) } else { json!({"minAvailable": amount}) };
        let budget = budget(spec, json!(null));
        let pods: Vec<Arc<Pod>> = ready
            .iter()
            .enumerate()
            .map(|(at, (ready, deleted))| pod(&at.to_string(), *ready, *deleted))
            .collect();
        let expected = expected(budget.spec.as_ref().unwrap(), pods.len(), scale);
        let status = status(&budget, &pods, expected, &Disrupted::default(), now());
        let allowed = status.disruptions_allowed.unwrap();
        let healthy = pods.iter().filter(|pod| api::pod::is_ready(pod) && !api::pod::is_terminating(pod)).count();
        let left = i32::try_from(healthy).unwrap() - allowed;
        prop_assert!(allowed >= 0);
        prop_assert!(allowed == 0 || left >= expected.healthy);
        prop_assert!(!unavailable || allowed == 0 || scale - left <= percent::resolve(
            budget.spec.as_ref().unwrap().max_unavailable.as_ref(), scale, true));
    }
}
