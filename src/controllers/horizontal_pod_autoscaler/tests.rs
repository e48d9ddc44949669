//! What begins a round, and whose pods are whose.

use serde_json::json;

use super::*;

fn autoscaler(max: i32, replicas: i32) -> Arc<HorizontalPodAutoscaler> {
    let tree = json!({
        "metadata": {"name": "a", "namespace": "ns", "uid": "1"},
        "spec": {"maxReplicas": max, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
        "status": {"currentReplicas": replicas, "desiredReplicas": replicas},
    });
    Arc::new(serde_json::from_value(tree).unwrap())
}

#[test]
fn a_rounds_own_status_begins_no_round() {
    let change = |old, new| Change { old, new };
    assert!(is_news(&change(None, Some(autoscaler(3, 1)))));
    assert!(is_news(&change(Some(autoscaler(3, 1)), None)));
    assert!(is_news(&change(Some(autoscaler(3, 1)), Some(autoscaler(4, 1)))));
    assert!(!is_news(&change(Some(autoscaler(3, 1)), Some(autoscaler(3, 2)))));
}

#[test]
fn a_scale_of_no_replicas_names_none() {
    let row = Arc::new(api::kinds::DEPLOYMENT.clone());
    let scale = Scale::new(row, json!({"spec": {}, "status": {"replicas": 2, "selector": "a=b"}}));
    assert_eq!((scale.replicas, scale.present, &*scale.selector), (0, 2, "a=b"));
}
