//! The verb apply, through the registry.

use api::kinds::{
    CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, EVENT, EVENTS_EVENT, POD, SERVICE_ACCOUNT,
};
use api::{ApiError, FieldValidation, KindRow, Patch, UpdateOptions};
use client::{ApiFor, ObjectRef};
use embedded_store::Store;
use serde_json::{Value, json};

use crate::testing::{Harness, deployment, pod};

const HERE: Option<&str> = Some("default");

fn at(name: &str) -> ObjectRef<'_> {
    ObjectRef::new(HERE, name)
}

fn by(manager: &str, force: bool) -> UpdateOptions {
    UpdateOptions { field_manager: Some(manager.into()), force, ..UpdateOptions::default() }
}

fn whole(row: &KindRow, mut tree: Value) -> Value {
    tree["apiVersion"] = json!(row.api_version());
    tree["kind"] = json!(row.kind);
    tree
}

async fn applied(
    h: &Harness,
    row: &KindRow,
    at: ObjectRef<'_>,
    (manager, force): (&str, bool),
    tree: Value,
) -> Result<Value, ApiError> {
    let patch = Patch::apply(whole(row, tree));
    let object = h.api.patch(row, at, patch, &by(manager, force)).await?;
    Ok(object.tree().unwrap())
}

fn entry(tree: &Value, manager: &str, operation: &str) -> Value {
    let entries = tree["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let found =
        entries.into_iter().find(|entry| entry["manager"] == manager && entry["operation"] == operation);
    found.unwrap_or_default()
}

fn data(data: Value) -> Value {
    json!({ "metadata": { "name": "a" }, "data": data })
}

#[tokio::test]
async fn applying_creates_changes_and_removes() {
    let h = Harness::start().await;
    let tree =
        applied(&h, &CONFIG_MAP, at("a"), ("m", false), data(json!({ "x": "1", "y": "1" }))).await.unwrap();
    assert!(tree["metadata"]["uid"].is_string());
    let own = entry(&tree, "m", "Apply");
    assert_eq!(own["fieldsV1"], json!({ "f:data": { "f:x": {}, "f:y": {} } }));
    assert_eq!(own["time"], tree["metadata"]["creationTimestamp"]);
    // The same again is no write.
    let revision = h.store.revision();
    let again =
        applied(&h, &CONFIG_MAP, at("a"), ("m", false), data(json!({ "x": "1", "y": "1" }))).await.unwrap();
    assert_eq!((again, h.store.revision()), (tree, revision));
    let tree = applied(&h, &CONFIG_MAP, at("a"), ("m", false), data(json!({ "x": "2" }))).await.unwrap();
    assert_eq!(tree["data"], json!({ "x": "2" }));
    let refused =
        applied(&h, &CONFIG_MAP, at("a"), ("n", false), data(json!({ "x": "3" }))).await.unwrap_err();
    assert_eq!(refused.message(), "Apply failed with 1 conflict: conflict with \"m\": .data.x");
    let tree = applied(&h, &CONFIG_MAP, at("a"), ("n", true), data(json!({ "x": "3" }))).await.unwrap();
    assert_eq!(entry(&tree, "m", "Apply"), Value::Null, "who owns nothing has no entry");
    h.stop().await;
}

#[tokio::test]
async fn a_change_by_a_patch_is_anothers() {
    let h = Harness::start().await;
    applied(&h, &DEPLOYMENT, at("d"), ("ci", false), deployment("d")).await.unwrap();
    let change = Patch::merge(json!({ "spec": { "replicas": 7, "paused": true } }));
    h.api.patch(&DEPLOYMENT, at("d"), change, &by("ci", false)).await.unwrap();
    let mut wanted = deployment("d");
    wanted["spec"]["replicas"] = json!(2);
    let refused = applied(&h, &DEPLOYMENT, at("d"), ("ci", false), wanted.clone()).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "Apply failed with 1 conflict: conflict with \"ci\" using apps/v1: .spec.replicas",
        "what one applies and what one writes otherwise is kept apart"
    );
    let tree = applied(&h, &DEPLOYMENT, at("d"), ("ci", true), wanted).await.unwrap();
    assert_eq!((&tree["spec"]["replicas"], &tree["spec"]["paused"]), (&json!(2), &json!(true)));
    assert_eq!(entry(&tree, "ci", "Update")["fieldsV1"], json!({ "f:spec": { "f:paused": {} } }));
    h.stop().await;
}

