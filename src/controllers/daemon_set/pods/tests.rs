//! Tests of eligible nodes and of pods made for them.

use serde_json::{Value, json};

use super::*;

fn set(template_spec: Value) -> DaemonSet {
    serde_json::from_value(json!({
        "metadata": {"name": "agent", "namespace": "ns", "uid": "set",
            "annotations": {"deprecated.daemonset.template.generation": "7"}},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": template_spec},
        },
    }))
    .unwrap()
}

fn node(labels: Value, taints: Value) -> Node {
    serde_json::from_value(json!({"metadata": {"name": "n1", "labels": labels}, "spec": {"taints": taints}}))
        .unwrap()
}

fn suits(spec: Value, node: &Node) -> (bool, bool) {
    let suits = Eligibility::of(&set(spec)).suits(node);
    (suits.run, suits.stay)
}

#[test]
fn selectors_and_names_choose_nodes() {
    let ssd = node(json!({"disk": "ssd"}), json!([]));
    assert_eq!(suits(json!({"containers": []}), &ssd), (true, true));
    assert_eq!(suits(json!({"containers": [], "nodeSelector": {"disk": "ssd"}}), &ssd), (true, true));
    assert_eq!(suits(json!({"containers": [], "nodeSelector": {"disk": "hdd"}}), &ssd), (false, false));
    assert_eq!(suits(json!({"containers": [], "nodeName": "n2"}), &ssd), (false, false));
    let elsewhere = json!({"key": "metadata.name", "operator": "NotIn", "values": ["n1"]});
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchFields": [elsewhere]}]}}});
    assert_eq!(suits(json!({"containers": [], "affinity": affinity}), &ssd), (false, false));
}

#[test]
fn taints_keep_new_pods_out_and_drive_others_away() {
    let plain = json!({"containers": []});
    let tainted = |key: &str, effect: &str| node(json!({}), json!([{"key": key, "effect": effect}]));
    assert_eq!(suits(plain.clone(), &tainted("gpu", "NoSchedule")), (false, true));
    assert_eq!(suits(plain.clone(), &tainted("gpu", "NoExecute")), (false, false));
    assert_eq!(suits(plain.clone(), &tainted("gpu", "PreferNoSchedule")), (true, true));
    let bearing = json!({"containers": [], "tolerations": [{"key": "gpu", "operator": "Exists"}]});
    assert_eq!(suits(bearing, &tainted("gpu", "NoExecute")), (true, true));
    for trouble in ["not-ready", "unreachable"] {
        let trouble = tainted(&format!("node.kubernetes.io/{trouble}"), "NoExecute");
        assert_eq!(suits(plain.clone(), &trouble), (true, true));
    }
    for trouble in ["disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"] {
        let trouble = tainted(&format!("node.kubernetes.io/{trouble}"), "NoSchedule");
        assert_eq!(suits(plain.clone(), &trouble), (true, true));
    }
    let unplugged = tainted("node.kubernetes.io/network-unavailable", "NoSchedule");
    assert_eq!(suits(plain, &unplugged), (false, true));
    assert_eq!(suits(json!({"containers": [], "hostNetwork": true}), &unplugged), (true, true));
}

#[test]
fn a_pod_is_pinned_to_its_node() {
    let preferred = json!([{"weight": 1, "preference": {"matchExpressions": []}}]);
    let spec = json!({"containers": [], "affinity": {"nodeAffinity":
        {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}});
    let pod = new_pod(&set(spec), "abc", "n1");
    assert_eq!(target_node(&pod), Some("n1"));
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("agent-"));
    let labels = pod.metadata.labels.as_ref().unwrap();
    assert_eq!((labels["controller-revision-hash"].as_str(), labels["app"].as_str()), ("abc", "agent"));
    assert_eq!(labels["pod-template-generation"], "7");
    assert!(is_updated(&set(json!({"containers": []})), "other", &pod), "the generation is the same");
    let affinity = pod.spec.as_ref().unwrap().affinity.as_ref().unwrap().node_affinity.as_ref().unwrap();
    assert!(affinity.preferred_during_scheduling_ignored_during_execution.is_some());
    let mut bound = pod.clone();
    bound.spec.as_mut().unwrap().node_name = Some("n9".to_string());
    assert_eq!(target_node(&bound), Some("n9"));
}

#[test]
fn a_toleration_for_a_while_becomes_one_for_good() {
    let for_a_while = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists",
        "effect": "NoExecute", "tolerationSeconds": 30}]);
    let pod = new_pod(&set(json!({"containers": [], "tolerations": for_a_while})), "abc", "n1");
    let tolerations = pod.spec.unwrap().tolerations.unwrap();
    assert_eq!(tolerations.len(), 6);
    assert_eq!(tolerations[0].toleration_seconds, None);
}
