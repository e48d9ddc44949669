//! Rules, selectors and answers on their own; then webhooks through the whole write path.

use std::sync::Arc;
use std::time::Duration;

use api::kinds::{
    CONFIG_MAP, LEASE, MUTATING_WEBHOOK_CONFIGURATION, NAMESPACE, VALIDATING_WEBHOOK_CONFIGURATION,
};
use api::{CreateOptions, DeleteOptions, DryRun, Identity, Patch, UpdateOptions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::ObjectRef;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::review::read;
use super::rules::Rule;
use super::*;
use crate::outbound::tests::Scripted;
use crate::testing::Harness;

fn request<'a>(
    user: &'a Identity,
    resource: &str,
    subresource: &'a str,
    namespace: &'a str,
) -> Attributes<'a> {
    let (group, version) = ("apps".to_string(), "v1".to_string());
    Attributes {
        user,
        operation: Operation::Create,
        kind: Gvk { group: group.clone(), version: version.clone(), kind: "Deployment".into() },
        resource: Gvr { group, version, resource: resource.into() },
        subresource,
        namespace,
        name: "x",
        dry_run: false,
        options: Value::Null,
    }
}

#[test]
fn rules_name_operations_resources_and_scopes() {
    let user = Identity::default();
    let rule = |resources: &[&str], scope: &str| {
        Rule::new(&json!({
            "operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["*"],
            "resources": resources, "scope": scope,
        }))
    };
    let matches = |resources: &[&str], scope: &str, of: (&str, &str, &str)| {
        let request = request(&user, of.0, of.1, of.2);
        rule(resources, scope).matches(&request, &request.resource.clone())
    };
    assert!(matches(&["deployments"], "*", ("deployments", "", "ns")));
    assert!(!matches(&["deployments"], "*", ("deployments", "scale", "ns")));
    assert!(matches(&["deployments/*"], "*", ("deployments", "scale", "ns")));
    assert!(matches(&["*/scale"], "Namespaced", ("deployments", "scale", "ns")));
    assert!(!matches(&["*"], "Cluster", ("deployments", "", "ns")));
    assert!(matches(&["*"], "Cluster", ("deployments", "", "")));
    assert!(matches(&["*/*"], "*", ("deployments", "status", "ns")));
    let updates = Rule::new(&json!({
        "operations": ["UPDATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"],
    }));
    let created = request(&user, "deployments", "", "ns");
    assert!(!updates.matches(&created, &created.resource));
}

