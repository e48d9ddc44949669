//! Tests of the time that a finished job has.

use serde_json::{Value, json};

use super::*;

fn job(ttl: Value, kind: &str, deleted: Value) -> Job {
    serde_json::from_value(json!({
        "metadata": {"name": "j", "deletionTimestamp": deleted},
        "spec": {"template": {}, "ttlSecondsAfterFinished": ttl},
        "status": {"conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T10:00:00Z"}]},
    }))
    .unwrap()
}

#[test]
fn the_time_runs_from_the_end() {
    let at = |second: i64| api::time::plus_seconds("2026-01-01T10:00:00Z".parse().unwrap(), second);
    let left = |job: &Job, second: i64| left(job, at(second)).map(|left| left.as_secs());
    assert_eq!(left(&job(json!(60), "Complete", Value::Null), 20), Some(40));
    assert_eq!(left(&job(json!(60), "Failed", Value::Null), 61), Some(0));
    assert_eq!(left(&job(json!(0), "Complete", Value::Null), 0), Some(0));
    assert_eq!(left(&job(json!(60), "Suspended", Value::Null), 100), None);
    assert_eq!(left(&job(Value::Null, "Complete", Value::Null), 100), None);
    assert_eq!(left(&job(json!(60), "Complete", json!("2026-01-01T10:00:00Z")), 100), None);
}
