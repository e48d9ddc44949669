//! Objects against what upstream's evaluators count of the same objects.

use serde_json::{Value, json};

use super::*;
use crate::kinds::{CONFIG_MAP, DEPLOYMENT, PERSISTENT_VOLUME_CLAIM, POD, SERVICE};

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn counted(row: &KindRow, tree: Value) -> String {
    printed(&usage(row, &tree, now()))
}

#[test]
fn objects_count_what_upstream_counts() {
    let resources = json!({"requests": {"cpu": "500m", "memory": "1Gi", "example.com/gpu": "1"}, "limits": {"cpu": "1", "example.com/gpu": "1"}});
    let pod = json!({"spec": {"containers": [{"name": "a", "resources": resources}, {"name": "b", "resources": {"requests": {"cpu": "1"}}}]}});
    assert_eq!(
        counted(&POD, pod.clone()),
        "count/pods=1,cpu=1500m,limits.cpu=1,memory=1Gi,pods=1,requests.cpu=1500m,requests.example.com/gpu=1,requests.memory=1Gi"
    );
    let mut done = pod;
    done["status"] = json!({"phase": "Succeeded"});
    assert_eq!(counted(&POD, done), "count/pods=1");
    let stuck = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:00Z", "deletionGracePeriodSeconds": 30}, "spec": {"containers": []}});
    assert_eq!(counted(&POD, stuck), "count/pods=1");
    let ports = json!([{"port": 1}, {"port": 2, "nodePort": 30000}]);
    for (spec, want) in [
        (json!({"ports": ports}), "services.loadbalancers=0,services.nodeports=0"),
        (json!({"type": "NodePort", "ports": ports}), "services.loadbalancers=0,services.nodeports=2"),
        (
            json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false}),
            "services.loadbalancers=1,services.nodeports=1",
        ),
    ] {
        assert_eq!(counted(&SERVICE, json!({"spec": spec})), format!("count/services=1,services=1,{want}"));
    }
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "5Gi"}}}});
    assert_eq!(
        counted(&PERSISTENT_VOLUME_CLAIM, claim),
        "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/requests.storage=5Gi,persistentvolumeclaims=1,requests.storage=5Gi"
    );
    assert_eq!(counted(&CONFIG_MAP, json!({})), "configmaps=1,count/configmaps=1");
    assert_eq!(counted(&DEPLOYMENT, json!({})), "count/deployments.apps=1");
}

#[test]
fn stored_objects_count_the_same_and_are_decoded_only_as_far_as_needed() {
    let resources = json!({"requests": {"cpu": "500m", "example.com/gpu": "1"}, "limits": {"cpu": "1"}});
    let spec = json!({"containers": [{"name": "a", "resources": resources}]});
    let trees = [
        (&POD, json!({"spec": spec, "status": {"phase": "Running"}})),
        (&POD, json!({"spec": spec, "status": {"phase": "Failed"}})),
        (&SERVICE, json!({"spec": {"type": "NodePort", "ports": [{"port": 1}]}})),
        (&PERSISTENT_VOLUME_CLAIM, json!({"spec": {"resources": {"requests": {"storage": "5Gi"}}}})),
        (&CONFIG_MAP, json!({})),
    ];
    let hard = json!({"pods": "1", "services": "1", "requests.storage": "1", "count/configmaps": "1"});
    let quotas =
        [json!({"spec": {"hard": hard}}), json!({"spec": {"hard": hard, "scopes": ["NotTerminating"]}})];
    for (row, mut tree) in trees {
        tree["metadata"] = json!({"name": "x", "namespace": "n"});
        let object = Object::from_tree(tree.clone(), 1).unwrap();
        for quota in &quotas {
            let expected = matches(quota, row, &tree).then(|| usage(row, &tree, now()));
            assert_eq!(usage_under(quota, row, &object, now()).unwrap(), expected, "{} {quota}", row.plural);
        }
    }
    // What cannot be decoded need not be.
    let broken =
        Object::from_stored(br#"{"kind":"X","metadata":{"name":"x"},"data":7}"#[..].into(), 1).unwrap();
    assert!(usage_under(&quotas[0], &CONFIG_MAP, &broken, now()).unwrap().is_some());
}

#[test]
fn scopes_select_pods() {
    let quota = |spec: Value| json!({"spec": spec, "status": {"hard": {"pods": "1"}}});
    let plain = json!({"spec": {"containers": [{"name": "a"}]}});
    let classy = json!({"spec": {"priorityClassName": "high", "activeDeadlineSeconds": 5,
        "containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]}});
    let by_class = |operator: &str, values: Value| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}});
    for (spec, of_plain, of_classy) in [
        (json!({}), true, true),
        (json!({"scopes": ["BestEffort"]}), true, false),
        (json!({"scopes": ["NotBestEffort", "Terminating"]}), false, true),
        (json!({"scopes": ["NotTerminating"]}), true, false),
        (json!({"scopes": ["PriorityClass"]}), false, true),
        (by_class("In", json!(["high"])), false, true),
        (by_class("NotIn", json!(["high"])), true, false),
        (by_class("DoesNotExist", json!([])), true, false),
        (json!({"scopes": ["VolumeAttributesClass"]}), false, false),
    ] {
        let quota = quota(spec);
        assert_eq!(
            (matches(&quota, &POD, &plain), matches(&quota, &POD, &classy)),
            (of_plain, of_classy),
            "{quota}"
        );
        assert!(!matches(&quota, &CONFIG_MAP, &json!({})));
    }
}

#[test]
fn containers_must_say_what_is_limited() {
    let pod = json!({"spec": {"containers": [{"name": "b"}, {"name": "a", "resources": {"requests": {"cpu": "1"}}}]}});
    assert_eq!(
        missing(&POD, &pod, &["pods", "requests.cpu", "limits.memory"]).as_deref(),
        Some("must specify limits.memory for: a,b; requests.cpu for: b")
    );
    assert_eq!(missing(&POD, &pod, &["pods"]), None);
}
