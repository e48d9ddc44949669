//! Managed fields as clients see them, through the registry.

use api::kinds::{
    CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, EVENT, EVENTS_EVENT, LEASE, POD, SERVICE_ACCOUNT,
};
use api::{CreateOptions, Identity, KindRow, Patch, UpdateOptions};
use client::{ApiFor, ObjectRef};
use embedded_store::Store;
use serde_json::{Value, json};

use crate::testing::{Harness, deployment, pod};

const HERE: Option<&str> = Some("default");

fn at(name: &str) -> ObjectRef<'_> {
    ObjectRef::new(HERE, name)
}

fn by(manager: &str) -> UpdateOptions {
    UpdateOptions { field_manager: Some(manager.into()), ..UpdateOptions::default() }
}

fn made_by(manager: &str) -> CreateOptions {
    CreateOptions { field_manager: Some(manager.into()), ..CreateOptions::default() }
}

/// The fields of an entry, null if there is none.
fn fields(tree: &Value, manager: &str, subresource: Option<&str>) -> Value {
    let entries = tree["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let found = entries.into_iter().find(|entry| {
        entry["manager"] == manager && entry.get("subresource").and_then(Value::as_str) == subresource
    });
    found.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

async fn patched(h: &Harness, row: &KindRow, at: ObjectRef<'_>, manager: &str, change: Value) -> Value {
    h.api.patch(row, at, Patch::merge(change), &by(manager)).await.unwrap().tree().unwrap()
}

#[tokio::test]
async fn every_write_leaves_its_writer() {
    let h = Harness::start().await;
    let body = json!({ "metadata": { "name": "a", "labels": { "app": "a" } }, "data": { "k": "v" } });
    let made = h.api.create(&CONFIG_MAP, HERE, body, &made_by("maker")).await.unwrap().tree().unwrap();
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(
        *entry,
        json!({
            "apiVersion": "v1", "fieldsType": "FieldsV1", "manager": "maker", "operation": "Update",
            "time": made["metadata"]["creationTimestamp"],
            "fieldsV1": { "f:data": { ".": {}, "f:k": {} }, "f:metadata": { "f:labels": { ".": {}, "f:app": {} } } },
        })
    );
    let tree = patched(&h, &CONFIG_MAP, at("a"), "other", json!({ "data": { "k": "w", "l": "1" } })).await;
    assert_eq!(fields(&tree, "maker", None)["f:data"], json!({}));
    assert_eq!(fields(&tree, "other", None), json!({ "f:data": { "f:k": {}, "f:l": {} } }));
    // A client that knows nothing of managed fields does not lose them.
    let mut plain = tree.clone();
    plain["metadata"].as_object_mut().unwrap().remove("managedFields");
    plain["data"] = json!({ "k": "w" });
    let tree = h.api.update(&CONFIG_MAP, at("a"), plain, &by("third")).await.unwrap().tree().unwrap();
    assert_eq!(fields(&tree, "other", None), json!({ "f:data": { "f:k": {} } }));
    assert_eq!(fields(&tree, "third", None), Value::Null);
    h.stop().await;
}

