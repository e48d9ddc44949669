//! The taint is there from the first moment, once.

use api::kinds::NODE;
use api::{Patch, UpdateOptions};
use client::ObjectRef;
use serde_json::{Value, json};

use crate::testing::Harness;

#[tokio::test]
async fn a_new_node_is_tainted_as_not_ready() {
    let h = Harness::start().await;
    let own = json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" });
    let create = async |name: &str, taints: Value| {
        let body = json!({ "metadata": { "name": name }, "spec": { "taints": taints } });
        h.create(&NODE, None, body).await.tree().unwrap()["spec"]["taints"].clone()
    };
    assert_eq!(create("bare", json!([])).await, json!([own]));
    let other = json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoExecute" });
    assert_eq!(create("other", json!([other])).await, json!([other, own]));
    assert_eq!(create("tainted", json!([own])).await, json!([own]));
    // Whoever takes it away is not hindered.
    let at = ObjectRef::new(None, "bare");
    let patch = Patch::merge(json!({ "spec": { "taints": null } }));
    let tree = h.api.patch(&NODE, at, patch, &UpdateOptions::default()).await.unwrap().tree().unwrap();
    assert_eq!(tree["spec"].get("taints"), None);
    h.stop().await;
}