#[test]
fn answers_are_held_to_the_form_of_the_review() {
    let review = |response: Value| json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response });
    let why = |review: Value, mutating: bool| match read(review, ("1", "v1"), mutating, "h") {
        Ok(answer) => format!("{answer:?}"),
        Err(Failure::Calling(error)) => error.to_string(),
        Err(Failure::Refused(error, _)) => format!("{} {}", error.code(), error.message()),
    };
    let absent = "received invalid webhook response: webhook response was absent";
    assert_eq!(why(json!({}), true), absent);
    let uid = why(review(json!({ "uid": "2", "allowed": true })), true);
    assert_eq!(uid, r#"received invalid webhook response: expected response.uid="1", got "2""#);
    let patch = STANDARD.encode(r#"[{"op":"remove","path":"/x"}]"#);
    let patched = json!({ "uid": "1", "allowed": true, "patch": patch });
    assert!(why(review(patched.clone()), true).ends_with("response.patch but not response.patchType"));
    assert!(why(review(patched), false).ends_with("validating webhook may not return response.patch"));
    let denied = why(review(json!({ "uid": "1", "allowed": false })), false);
    assert_eq!(denied, r#"400 admission webhook "h" denied the request without explanation"#);
    let status = json!({ "uid": "1", "allowed": false, "status": { "code": 402, "message": "pay" } });
    assert_eq!(why(review(status), false), r#"402 admission webhook "h" denied the request: pay"#);
    let odd = json!({ "uid": "1", "allowed": false, "status": { "code": 200, "reason": "Odd" } });
    assert_eq!(why(review(odd), true), r#"400 admission webhook "h" denied the request: Odd"#);
}

/// An answer to a review.
fn reply(review: &Value, mut response: Value) -> Option<(u16, Value)> {
    response["uid"] = review["request"]["uid"].clone();
    let review =
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response });
    Some((200, review))
}

fn patched(review: &Value, patch: Value) -> Option<(u16, Value)> {
    let patch = STANDARD.encode(patch.to_string());
    reply(review, json!({ "allowed": true, "patch": patch, "patchType": "JSONPatch" }))
}

/// A webhook of a configuration: asked about ConfigMaps unless it says something else.
fn hook(server: &Scripted, name: &str, path: &str, more: Value) -> Value {
    let mut hook = json!({
        "name": format!("{name}.example.com"), "clientConfig": server.config(path),
        "rules": [{ "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"] }],
        "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "default" } },
    });
    for (member, value) in more.as_object().into_iter().flatten() {
        hook[member] = value.clone();
    }
    hook
}

async fn configure(h: &Harness, row: &api::KindRow, name: &str, hooks: Vec<Value>) {
    h.create(row, None, json!({ "metadata": { "name": name }, "webhooks": hooks })).await;
}

fn map(name: &str, data: Value) -> Value {
    json!({ "metadata": { "name": name }, "data": data })
}

#[tokio::test(flavor = "multi_thread")]
async fn mutating_webhooks_see_each_others_work_and_look_again_if_they_want() {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = asked.clone();
    let server = Scripted::start(move |path, review| {
        let object = &review["request"]["object"];
        note.lock().push(format!("{path} {}", object["data"]));
        match path {
            "/first" if object["data"]["first"].is_null() => {
                patched(&review, json!([{ "op": "add", "path": "/data/first", "value": "1" }]))
            }
            "/second" if object["data"]["second"].is_null() => {
                patched(&review, json!([{ "op": "add", "path": "/data/second", "value": "2" }]))
            }
            _ => reply(&review, json!({ "allowed": true, "warnings": ["seen"] })),
        }
    })
    .await;
    let h = Harness::start().await;
    let again = json!({ "reinvocationPolicy": "IfNeeded" });
    let hooks = vec![hook(&server, "a", "/first", again), hook(&server, "b", "/second", json!({}))];
    configure(&h, &MUTATING_WEBHOOK_CONFIGURATION, "hooks", hooks).await;
    let made = h.create(&CONFIG_MAP, Some("default"), map("m", json!({ "own": "0" }))).await.tree().unwrap();
    assert_eq!(made["data"], json!({ "own": "0", "first": "1", "second": "2" }));
    let expected = [
        r#"/first {"own":"0"}"#,
        r#"/second {"first":"1","own":"0"}"#,
        r#"/first {"first":"1","own":"0","second":"2"}"#,
    ];
    assert_eq!(*asked.lock(), expected);
    // Another namespace is not selected.
    h.create(&NAMESPACE, None, json!({ "metadata": { "name": "other" } })).await;
    let made = h.create(&CONFIG_MAP, Some("other"), map("m", json!({ "own": "0" }))).await.tree().unwrap();
    assert_eq!(made["data"], json!({ "own": "0" }));
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn validating_webhooks_refuse_every_operation_with_their_words() {
    let server = Scripted::start(|_, review| {
        let request = &review["request"];
        let shown = [&request["object"], &request["oldObject"]].map(|one| one["data"]["mood"].clone());
        let refused = shown[0] == "bad" || request["operation"] == "DELETE" && shown[1] == "dear";
        let message = format!("{} {}", request["operation"], request["options"]["kind"]);
        reply(&review, json!({ "allowed": !refused, "status": { "message": message, "code": 403 } }))
    })
    .await;
    let h = Harness::start().await;
    configure(&h, &VALIDATING_WEBHOOK_CONFIGURATION, "v", vec![hook(&server, "v", "/v", json!({}))]).await;
    let create = async |data| {
        h.api.create(&CONFIG_MAP, Some("default"), map("m", data), &CreateOptions::default()).await
    };
    let refused = create(json!({ "mood": "bad" })).await.unwrap_err();
    let words = |what: &str| format!(r#"admission webhook "v.example.com" denied the request: {what}"#);
    assert_eq!((refused.code(), refused.message()), (403, &*words(r#""CREATE" "CreateOptions""#)));
    create(json!({ "mood": "dear" })).await.unwrap();
    let at = ObjectRef::new(Some("default"), "m");
    let patch = Patch::merge(json!({ "data": { "mood": "bad" } }));
    let refused = h.api.patch(&CONFIG_MAP, at, patch, &UpdateOptions::default()).await.unwrap_err();
    assert_eq!(refused.message(), words(r#""UPDATE" "PatchOptions""#));
    let refused = h.api.delete(&CONFIG_MAP, at, &DeleteOptions::default()).await.unwrap_err();
    assert_eq!(refused.message(), words(r#""DELETE" "DeleteOptions""#));
    // Configurations are exempt: nothing refuses their end.
    h.delete(&VALIDATING_WEBHOOK_CONFIGURATION, None, "v").await.unwrap();
    h.delete(&CONFIG_MAP, Some("default"), "m").await.unwrap();
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_dead_or_slow_costs_what_its_policy_says() {
    let server = Scripted::start(|path, review| match path {
        "/silent" => None,
        _ => reply(&review, json!({ "allowed": true })),
    })
    .await;
    let h = Harness::start().await;
    let silent = |policy: &str| json!({ "failurePolicy": policy, "timeoutSeconds": 1 });
    let (row, opens) = (&VALIDATING_WEBHOOK_CONFIGURATION, hook(&server, "s", "/silent", silent("Ignore")));
    configure(&h, row, "s", vec![opens]).await;
    h.create(&CONFIG_MAP, Some("default"), map("open", json!({}))).await;
    h.delete(row, None, "s").await.unwrap();
    configure(&h, row, "s", vec![hook(&server, "s", "/silent", silent("Fail"))]).await;
    let asked = std::time::Instant::now();
    let refused = h.try_create(&CONFIG_MAP, Some("default"), map("closed", json!({}))).await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(10), "a second, and no more than the machine takes");
    assert!(
        refused[0]
            .contains(r#"failed calling webhook "s.example.com": failed to call webhook: Post "https://"#)
    );
    assert!(refused[0].contains("/silent?timeout=1s\": context deadline exceeded"), "{refused:?}");
    // What no rule names is untouched by it.
    let lease = json!({ "metadata": { "name": "l" }, "spec": {} });
    h.create(&LEASE, Some("default"), lease).await;
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dry_runs_are_put_only_to_webhooks_without_side_effects() {
    let server = Scripted::start(|_, review| {
        assert_eq!(review["request"]["dryRun"], true);
        reply(&review, json!({ "allowed": true }))
    })
    .await;
    let h = Harness::start().await;
    let row = &MUTATING_WEBHOOK_CONFIGURATION;
    configure(&h, row, "d", vec![hook(&server, "d", "/", json!({ "sideEffects": "NoneOnDryRun" }))]).await;
    let options = CreateOptions { dry_run: DryRun::All, ..CreateOptions::default() };
    h.api.create(&CONFIG_MAP, Some("default"), map("m", json!({})), &options).await.unwrap();
    h.stop().await;
}
