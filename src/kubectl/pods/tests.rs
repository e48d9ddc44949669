//! Which pod is taken.

use serde_json::json;

use super::*;

fn pod(name: &str, ready: &str, since: &str, restarts: i64, created: &str) -> Value {
    json!({
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {"nodeName": "one"},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}],
            "containerStatuses": [{"restartCount": restarts}],
        },
    })
}

#[test]
fn who_has_been_ready_for_longest_comes_first_whoever_is_older() {
    let (early, late) = ("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z");
    let mut pods = [
        pod("not-ready", "False", early, 9, early),
        pod("younger", "True", late, 0, late),
        pod("older", "True", late, 0, early),
        pod("restarted", "True", late, 1, late),
        pod("ready-first", "True", early, 0, late),
    ];
    pods.sort_by_key(rank);
    let names: Vec<&str> = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
    assert_eq!(names, ["ready-first", "restarted", "older", "younger", "not-ready"]);
}
