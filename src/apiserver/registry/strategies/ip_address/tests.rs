//! Names and parents of addresses.

use api::kinds::IP_ADDRESS;
use api::{CreateOptions, Patch, UpdateOptions};
use client::ObjectRef;
use serde_json::{Value, json};

use crate::testing::Harness;

#[tokio::test]
async fn an_address_has_a_canonical_name_and_a_parent_for_good() {
    let h = Harness::start().await;
    let parent = json!({"group": "gateway.networking.k8s.io", "resource": "gateways", "name": "g"});
    let body =
        |name: &str, parent: &Value| json!({"metadata": {"name": name}, "spec": {"parentRef": parent}});
    let create = async |body: Value| {
        let made = h.api.create(&IP_ADDRESS, None, body, &CreateOptions::default()).await;
        made.map(|object| object.tree().unwrap())
    };
    for (name, fault) in [
        ("gateway", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ("010.9.8.7", "must not have leading 0s"),
        ("::ffff:10.9.8.7", "must not be an IPv4-mapped IPv6 address"),
        ("FD00::1", "must be in canonical form (\"fd00::1\")"),
    ] {
        let refused = create(body(name, &parent)).await.unwrap_err();
        let want = format!("metadata.name: Invalid value: {name:?}: {fault}");
        assert!(refused.message().contains(&want), "{refused}");
    }
    for (parent, want) in [
        (Value::Null, "spec.parentRef: Required value"),
        (json!({"resource": "", "name": "g"}), "spec.parentRef.resource: Required value"),
        (json!({"resource": "services", "name": ""}), "spec.parentRef.name: Required value"),
        (json!({"resource": "a/b", "name": "g"}), "spec.parentRef.resource: Invalid value: \"a/b\""),
        (json!({"group": "A", "resource": "a", "name": "g"}), "spec.parentRef.group: Invalid value: \"A\""),
    ] {
        let refused = create(body("10.9.8.7", &parent)).await.unwrap_err();
        assert!(refused.code() == 422 && refused.message().contains(want), "{parent}: {refused}");
    }
    let made = create(body("10.9.8.7", &parent)).await.unwrap();
    assert!(made["metadata"].get("generation").is_none());
    create(body("fd00::1", &parent)).await.unwrap();
    let moved = Patch::merge(json!({"spec": {"parentRef": {"name": "other"}}}));
    let at = ObjectRef::new(None, "10.9.8.7");
    let refused = h.api.patch(&IP_ADDRESS, at, moved, &UpdateOptions::default()).await.unwrap_err();
    assert!(refused.message().contains("spec.parentRef: Invalid value:"), "{refused}");
    assert!(refused.message().ends_with("field is immutable"), "{refused}");
    let labelled = Patch::merge(json!({"metadata": {"labels": {"a": "b"}}}));
    h.api.patch(&IP_ADDRESS, at, labelled, &UpdateOptions::default()).await.unwrap();
    h.stop().await;
}
