//! Another server behind an APIService, from its probe to a request.

use api::kinds::{API_SERVICE, CONFIG_MAP, SERVICE};
use api::{FieldSelector, Identity, WatchEvent, WatchOptions};
use axum::body::Body;
use futures::StreamExt;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
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
