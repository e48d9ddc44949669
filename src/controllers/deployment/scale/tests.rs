//! Tests of sizes: single cases, and a whole rollout that must keep its promises at every step.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn deployment(replicas: i32, surge: Value, unavailable: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "d", "uid": "d"},
        "spec": {
            "replicas": replicas,
            "selector": {},
            "template": {},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
        },
    }))
    .unwrap()
}

/// A set; its age is its name's order.
fn set(name: &str, replicas: i32, available: i32, max: i32) -> Arc<ReplicaSet> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "annotations": {MAX_REPLICAS: max.to_string()}},
            "spec": {"replicas": replicas, "selector": {}},
            "status": {"replicas": replicas, "availableReplicas": available},
        }))
        .unwrap(),
    )
}

fn sizes_of(resizes: &[Resize]) -> Vec<(String, i32)> {
    resizes.iter().map(|(set, size)| (set.metadata.name.clone().unwrap(), *size)).collect()
}

#[test]
fn fence_posts_round_up_and_down() {
    let posts = |surge: Value, unavailable: Value| fence_posts(&deployment(10, surge, unavailable));
    assert_eq!(posts(json!("25%"), json!("25%")), (3, 2));
    assert_eq!(posts(json!(0), json!("1%")), (0, 1), "both zero would block");
    assert_eq!(posts(json!(4), json!(0)), (4, 0));
    assert_eq!(max_unavailable(&deployment(0, json!(1), json!(1))), 0);
    assert_eq!(max_unavailable(&deployment(2, json!(1), json!("300%"))), 2);
}

#[test]
fn scaling_during_a_rollout_is_proportional() {
    // Ten wanted, thirteen at most; now twenty.
    let deployment = deployment(20, json!(3), json!(2));
    let (new, old) = (set("b", 5, 3, 13), set("a", 8, 8, 13));
    let (resizes, annotate) = rescale(&deployment, Some(&new), &[old]);
    assert!(annotate);
    assert_eq!(sizes_of(&resizes), [("a".to_string(), 14), ("b".to_string(), 9)]);
    let (only, _) = rescale(&deployment, Some(&set("b", 5, 5, 13)), &[]);
    assert_eq!(sizes_of(&only), [("b".to_string(), 20)]);
}

#[test]
fn nothing_is_scaled_to_less_than_zero() {
    let deployment = deployment(0, json!(1), json!(1));
    let (resizes, _) = rescale(&deployment, Some(&set("b", 5, 3, 13)), &[set("a", 8, 8, 13)]);
    assert_eq!(sizes_of(&resizes), [("a".to_string(), 0), ("b".to_string(), 0)]);
}

#[test]
fn pods_that_do_not_work_go_first() {
    let deployment = deployment(10, json!(3), json!(2));
    let resizes = resize_old(&deployment, Some(&set("b", 5, 5, 13)), &[set("a", 8, 3, 13)]);
    assert_eq!(sizes_of(&resizes), [("a".to_string(), 3)]);
    assert!(resize_old(&deployment, Some(&set("b", 5, 0, 13)), &[set("a", 8, 8, 13)]).is_empty());
}

#[test]
fn scaled_is_what_differs_from_the_annotation() {
    let mut annotated = (*set("a", 3, 3, 4)).clone();
    let annotations = annotated.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED_REPLICAS.to_string(), "3".to_string());
    let sets = [Arc::new(annotated)];
    assert!(!was_scaled(&deployment(3, json!(1), json!(1)), &sets));
    assert!(was_scaled(&deployment(4, json!(1), json!(1)), &sets));
}

proptest! {
    /// Pods become available in random order; the rollout must end, never exceed the surge and never go below
    /// what must be available.
    #[test]
    fn a_rollout_ends_within_its_bounds(
        replicas in 1i32..20,
        surge in 0i32..5,
        unavailable in 0i32..5,
        works in proptest::collection::vec(any::<u8>(), 400),
    ) {
        let deployment = deployment(replicas, json!(surge), json!(unavailable));
        let most = replicas + max_surge(&deployment);
        let least = replicas - max_unavailable(&deployment);
        let (mut new, mut new_available) = (0, 0);
        let (mut old, mut old_available) = (replicas, replicas);
        for chance in works {
            let new_set = set("b", new, new_available, most);
            let old_set = set("a", old, old_available, most);
            let all = [old_set.clone(), new_set.clone()];
            let size = resize_new(&deployment, &new_set, &all);
            if size != new {
                new = size;
            } else {
                for (_, size) in resize_old(&deployment, Some(&new_set), &[old_set]) {
                    old = size;
                    old_available = old_available.min(size);
                }
            }
            prop_assert!(new + old <= most, "{} + {} of {}", new, old, most);
            prop_assert!(new_available + old_available >= least, "{} + {} of {}", new_available, old_available, least);
            if chance % 2 == 0 && new_available < new {
                new_available += 1;
            }
        }
        prop_assert_eq!((new, new_available, old), (replicas, replicas, 0));
    }
}
