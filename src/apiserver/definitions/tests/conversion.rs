//! Versions that a webhook converts, the fields that selectors name in each, and defaults of what was stored
//! before there were any.

use api::{FieldSelector, ListOptions};

use super::super::conversion::{Malformed, check, converted, restore_metadata};
use super::*;
use crate::outbound::tests::Scripted;

/// `hostPort: a:1` in v1 is `host: a`, `port: "1"` in v2.
fn convert(object: &Value, version: &str) -> Value {
    let mut made = json!({ "apiVersion": version, "kind": object["kind"], "metadata": object["metadata"] });
    made["metadata"]["labels"] = json!({ "converted": version.rsplit('/').next() });
    // What a webhook may not change.
    made["metadata"]["finalizers"] = json!(["example.com/mine"]);
    if version.ends_with("v2") {
        let (host, port) = object["hostPort"].as_str().unwrap_or("").split_once(':').unwrap_or_default();
        (made["host"], made["port"], made["unknown"]) = (json!(host), json!(port), json!(true));
    } else {
        let part = |name: &str| object[name].as_str().unwrap_or("").to_string();
        made["hostPort"] = json!(format!("{}:{}", part("host"), part("port")));
    }
    made
}

async fn webhook() -> Scripted {
    Scripted::start(|path, review| {
        let request = &review["request"];
        let version = request["desiredAPIVersion"].as_str().unwrap();
        let objects: Vec<Value> =
            request["objects"].as_array().unwrap().iter().map(|object| convert(object, version)).collect();
        let response = match path {
            "/refuses" => json!({ "result": { "status": "Failure", "message": "I do not know how" } }),
            _ => json!({ "result": { "status": "Success" }, "convertedObjects": objects }),
        };
        let mut answer = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response,
        });
        answer["response"]["uid"] = request["uid"].clone();
        Some((200, answer))
    })
    .await
}

fn definition_of(server: &Scripted, path: &str) -> Value {
    let version = |name: &str, storage: bool, fields: &[&str]| {
        let properties: serde_json::Map<String, Value> =
            fields.iter().map(|field| (field.to_string(), json!({ "type": "string" }))).collect();
        let selectable: Vec<Value> =
            fields.iter().map(|field| json!({ "jsonPath": format!(".{field}") })).collect();
        json!({
            "name": name, "served": true, "storage": storage, "selectableFields": selectable,
            "schema": { "openAPIV3Schema": { "type": "object", "properties": properties } },
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "sockets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": { "plural": "sockets", "kind": "Socket" },
            "versions": [version("v1", true, &["hostPort"]), version("v2", false, &["host", "port"])],
            "conversion": { "strategy": "Webhook", "webhook": {
                "clientConfig": server.config(path), "conversionReviewVersions": ["v1", "v1beta1"] } },
        },
    })
}

async fn rows(h: &Harness, definition: Value) -> (Arc<KindRow>, Arc<KindRow>) {
    h.define(definition).await;
    h.condition("sockets.example.com", "Established", "True").await;
    let v1 = h.served("Socket", true).await.unwrap();
    let served = h.server.served().borrow().clone();
    (v1, served.by_kind("example.com/v2", "Socket").unwrap().clone())
}