#[tokio::test]
async fn status_and_scale_are_applied_apart() {
    let h = Harness::start().await;
    let mut tree = deployment("d");
    tree["spec"]["replicas"] = json!(3);
    applied(&h, &DEPLOYMENT, at("d"), ("ci", false), tree.clone()).await.unwrap();
    let status = json!({ "metadata": { "name": "d" }, "spec": { "paused": true },
        "status": { "conditions": [{ "type": "Up", "status": "True" }] } });
    let shown = applied(&h, &DEPLOYMENT, at("d").sub("status"), ("watcher", false), status).await.unwrap();
    assert_eq!(shown["status"]["conditions"][0]["type"], "Up");
    assert!(shown["spec"].get("paused").is_none());
    let own = entry(&shown, "watcher", "Apply");
    assert_eq!(own["subresource"], "status");
    assert!(own["fieldsV1"].get("f:spec").is_none(), "{own}");
    let missing = applied(&h, &DEPLOYMENT, at("x").sub("status"), ("w", false), deployment("x")).await;
    assert!(missing.unwrap_err().is_not_found());

    let scale = |replicas: i64| {
        Patch::apply(json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": { "name": "d" },
                             "spec": { "replicas": replicas } }))
    };
    let to = at("d").sub("scale");
    let refused = h.api.patch(&DEPLOYMENT, to, scale(9), &by("scaler", false)).await.unwrap_err();
    assert_eq!(refused.message(), "Apply failed with 1 conflict: conflict with \"ci\": .spec.replicas");
    let shown = h.api.patch(&DEPLOYMENT, to, scale(9), &by("scaler", true)).await.unwrap();
    assert_eq!(shown.tree().unwrap()["spec"]["replicas"], 9);
    let tree = h.get(&DEPLOYMENT, HERE, "d").await.unwrap();
    let own = entry(&tree, "scaler", "Apply");
    assert_eq!((&own["subresource"], &own["apiVersion"]), (&json!("scale"), &json!("apps/v1")));
    assert_eq!(own["fieldsV1"], json!({ "f:spec": { "f:replicas": {} } }));
    assert!(entry(&tree, "ci", "Apply")["fieldsV1"]["f:spec"].get("f:replicas").is_none());
    let refused = applied(&h, &DEPLOYMENT, at("d"), ("ci", false), {
        let mut tree = deployment("d");
        tree["spec"]["replicas"] = json!(3);
        tree
    });
    assert_eq!(
        refused.await.unwrap_err().message(),
        "Apply failed with 1 conflict: conflict with \"scaler\" with subresource \"scale\": .spec.replicas"
    );
    h.stop().await;
}

#[tokio::test]
async fn what_cannot_be_applied_leaves_no_trace() {
    let h = Harness::start().await;
    let revision = h.store.revision();
    let mut unknown = deployment("d");
    unknown["spec"]["foo"] = json!(1);
    let refused = applied(&h, &DEPLOYMENT, at("d"), ("m", false), unknown).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (
            500,
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema"
        )
    );
    let nobody = h
        .api
        .patch(
            &CONFIG_MAP,
            at("a"),
            Patch::apply(whole(&CONFIG_MAP, data(json!({})))),
            &UpdateOptions::default(),
        )
        .await
        .unwrap_err();
    assert_eq!(
        nobody.message(),
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let mut known = data(json!({ "k": "v" }));
    known["metadata"]["uid"] = json!("7");
    let refused = applied(&h, &CONFIG_MAP, at("a"), ("m", false), known).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "Operation cannot be fulfilled on configmaps \"a\": uid mismatch: the provided object specified uid 7, and no existing object was found"
    );
    let refused = applied(&h, &CONFIG_MAP, at("b"), ("m", false), data(json!({}))).await.unwrap_err();
    assert_eq!(refused.code(), 400);
    let twice = Patch {
        duplicates: vec!["line 9: key \"foo\" already set in map".to_string()],
        ..Patch::apply(whole(&CONFIG_MAP, data(json!({}))))
    };
    let strict = UpdateOptions { field_validation: FieldValidation::Strict, ..by("m", false) };
    let refused = h.api.patch(&CONFIG_MAP, at("a"), twice, &strict).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 9: key \"foo\" already set in map"
    );
    assert_eq!(h.store.revision(), revision);
    // Versions are held to.
    let tree = applied(&h, &CONFIG_MAP, at("a"), ("m", false), data(json!({ "k": "1" }))).await.unwrap();
    let mut stale = data(json!({ "k": "2" }));
    stale["metadata"]["resourceVersion"] = json!("1");
    let refused = applied(&h, &CONFIG_MAP, at("a"), ("m", false), stale.clone()).await.unwrap_err();
    assert!(refused.is_conflict() && refused.message().contains("the object has been modified"), "{refused}");
    stale["metadata"]["resourceVersion"] = tree["metadata"]["resourceVersion"].clone();
    applied(&h, &CONFIG_MAP, at("a"), ("m", false), stale).await.unwrap();
    h.stop().await;
}

