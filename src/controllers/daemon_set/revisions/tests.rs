//! Tests of a daemon set's history.

use super::*;

fn set(image: &str, limit: i32) -> DaemonSet {
    serde_json::from_value(json!({
        "metadata": {"name": "agent", "namespace": "ns", "uid": "set"},
        "spec": {
            "revisionHistoryLimit": limit,
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {"spec": {"containers": [{"name": "c", "image": image}]}},
        },
    }))
    .unwrap()
}

#[test]
fn history_that_pods_are_of_stays() {
    let old: Vec<Arc<ControllerRevision>> = ["a", "b", "c"]
        .iter()
        .zip(1..)
        .map(|(image, number)| Arc::new(new_revision(&set(image, 10), number).unwrap()))
        .collect();
    assert_eq!(text(&old[0].metadata.name), format!("agent-{}", hash_of(&old[0])));
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p",
        "labels": {REVISION_LABEL: hash_of(&old[0])}}}))
    .unwrap();
    let pods = [Arc::new(pod)];
    assert_eq!(superfluous(&set("d", 10), &old, &pods), []);
    assert_eq!(superfluous(&set("d", 2), &old, &pods), [old[1].clone()]);
    assert_eq!(superfluous(&set("d", 0), &old, &pods), [old[1].clone(), old[2].clone()]);
}
