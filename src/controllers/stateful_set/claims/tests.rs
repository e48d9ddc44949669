//! Tests of claims' names and owners.

use serde_json::{Value, json};

use super::*;

fn set(policy: Value) -> StatefulSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "set"},
        "spec": {
            "replicas": 2,
            "serviceName": "web",
            "selector": {"matchLabels": {"app": "web"}},
            "persistentVolumeClaimRetentionPolicy": policy,
            "template": {"metadata": {"labels": {"app": "web"}}},
            "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"tier": "db"}}, "spec": {}}],
        },
    }))
    .unwrap()
}

fn policy(scaled: &str, deleted: &str) -> Value {
    json!({"whenScaled": scaled, "whenDeleted": deleted})
}

fn pod(ordinal: i32) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": format!("web-{ordinal}"), "namespace": "ns", "uid": format!("pod-{ordinal}")},
    }))
    .unwrap()
}

fn claim(owners: Value) -> PersistentVolumeClaim {
    serde_json::from_value(json!({"metadata": {"name": "data-web-0", "ownerReferences": owners}})).unwrap()
}

fn reference(kind: &str, name: &str, uid: &str, controller: bool) -> Value {
    let version = if kind == "Pod" { "v1" } else { "apps/v1" };
    json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": controller})
}

#[test]
fn claims_are_made_from_the_templates() {
    let wanted = wanted(&set(Value::Null), &pod(1));
    let metadata = &wanted[0].metadata;
    assert_eq!((text(&metadata.name), text(&metadata.namespace)), ("data-web-1", "ns"));
    let labels = metadata.labels.as_ref().unwrap();
    assert_eq!((labels["tier"].as_str(), labels["app"].as_str()), ("db", "web"));
}

#[test]
fn owners_follow_the_policy() {
    // Policy, ordinal (2 and above are scaled away), owners.
    let cases = [
        (policy("Retain", "Retain"), 0, vec![]),
        (policy("Retain", "Retain"), 5, vec![]),
        (policy("Retain", "Delete"), 0, vec!["set"]),
        (policy("Retain", "Delete"), 5, vec!["set"]),
        (policy("Delete", "Retain"), 0, vec![]),
        (policy("Delete", "Retain"), 5, vec!["pod-5"]),
        (policy("Delete", "Delete"), 0, vec!["set"]),
        (policy("Delete", "Delete"), 5, vec!["pod-5"]),
    ];
    for (policy, ordinal, owners) in cases {
        let (set, pod) = (set(policy.clone()), pod(ordinal));
        let mut claim = claim(json!([]));
        let is_right = is_owned_right(&claim, &set, &pod);
        assert_eq!(is_right, owners.is_empty(), "{policy} {ordinal}");
        claim.metadata.owner_references = Some(right_owners(&claim, &set, &pod));
        let uids: Vec<&str> = super::owners(&claim).iter().map(|owner| owner.uid.as_str()).collect();
        assert_eq!(uids, owners, "{policy} {ordinal}");
        assert!(is_owned_right(&claim, &set, &pod), "{policy} {ordinal}");
        assert!(super::owners(&claim).iter().all(|owner| owner.controller == Some(true)));
    }
}

#[test]
fn others_claims_are_left_alone() {
    let set = set(policy("Delete", "Delete"));
    // Of an earlier set of this name.
    assert!(is_owned_right(&claim(json!([reference("StatefulSet", "web", "old", true)])), &set, &pod(0)));
    // Somebody else controls it: no owner of ours beside it.
    let foreign = reference("Database", "db", "db", true);
    assert!(is_owned_right(&claim(json!([foreign])), &set, &pod(0)));
    let both = claim(json!([foreign, reference("StatefulSet", "web", "set", true)]));
    assert!(!is_owned_right(&both, &set, &pod(0)));
    let right = right_owners(&both, &set, &pod(0));
    assert_eq!(right.iter().map(|owner| owner.uid.as_str()).collect::<Vec<_>>(), ["db"]);
    // An owner that does not control is made one that does.
    assert!(!is_owned_right(&claim(json!([reference("StatefulSet", "web", "set", false)])), &set, &pod(0)));
}

#[test]
fn a_pod_waits_for_the_claims_of_the_one_before() {
    let mut new = pod(1);
    new.metadata.uid = None;
    let mut left = claim(json!([reference("Pod", "web-1", "pod-1", true)]));
    left.metadata.name = Some("data-web-1".to_string());
    let claims = Claims::from([("data-web-1".to_string(), Arc::new(left))]);
    assert!(are_leaving(&set(policy("Delete", "Retain")), &new, &claims));
    assert!(!are_leaving(&set(policy("Retain", "Retain")), &new, &claims));
    assert!(!are_leaving(&set(policy("Delete", "Retain")), &new, &Claims::new()));
}