#[tokio::test]
async fn what_the_server_fills_in_is_no_conflict() {
    let h = Harness::start().await;
    h.create(&SERVICE_ACCOUNT, HERE, json!({ "metadata": { "name": "default" } })).await;
    applied(&h, &POD, at("p"), ("m", false), pod("p")).await.unwrap();
    let revision = h.store.revision();
    applied(&h, &POD, at("p"), ("m", false), pod("p")).await.unwrap();
    assert_eq!(h.store.revision(), revision);
    h.stop().await;
}

#[tokio::test]
async fn managers_keep_the_version_they_have_written_in() {
    let h = Harness::start().await;
    let core = json!({ "metadata": { "name": "e" }, "reason": "r", "message": "one", "type": "Normal",
        "involvedObject": { "kind": "Pod", "name": "p", "namespace": "default" }, "source": { "component": "c" } });
    applied(&h, &EVENT, at("e"), ("core", false), core).await.unwrap();
    let note = json!({ "metadata": { "name": "e" }, "note": "two" });
    let refused = applied(&h, &EVENTS_EVENT, at("e"), ("new", false), note.clone()).await.unwrap_err();
    assert_eq!(refused.message(), "Apply failed with 1 conflict: conflict with \"core\": .message");
    let tree = applied(&h, &EVENTS_EVENT, at("e"), ("new", true), note).await.unwrap();
    assert_eq!(tree["note"], "two");
    let core = entry(&tree, "core", "Apply");
    assert_eq!(core["apiVersion"], "v1");
    assert!(core["fieldsV1"].get("f:message").is_none(), "{core}");
    h.stop().await;
}

#[tokio::test]
async fn custom_resources_are_merged_by_their_schema() {
    let h = Harness::start().await;
    let list = json!({ "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": { "type": "object", "required": ["name"],
                   "properties": { "name": { "type": "string" }, "n": { "type": "integer" } } } });
    let definition = json!({
        "metadata": { "name": "things.x.io" },
        "spec": { "group": "x.io", "scope": "Namespaced", "names": { "plural": "things", "kind": "Thing" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                "type": "object", "properties": { "spec": { "type": "object", "properties": { "parts": list } } } } } }] },
    });
    h.create(&CUSTOM_RESOURCE_DEFINITION, None, definition).await;
    let mut served = h.server.served();
    served.wait_for(|set| set.by_kind("x.io/v1", "Thing").is_some()).await.unwrap();
    let row = served.borrow().by_kind("x.io/v1", "Thing").unwrap().clone();
    let parts = |parts: Value| json!({ "metadata": { "name": "a" }, "spec": { "parts": parts } });
    let one = parts(json!([{ "name": "a", "n": 1 }]));
    applied(&h, &row, at("a"), ("one", false), one).await.unwrap();
    let two = parts(json!([{ "name": "b", "n": 2 }]));
    let tree = applied(&h, &row, at("a"), ("two", false), two).await.unwrap();
    assert_eq!(tree["spec"]["parts"], json!([{ "name": "a", "n": 1 }, { "name": "b", "n": 2 }]));
    let tree = applied(&h, &row, at("a"), ("one", false), parts(json!([]))).await.unwrap();
    assert_eq!(tree["spec"]["parts"], json!([{ "name": "b", "n": 2 }]));
    let unknown = json!({ "metadata": { "name": "a" }, "spec": { "other": 1 } });
    let refused = applied(&h, &row, at("a"), ("one", false), unknown).await.unwrap_err();
    assert!(refused.message().ends_with(".spec.other: field not declared in schema"), "{refused}");
    h.stop().await;
}

#[tokio::test]
async fn who_may_patch_may_not_thereby_create() {
    let h = Harness::start().await;
    let rules = json!({ "metadata": { "name": "patcher" },
        "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch", "get"] }] });
    h.create(&api::kinds::ROLE, HERE, rules).await;
    let binding = json!({ "metadata": { "name": "patcher" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "patcher" },
        "subjects": [{ "kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io" }] });
    h.create(&api::kinds::ROLE_BINDING, HERE, binding).await;
    let eve = h.server.as_user(api::Identity::user("eve", ["system:authenticated"]));
    let patch = || Patch::apply(whole(&CONFIG_MAP, data(json!({ "k": "v" }))));
    let refused = eve.patch(&CONFIG_MAP, at("a"), patch(), &by("m", false)).await.unwrap_err();
    assert_eq!(refused.code(), 403, "{refused}");
    h.config_map("a").await;
    let patch = Patch::apply(whole(&CONFIG_MAP, data(json!({ "other": "v" }))));
    eve.patch(&CONFIG_MAP, at("a"), patch, &by("m", false)).await.unwrap();
    h.stop().await;
}
