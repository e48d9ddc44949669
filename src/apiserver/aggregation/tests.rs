//! Another server behind an APIService, from its probe to a request.

use api::kinds::{API_SERVICE, CONFIG_MAP, SERVICE};
use api::{FieldSelector, Identity, WatchEvent, WatchOptions};
use axum::body::Body;
use futures::StreamExt;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::outbound::tests::Scripted;
use crate::testing::{Harness, master};

fn service(name: &str, group: &str) -> Value {
    json!({
        "metadata": { "name": format!("v1.{group}") },
        "spec": {
            "group": group, "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
            "insecureSkipTLSVerify": true, "service": { "name": name, "namespace": "default", "port": 443 },
        },
    })
}

async fn condition(h: &Harness, name: &str, reason: &str) -> Value {
    let options =
        WatchOptions { fields: FieldSelector::equals("metadata.name", name), ..WatchOptions::default() };
    let mut events = client::ObjectApi::watch(&*h.api, &API_SERVICE, None, &options).await.unwrap();
    let reached = async {
        while let Some(event) = events.next().await {
            let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else { continue };
            let tree = object.tree().unwrap();
            let condition = items(&tree, "status.conditions").iter().find(|one| one["reason"] == reason);
            if let Some(condition) = condition {
                return condition.clone();
            }
        }
        panic!("the watch ended");
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), reached).await.expect("the condition in time")
}