fn socket(version: &str, name: &str, fields: Value) -> Value {
    let mut socket = fields;
    socket["apiVersion"] = json!(format!("example.com/{version}"));
    socket["kind"] = json!("Socket");
    socket["metadata"] = json!({ "name": name });
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_converts_between_versions() {
    let h = Harness::start().await;
    let server = webhook().await;
    let (v1, v2) = rows(&h, definition_of(&server, "/")).await;
    let spec = json!({ "host": "a", "port": "1" });
    let made = h.create(&v2, Some("default"), socket("v2", "s", spec)).await.tree().unwrap();
    assert_eq!((&made["host"], &made["port"], made.get("unknown")), (&json!("a"), &json!("1"), None));
    let stored = h.get(&v1, Some("default"), "s").await.unwrap();
    assert_eq!((&stored["hostPort"], &stored["apiVersion"]), (&json!("a:1"), &json!("example.com/v1")));
    assert_eq!(stored["metadata"]["labels"], json!({ "converted": "v1" }));
    assert_eq!(stored["metadata"].get("finalizers"), None, "only labels and annotations are taken");
    let list = h.api.list(&v2, Some("default"), &ListOptions::default()).await.unwrap();
    assert_eq!(list.items[0].tree().unwrap()["host"], "a");
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversion_that_fails_says_why() {
    let h = Harness::start().await;
    let server = webhook().await;
    let (_, v2) = rows(&h, definition_of(&server, "/refuses")).await;
    let refused = h.try_create(&v2, Some("default"), socket("v2", "s", json!({}))).await.unwrap_err();
    assert_eq!(refused, ["conversion webhook for example.com/v2, Kind=Socket failed: I do not know how"]);
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_name_fields_of_the_version_that_is_asked_for() {
    let h = Harness::start().await;
    let server = webhook().await;
    let (v1, v2) = rows(&h, definition_of(&server, "/")).await;
    let fields = |text: &str| FieldSelector::parse(text).unwrap();
    let watch = WatchOptions { fields: fields("host=a"), ..WatchOptions::default() };
    let mut events = h.watch(&v2, &watch).await;
    for (name, host_port) in [("one", "a:1"), ("two", "b:1"), ("three", "a:2")] {
        h.create(&v1, Some("default"), socket("v1", name, json!({ "hostPort": host_port }))).await;
    }
    let names = async |row, selector: &str| {
        h.names(row, &ListOptions { fields: fields(selector), ..ListOptions::default() }).await
    };
    assert_eq!(names(&v2, "host=a").await, ["one", "three"]);
    assert_eq!(names(&v2, "host=a,port!=1").await, ["three"]);
    assert_eq!(names(&v1, "hostPort=b:1").await, ["two"]);
    let unknown = ListOptions { fields: fields("host=a"), ..ListOptions::default() };
    let refused = h.api.list(&v1, Some("default"), &unknown).await.unwrap_err();
    assert_eq!(refused.message(), "field label not supported: host");
    let change = Patch::merge(json!({ "host": "c" }));
    let at = ObjectRef::new(Some("default"), "one");
    h.api.patch(&v2, at, change, &UpdateOptions::default()).await.unwrap();
    for expected in ["ADDED one", "ADDED three", "DELETED one"] {
        assert_eq!(events.next().await, expected);
    }
    h.stop().await;
}

#[test]
fn answers_are_held_to_what_was_asked() {
    let object = json!({ "apiVersion": "g/v1", "kind": "K", "metadata": { "name": "n", "uid": "u" } });
    let answer = |response: Value| json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response });
    assert_eq!(converted(json!({}), "v1", "1"), Err(Malformed::Nothing));
    let misdirected = converted(answer(json!({ "uid": "2" })), "v1", "1").unwrap_err();
    assert_eq!(misdirected.to_string(), r#"expected response.uid="1", got "2""#);
    let unsaid = converted(answer(json!({ "uid": "1", "result": {} })), "v1", "1").unwrap_err();
    assert_eq!(unsaid.to_string(), "response.result.status was '', not 'Success'");
    let why = |converted: Value| check(&object, &converted, "g/v2").unwrap_err().to_string();
    assert_eq!(why(object.clone()), "invalid groupVersion (expected g/v2, received g/v1)");
    assert_eq!(why(json!([])), "it is not a JSON object");
    let renamed = json!({ "apiVersion": "g/v2", "kind": "K", "metadata": { "name": "m", "uid": "u" } });
    assert_eq!(why(renamed), "must have the same name: n != m");
    let mut odd = json!({ "metadata": { "labels": { "a": 1 } } });
    assert!(restore_metadata(&object, &mut odd).is_err());
    assert!(restore_metadata(&object, &mut json!({})).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_were_stored_before_a_default_have_it_when_they_are_read() {
    let h = Harness::start().await;
    let row = h.widgets().await;
    h.create(&row, Some("default"), widget("w", json!({}))).await;
    let schema = json!([{ "op": "add",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/late",
        "value": { "type": "string", "default": "now" } }]);
    let at = ObjectRef::new(None, "widgets.example.com");
    h.api.patch(&DEFINITION, at, Patch::json(schema), &UpdateOptions::default()).await.unwrap();
    let reached = async {
        while h.get(&row, Some("default"), "w").await.unwrap()["spec"]["late"] != "now" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("the default in time");
    let mut events = h.api.watch(&row, Some("default"), &WatchOptions::default()).await.unwrap();
    let Some(WatchEvent::Added(object)) = events.next().await else { panic!("no object") };
    assert_eq!(object.tree().unwrap()["spec"], json!({ "replicas": 1, "late": "now" }));
    h.stop().await;
}
