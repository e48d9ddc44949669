//! Golden tests of rollout messages.

use serde_json::{Value, json};

use super::deployment;

fn said(status: Value) -> String {
    let mut object = json!({"metadata": {"name": "web", "generation": 2}, "spec": {"replicas": 3}, "status": {"observedGeneration": 2}});
    for (key, value) in status.as_object().unwrap() {
        object["status"][key] = value.clone();
    }
    match deployment(&object, 0) {
        Ok(status) => format!("{} {}", status.done, status.message.trim_end()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_deployment_tells_what_it_waits_for() {
    assert_eq!(
        said(json!({"observedGeneration": 1})),
        "false Waiting for deployment spec update to be observed..."
    );
    assert_eq!(
        said(json!({"updatedReplicas": 1, "replicas": 3})),
        "false Waiting for deployment \"web\" rollout to finish: 1 out of 3 new replicas have been updated..."
    );
    assert_eq!(
        said(json!({"updatedReplicas": 3, "replicas": 4})),
        "false Waiting for deployment \"web\" rollout to finish: 1 old replicas are pending termination..."
    );
    assert_eq!(
        said(json!({"updatedReplicas": 3, "replicas": 3, "availableReplicas": 2})),
        "false Waiting for deployment \"web\" rollout to finish: 2 of 3 updated replicas are available..."
    );
    assert_eq!(
        said(json!({"updatedReplicas": 3, "replicas": 3, "availableReplicas": 3})),
        "true deployment \"web\" successfully rolled out"
    );
    assert_eq!(
        said(json!({"conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]})),
        "error: deployment \"web\" exceeded its progress deadline"
    );
}