#[tokio::test]
async fn what_the_server_fills_in_is_nobodys() {
    let h = Harness::start().await;
    h.create(&SERVICE_ACCOUNT, HERE, json!({ "metadata": { "name": "default" } })).await;
    let made = h.api.create(&POD, HERE, pod("p"), &made_by("kubectl-run")).await.unwrap().tree().unwrap();
    let spec = fields(&made, "kubectl-run", None)["f:spec"].clone();
    assert!(made["spec"]["tolerations"].is_array() && spec.get("f:tolerations").is_none(), "{spec}");
    assert!(spec.get("f:containers").is_some(), "{spec}");
    let change = json!({ "status": { "phase": "Running" }, "spec": { "nodeName": "x" } });
    let tree = patched(&h, &POD, at("p").sub("status"), "kubelet", change).await;
    assert_eq!(fields(&tree, "kubelet", Some("status")), json!({ "f:status": { "f:phase": {} } }));
    let service = json!({ "metadata": { "name": "s" }, "spec": { "ports": [{ "port": 80 }], "selector": { "a": "b" } } });
    let made =
        h.api.create(&api::kinds::SERVICE, HERE, service, &made_by("m")).await.unwrap().tree().unwrap();
    assert_eq!(
        fields(&made, "m", None),
        json!({ "f:spec": {
            "f:internalTrafficPolicy": {},
            "f:ports": { ".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {
                ".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {} } },
            "f:selector": {}, "f:sessionAffinity": {}, "f:type": {},
        } })
    );
    h.stop().await;
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_none() {
    let h = Harness::start().await;
    h.api.create(&DEPLOYMENT, HERE, deployment("d"), &made_by("m")).await.unwrap();
    let tree = patched(&h, &DEPLOYMENT, at("d"), "m", json!({ "spec": { "paused": true } })).await;
    let revision = h.store.revision();
    // The same again, whole and as a patch, by the owner and by somebody else; what the server resets changes
    // nothing.
    let same = h.api.update(&DEPLOYMENT, at("d"), tree.clone(), &by("m")).await.unwrap();
    assert_eq!(same.tree().unwrap(), tree);
    patched(
        &h,
        &DEPLOYMENT,
        at("d"),
        "x",
        json!({ "spec": { "paused": true }, "status": { "replicas": 9 } }),
    )
    .await;
    let mut sent = tree.clone();
    sent["metadata"]["generation"] = json!(7);
    sent["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    h.api.update(&DEPLOYMENT, at("d"), sent, &by("x")).await.unwrap();
    assert_eq!(h.store.revision(), revision);
    h.stop().await;
}

#[tokio::test]
async fn clients_reset_and_cannot_spoil_them() {
    let h = Harness::start().await;
    h.config_map("a").await;
    let wrong =
        json!([{ "manager": "x", "operation": "Delete", "apiVersion": "v1", "fieldsType": "FieldsV1" }]);
    let tree =
        patched(&h, &CONFIG_MAP, at("a"), "m", json!({ "metadata": { "managedFields": wrong } })).await;
    assert_eq!(tree["metadata"]["managedFields"][0]["operation"], "Update");
    let long = json!([{ "manager": "x".repeat(129), "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
                        "fieldsV1": { "f:data": {} } }]);
    let change = Patch::merge(json!({ "metadata": { "managedFields": long } }));
    let refused = h.api.patch(&CONFIG_MAP, at("a"), change, &by("m")).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "ConfigMap \"a\" is invalid: metadata.managedFields[0].manager: Too long: may not be more than 128 bytes"
    );
    // Others may be given what one has.
    let given = json!([{ "manager": "heir", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                         "fieldsV1": { "f:data": { "f:k": {} } } }]);
    let tree =
        patched(&h, &CONFIG_MAP, at("a"), "m", json!({ "metadata": { "managedFields": given } })).await;
    assert_eq!(fields(&tree, "heir", None), json!({ "f:data": { "f:k": {} } }));
    let json_patch =
        Patch::json(json!([{ "op": "replace", "path": "/metadata/managedFields/0/manager", "value": "h2" }]));
    let tree = h.api.patch(&CONFIG_MAP, at("a"), json_patch, &by("m")).await.unwrap().tree().unwrap();
    assert_eq!(fields(&tree, "h2", None), json!({ "f:data": { "f:k": {} } }));
    for reset in [json!([]), json!([{}])] {
        h.api.delete(&CONFIG_MAP, at("b"), &api::DeleteOptions::default()).await.ok();
        h.config_map("b").await;
        let tree =
            patched(&h, &CONFIG_MAP, at("b"), "m", json!({ "metadata": { "managedFields": reset } })).await;
        assert!(tree["metadata"].get("managedFields").is_none());
        // And it stays so: who owns the rest is not known any more.
        let tree = patched(&h, &CONFIG_MAP, at("b"), "m", json!({ "data": { "x": "y" } })).await;
        assert!(tree["metadata"].get("managedFields").is_none());
    }
    h.stop().await;
}

#[tokio::test]
async fn scale_and_components_have_their_names() {
    let h = Harness::start().await;
    h.api.create(&DEPLOYMENT, HERE, deployment("d"), &made_by("m")).await.unwrap();
    let change = json!({ "spec": { "replicas": 5 } });
    h.api.patch(&DEPLOYMENT, at("d").sub("scale"), Patch::merge(change), &by("scaler")).await.unwrap();
    let tree = h.get(&DEPLOYMENT, HERE, "d").await.unwrap();
    assert_eq!(fields(&tree, "scaler", Some("scale")), json!({ "f:spec": { "f:replicas": {} } }));
    assert!(fields(&tree, "m", None)["f:spec"].get("f:replicas").is_none());
    let entries = tree["metadata"]["managedFields"].as_array().unwrap();
    assert!(entries.iter().any(|one| one["subresource"] == "scale" && one["apiVersion"] == "apps/v1"));
    for (identity, name) in [
        (Identity::user("system:apiserver", ["system:masters"]), "kube-apiserver"),
        (Identity::user("eve", ["system:masters"]), "eve"),
    ] {
        let api = h.server.as_user(identity);
        let body = json!({ "metadata": { "generateName": "by-" }, "data": { "k": "v" } });
        let made =
            api.create(&CONFIG_MAP, HERE, body, &CreateOptions::default()).await.unwrap().tree().unwrap();
        assert_eq!(fields(&made, name, None)["f:metadata"], json!({ "f:generateName": {} }));
    }
    h.stop().await;
}

#[tokio::test]
async fn whoever_renews_a_lease_owns_it() {
    let h = Harness::start().await;
    let lease = |at: u32| {
        json!({ "metadata": { "name": "l" }, "spec": { "holderIdentity": "h", "leaseDurationSeconds": 15,
                "renewTime": format!("2026-01-01T00:00:{at:02}.000000Z") } })
    };
    let made = h.api.create(&LEASE, HERE, lease(1), &made_by("h")).await.unwrap();
    let mut renewed = lease(2);
    renewed["metadata"]["resourceVersion"] = json!(made.resource_version().to_string());
    let tree = h.api.update(&LEASE, at("l"), renewed, &by("h")).await.unwrap().tree().unwrap();
    assert_eq!(
        fields(&tree, "h", None),
        json!({ "f:spec": { "f:holderIdentity": {}, "f:leaseDurationSeconds": {}, "f:renewTime": {} } })
    );
    h.stop().await;
}

#[tokio::test]
async fn entries_in_another_version_are_followed_in_that_version() {
    let h = Harness::start().await;
    let event = json!({ "metadata": { "name": "e" }, "involvedObject": { "kind": "Pod", "name": "p", "namespace": "default" },
                        "reason": "r", "message": "one", "type": "Normal", "source": { "component": "c" } });
    h.api.create(&EVENT, HERE, event, &made_by("core")).await.unwrap();
    let tree = patched(
        &h,
        &EVENTS_EVENT,
        at("e"),
        "new",
        json!({ "deprecatedCount": 2, "action": "a", "metadata": { "labels": { "a": "b" } } }),
    )
    .await;
    assert_eq!(tree["apiVersion"], "events.k8s.io/v1");
    assert_eq!(fields(&tree, "new", None)["f:deprecatedCount"], json!({}));
    let core = fields(&tree, "core", None);
    assert!(core.get("f:message").is_some() && core.get("f:deprecatedCount").is_none(), "{core}");
    let tree = patched(&h, &EVENT, at("e"), "core", json!({ "count": 3 })).await;
    assert!(fields(&tree, "new", None).get("f:deprecatedCount").is_none(), "{tree}");
    assert_eq!(fields(&tree, "core", None)["f:count"], json!({}));
    h.stop().await;
}

#[tokio::test]
async fn typed_readers_and_definitions_see_what_they_need() {
    let h = Harness::start().await;
    let object = h.config_map("a").await;
    let typed = object.typed::<k8s_openapi::api::core::v1::ConfigMap>().unwrap();
    assert_eq!(typed.metadata.managed_fields, None);
    assert!(object.managed_fields().is_some());
    // A typed reader that writes back what it has read keeps everybody's fields.
    let body = serde_json::to_value(&*typed).unwrap();
    let revision = h.store.revision();
    h.api.update(&CONFIG_MAP, at("a"), body, &by("m")).await.unwrap();
    assert_eq!(h.store.revision(), revision);
    let definition = json!({
        "metadata": { "name": "things.x.io" },
        "spec": { "group": "x.io", "scope": "Namespaced", "names": { "plural": "things", "kind": "Thing" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object" } } }] },
    });
    let made = h
        .api
        .create(&CUSTOM_RESOURCE_DEFINITION, None, definition, &made_by("m"))
        .await
        .unwrap()
        .tree()
        .unwrap();
    assert_eq!(
        fields(&made, "m", None)["f:spec"],
        json!({ "f:conversion": { ".": {}, "f:strategy": {} }, "f:group": {},
                "f:names": { "f:kind": {}, "f:listKind": {}, "f:plural": {}, "f:singular": {} },
                "f:scope": {}, "f:versions": {} })
    );
    h.stop().await;
}