async fn ask(h: &Harness, user: Identity, path: &str) -> (u16, Value) {
    let request = http::Request::get(path).body(Body::empty()).unwrap();
    let answer = h.server.answer(user, request).await;
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_unavailable() {
    let h = Harness::start().await;
    h.create(&API_SERVICE, None, service("absent", "far.example.com")).await;
    let told = condition(&h, "v1.far.example.com", "ServiceNotFound").await;
    assert_eq!(
        (&told["status"], &told["message"]),
        (&json!("False"), &json!(r#"service/absent in "default" is not present"#))
    );
    let (code, status) = ask(&h, master(), "/apis/far.example.com/v1/flunders").await;
    assert_eq!((code, &status["reason"]), (503, &json!("ServiceUnavailable")));
    let (_, groups) = ask(&h, master(), "/apis").await;
    assert!(groups["groups"].as_array().unwrap().iter().all(|group| group["name"] != "far.example.com"));
    let ports = json!({ "metadata": { "name": "absent" }, "spec": { "ports": [{ "port": 443 }] } });
    h.create(&SERVICE, Some("default"), ports).await;
    condition(&h, "v1.far.example.com", "MissingEndpoints").await;
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_need_leave_for_what_others_serve() {
    let h = Harness::start().await;
    h.create(&API_SERVICE, None, service("absent", "far.example.com")).await;
    let (code, status) =
        ask(&h, Identity::user("eve", []), "/apis/far.example.com/v1/namespaces/x/flunders").await;
    assert_eq!(code, 403);
    let message = status["message"].as_str().unwrap();
    assert!(
        message.contains(
            r#"cannot list resource "flunders" in API group "far.example.com" in the namespace "x""#
        )
    );
    let (code, _) =
        ask(&h, Identity::user("eve", []), "/apis/far.example.com/v1//namespaces/x/flunders").await;
    assert_eq!(code, 404, "an odd path is no way around");
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_servers_find_what_this_one_is_known_by() {
    let h = Harness::start().await;
    let options = WatchOptions {
        fields: FieldSelector::equals("metadata.name", "extension-apiserver-authentication"),
        ..WatchOptions::default()
    };
    let mut events = h.api.watch(&CONFIG_MAP, Some("kube-system"), &options).await.unwrap();
    let Some(WatchEvent::Added(object)) = events.next().await else { panic!("no object") };
    assert!(object.tree().unwrap()["data"]["client-ca-file"].is_string());
    h.stop().await;
}

#[test]
fn callers_are_named_in_headers() {
    let mut user = Identity::user("jane", ["dev"]);
    user.uid = "7".into();
    user.extra.insert("Example.com/Scope".into(), vec!["a".into(), "b".into()]);
    let request = set_caller(http::Request::builder(), &user).body(()).unwrap();
    let all = |name: &str| -> Vec<&str> {
        request.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    };
    assert_eq!((all("x-remote-user"), all("x-remote-uid")), (vec!["jane"], vec!["7"]));
    assert_eq!(all("x-remote-group"), ["dev", "system:authenticated"]);
    assert_eq!(all("x-remote-extra-example.com%2fscope"), ["a", "b"]);
}

async fn discovery(h: &Harness) -> bytes::Bytes {
    let form = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let request = http::Request::get("/apis").header("accept", form).body(Body::empty()).unwrap();
    let answer = h.server.answer(master(), request).await;
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_servers_say_of_themselves_is_made_into_an_answer_once() {
    let server = Scripted::start(|path, _| match path {
        "/apis/far.example.com/v1" => {
            Some((200, json!({ "resources": [{ "name": "flunders", "kind": "Flunder" }] })))
        }
        "/apis/large.example.com/v1" => {
            Some((200, json!({ "resources": vec![json!({ "name": "a" }); 10_001] })))
        }
        _ => Some((404, json!({}))),
    })
    .await;
    let h = Harness::start().await;
    aggregate(&h, &server, "far.example.com").await;
    let first = discovery(&h).await;
    assert!(String::from_utf8_lossy(&first).contains("Flunder"));
    let again = discovery(&h).await;
    assert_eq!((first.as_ptr(), first.len()), (again.as_ptr(), again.len()), "the same bytes");
    // One that would burden everybody is left out, and says so.
    aggregate(&h, &server, "large.example.com").await;
    let told = condition(&h, "v1.large.example.com", "Passed").await;
    let why = "all checks passed, but it is not part of discovery: its list of resources has more than 10000 entries";
    assert_eq!((&told["status"], &told["message"]), (&json!("True"), &json!(why)));
    let now = String::from_utf8_lossy(&discovery(&h).await).into_owned();
    assert!(now.contains("far.example.com") && !now.contains("large.example.com"));
    h.stop().await;
}

#[test]
fn parts_stand_with_what_they_are_parts_of() {
    let list = json!({ "resources": [
        { "name": "a/status", "kind": "A", "verbs": ["get"] },
        { "name": "a", "singularName": "one", "namespaced": true, "kind": "A", "verbs": ["list"], "shortNames": ["x"] },
        { "name": "a", "kind": "A" },
        { "name": "b", "kind": "B", "group": "other" }, { "name": "a/scale", "kind": "Scale" },
        { "name": "lost/status" },
    ] });
    let made: Value = serde_json::from_str(&described::version("g", "v1", &list).unwrap()).unwrap();
    assert_eq!((&made["version"], &made["freshness"]), (&json!("v1"), &json!("Current")));
    let resources = made["resources"].as_array().unwrap();
    let kind = |kind: &str| json!({ "group": "g", "version": "v1", "kind": kind });
    assert_eq!(
        resources[0],
        json!({
            "resource": "a", "responseKind": kind("A"), "scope": "Namespaced", "singularResource": "one",
            "verbs": ["list"], "shortNames": ["x"], "subresources": [
                { "subresource": "status", "responseKind": kind("A"), "verbs": ["get"] },
                { "subresource": "scale", "responseKind": kind("Scale"), "verbs": null },
            ],
        })
    );
    // Told twice they would be as many as both numbers together.
    assert_eq!((resources.len(), resources[1].get("subresources")), (3, None));
    assert_eq!(resources[2]["responseKind"]["group"], "other");
    let long = json!({ "resources": [{ "name": "x".repeat(5 << 20) }] });
    assert_eq!(described::version("g", "v1", &long), Err(described::TooLarge::Bytes));
}

/// An APIService of a server that is found by the name of this machine.
async fn aggregate(h: &Harness, server: &Scripted, group: &str) {
    let outside = json!({
        "metadata": { "name": "outside" }, "spec": { "type": "ExternalName", "externalName": "localhost" },
    });
    let _ = h.try_create(&SERVICE, Some("default"), outside).await;
    let mut service = service("outside", group);
    service["spec"]["service"]["port"] = json!(server.address.port());
    h.create(&API_SERVICE, None, service).await;
    condition(h, &format!("v1.{group}"), "Passed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_nobody_asked_for_is_no_answer() {
    let server = Scripted::start(|path, _| match path {
        "/apis/far.example.com/v1/switches" => Some((101, json!({}))),
        _ => Some((200, json!({ "resources": [] }))),
    })
    .await;
    let h = Harness::start().await;
    aggregate(&h, &server, "far.example.com").await;
    let (code, status) = ask(&h, master(), "/apis/far.example.com/v1/switches").await;
    assert_eq!(code, 502, "{status}");
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn components_read_what_others_serve_as_themselves() {
    let server = Scripted::start(|path, _| match path {
        "/apis/far.example.com/v1" => Some((200, json!({ "resources": [] }))),
        "/apis/far.example.com/v1/namespaces/ns/flunders/f" => Some((200, json!({ "size": 3 }))),
        _ => {
            let message = "no such flunder";
            Some((404, json!({ "kind": "Status", "code": 404, "reason": "NotFound", "message": message })))
        }
    })
    .await;
    let h = Harness::start().await;
    aggregate(&h, &server, "far.example.com").await;
    let reader = client::ApiFor::extensions(&*h.server, master());
    assert_eq!(reader.versions("far.example.com"), ["v1"]);
    assert!(reader.versions("near.example.com").is_empty());
    let found = reader.read("/apis/far.example.com/v1/namespaces/ns/flunders/f?pretty=true").await;
    assert_eq!(found.unwrap()["size"], 3);
    let error = reader.read("/apis/far.example.com/v1/namespaces/ns/flunders/g").await.unwrap_err();
    assert!(error.is_not_found() && error.message() == "no such flunder", "{error}");
    let error = reader.read("/apis/near.example.com/v1/flunders").await.unwrap_err();
    assert_eq!(error.message(), "the server could not find the requested resource");
    // What a name says leads nowhere else.
    let error = reader.read("/apis/far.example.com/v1/namespaces/ns/flunders/..").await.unwrap_err();
    assert_eq!(error.code(), 404);
    let eve = client::ApiFor::extensions(&*h.server, Identity::user("eve", []));
    let error = eve.read("/apis/far.example.com/v1/namespaces/ns/flunders/f").await.unwrap_err();
    assert_eq!(error.code(), 403);
    h.stop().await;
}
