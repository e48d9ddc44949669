//! What is in the log after requests over HTTP and of components, and what happens when it cannot be written.

use api::kinds::{CONFIG_MAP, POD};
use api::{CreateOptions, Identity, ListOptions, WatchOptions};
use axum::body::Body;
use client::{ApiFor, ObjectRef};
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::http::{Peer, handle};
use crate::testing::{Harness, config, master, pod};

const LIMIT: Duration = Duration::from_secs(60);
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Audited {
    harness: Harness,
    audit: Arc<Audit>,
    folder: tempfile::TempDir,
}

impl Audited {
    async fn by(rules: &str) -> Audited {
        let folder = tempfile::tempdir().unwrap();
        let log = LogOptions { path: folder.path().join("audit.log"), ..LogOptions::default() };
        let (harness, audit) = harness(rules, log, SinkOptions::default()).await;
        Audited { harness, audit, folder }
    }

    fn log(&self) -> String {
        self.audit.flush(LIMIT);
        std::fs::read_to_string(self.folder.path().join("audit.log")).unwrap()
    }

    /// Events of the log that are about something.
    fn events(&self, about: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.log()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|event| about(event))
            .collect()
    }

    async fn send(&self, method: &str, uri: &str, body: Value) -> u16 {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send_body(method, uri, "application/json", body).await
    }

    async fn send_body(&self, method: &str, uri: &str, content_type: &str, body: Body) -> u16 {
        let request = Request::builder().method(method).uri(uri).header("user-agent", "tester");
        let request = request.header("audit-id", "mine").header("content-type", content_type);
        let answer = self.harness.server.answer(master(), request.body(body).unwrap()).await;
        let (parts, body) = answer.into_parts();
        assert!(parts.headers.get("audit-id").is_none_or(|id| id == "mine"));
        body.collect().await.unwrap();
        parts.status.as_u16()
    }
}

async fn harness(rules: &str, log: LogOptions, options: SinkOptions) -> (Harness, Arc<Audit>) {
    let policy = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}\n");
    let audit = Arc::new(Audit::new(policy.as_bytes()).unwrap().log_to(log, options).unwrap());
    let mut config = config();
    config.audit = Some(audit.clone());
    (Harness::with(config).await, audit)
}

fn by_tester(event: &Value) -> bool {
    event["userAgent"] == "tester"
}

#[tokio::test]
async fn requests_are_written_down_at_the_level_of_their_rule() {
    let audited = Audited::by(
        "omitStages: [RequestReceived]
rules:
- {level: RequestResponse, resources: [{group: '', resources: [configmaps]}], omitManagedFields: true}
- {level: Metadata, resources: [{group: '', resources: [secrets]}]}
- {level: None}",
    )
    .await;
    let body = json!({ "metadata": { "name": "c" }, "data": { "k": "v" } });
    assert_eq!(audited.send("POST", CONFIG_MAPS, body.clone()).await, 201);
    assert_eq!(audited.send("POST", CONFIG_MAPS, body).await, 409);
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "k": "very secret" } });
    assert_eq!(audited.send("POST", "/api/v1/namespaces/default/secrets", secret).await, 201);
    assert_eq!(audited.send("GET", "/api/v1/namespaces/default/pods", Value::Null).await, 200);
    let uri = format!("{CONFIG_MAPS}/c?fieldManager=t&force=true");
    let yaml = "application/apply-patch+yaml";
    let apply = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  k: w\n";
    assert_eq!(audited.send_body("PATCH", &uri, yaml, Body::from(apply)).await, 200);

    let told = audited.events(by_tester);
    assert_eq!(told.len(), 4, "{told:?}");
    let first = &told[0];
    assert_eq!(first["kind"], "Event");
    assert_eq!(first["apiVersion"], "audit.k8s.io/v1");
    assert_eq!((&first["level"], &first["stage"]), (&json!("RequestResponse"), &json!("ResponseComplete")));
    assert_eq!(
        (&first["auditID"], &first["verb"], &first["requestURI"]),
        (&json!("mine"), &json!("create"), &json!(CONFIG_MAPS))
    );
    assert_eq!(first["user"]["username"], "admin");
    assert_eq!(first["sourceIPs"], json!(["127.0.0.1"]));
    assert_eq!(first["responseStatus"], json!({ "metadata": {}, "code": 201 }));
    assert_eq!(first["requestObject"]["data"]["k"], "v");
    assert_eq!(first["responseObject"]["data"]["k"], "v");
    assert_eq!(first["responseObject"]["metadata"]["managedFields"], Value::Null);
    let at = json!({ "resource": "configmaps", "namespace": "default", "name": "c", "apiVersion": "v1" });
    assert_eq!(first["objectRef"], at);
    assert_eq!(first["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(told[1]["responseStatus"]["reason"], "AlreadyExists");
    assert_eq!(told[1]["responseStatus"]["code"], 409);
    assert_eq!(told[1]["responseObject"]["kind"], "Status");
    assert_eq!(told[2]["objectRef"]["name"], "s");
    assert_eq!((&told[2]["requestObject"], &told[2]["responseObject"]), (&Value::Null, &Value::Null));
    assert_eq!((&told[3]["verb"], &told[3]["requestObject"]["data"]["k"]), (&json!("patch"), &json!("w")));
    assert!(!audited.log().contains("very secret"), "its level is Metadata");

    let mut metrics = String::new();
    audited.audit.render_metrics(&mut metrics);
    assert!(metrics.contains("apiserver_audit_error_total{plugin=\"log\"} 0"), "{metrics}");
    assert!(metrics.contains("apiserver_audit_level_total{level=\"Metadata\"} 1"), "{metrics}");
    audited.harness.stop().await;
}

#[tokio::test]
async fn endless_requests_tell_of_their_beginning_and_their_end() {
    let audited = Audited::by("rules: [{level: RequestResponse}]").await;
    let uri = format!("{CONFIG_MAPS}?watch=1");
    let request = Request::get(&uri).header("user-agent", "tester").body(Body::empty()).unwrap();
    let answer = audited.harness.server.answer(master(), request).await;
    let stages = |events: &[Value]| -> Vec<String> {
        events.iter().map(|event| event["stage"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(stages(&audited.events(by_tester)), ["RequestReceived", "ResponseStarted"]);
    drop(answer);
    let told = audited.events(by_tester);
    assert_eq!(stages(&told), ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
    assert_eq!(told[0]["responseStatus"], Value::Null);
    assert_eq!((&told[1]["verb"], &told[1]["responseStatus"]["code"]), (&json!("watch"), &json!(200)));
    assert_eq!(told[2]["responseObject"], Value::Null, "events are not told");

    // The same in the process.
    let user = audited.harness.server.as_user(Identity::user("follower", ["system:masters"]));
    let by_follower = |event: &Value| event["user"]["username"] == "follower";
    let watch = user.watch(&CONFIG_MAP, None, &WatchOptions::default()).await.unwrap();
    assert_eq!(stages(&audited.events(by_follower)), ["RequestReceived", "ResponseStarted"]);
    drop(watch);
    let told = audited.events(by_follower);
    assert_eq!(stages(&told), ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
    assert_eq!(told[2]["requestURI"], "/api/v1/configmaps?watch=true");
    audited.harness.stop().await;
}

#[tokio::test]
async fn refusals_and_components_leave_the_same_trail() {
    let audited = Audited::by("rules: [{level: Metadata}]").await;
    let nobody = audited.harness.server.as_user(Identity::user("nobody", []));
    let refused = nobody.get(&CONFIG_MAP, ObjectRef::new(Some("default"), "c")).await.unwrap_err();
    assert_eq!(refused.code(), 403);
    let told = audited.events(|event| event["user"]["username"] == "nobody");
    let stages: Vec<&Value> = told.iter().map(|event| &event["stage"]).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
    assert_eq!(told[1]["responseStatus"]["code"], 403);
    assert_eq!(told[1]["responseStatus"]["reason"], "Forbidden");
    assert_eq!(told[1]["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(told[1]["requestURI"], format!("{CONFIG_MAPS}/c"));
    nobody.list(&CONFIG_MAP, None, &ListOptions::default()).await.unwrap_err();
    let lists = audited.events(|event| event["user"]["username"] == "nobody" && event["verb"] == "list");
    assert_eq!(lists.len(), 2);

    // What admission tells.
    let labels = json!({ "pod-security.kubernetes.io/audit": "restricted" });
    let row = api::kinds::by_kind("v1", "Namespace").unwrap();
    let harness = &audited.harness;
    harness.create(row, None, json!({ "metadata": { "name": "watched", "labels": labels } })).await;
    let account = api::kinds::by_kind("v1", "ServiceAccount").unwrap();
    harness.create(account, Some("watched"), json!({ "metadata": { "name": "default" } })).await;
    harness.api.create(&POD, Some("watched"), pod("p"), &CreateOptions::default()).await.unwrap();
    let told = audited.events(|event| {
        let is_pods = event["objectRef"]["resource"] == "pods" && event["verb"] == "create";
        is_pods && event["stage"] == "ResponseComplete"
    });
    let violations = told[0]["annotations"]["pod-security.kubernetes.io/audit-violations"].as_str().unwrap();
    assert!(violations.starts_with("would violate PodSecurity \"restricted:latest\": "), "{violations}");
    audited.harness.stop().await;
}

#[tokio::test]
async fn unknown_callers_impersonation_and_probes_are_told_of() {
    let audited = Audited::by("rules: [{level: Metadata}]").await;
    let answer = |request: http::request::Builder, caller: Option<Identity>| {
        let request = request.header("user-agent", "tester").body(Body::empty()).unwrap();
        let peer = Arc::new(Peer::in_process(caller, Default::default()));
        handle(audited.harness.server.clone(), peer, request)
    };
    let unknown = Request::get(CONFIG_MAPS).header("authorization", "Bearer no-such-token");
    assert_eq!(answer(unknown, None).await.status(), 401);
    let told = audited.events(by_tester);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["stage"], "ResponseStarted");
    let status =
        json!({ "metadata": {}, "message": "Authentication failed, attempted: bearer", "code": 401 });
    assert_eq!(told[0]["responseStatus"], status);
    assert!(!audited.log().contains("no-such-token"));

    let impersonating = Request::get("/version").header("impersonate-user", "jane");
    answer(impersonating, Some(master())).await;
    let told = audited.events(|event| by_tester(event) && event["requestURI"] == "/version");
    assert_eq!(told[1]["user"]["username"], "admin");
    assert_eq!(told[1]["impersonatedUser"]["username"], "jane");
    assert_eq!((&told[1]["verb"], &told[1]["objectRef"]), (&json!("get"), &Value::Null));

    let probe = Request::get("/readyz?verbose").header("x-forwarded-for", "192.0.2.7, 198.51.100.2");
    answer(probe, None).await;
    let told = audited.events(|event| event["requestURI"] == "/readyz?verbose");
    assert_eq!(told.len(), 2);
    assert_eq!(told[1]["sourceIPs"], json!(["192.0.2.7", "198.51.100.2", "127.0.0.1"]));
    audited.harness.stop().await;
}

#[tokio::test]
async fn a_log_that_must_be_written_stops_requests_when_it_cannot_be() {
    for (mode, refused) in [(Mode::BlockingStrict, true), (Mode::Blocking, false)] {
        let options = SinkOptions { mode, ..SinkOptions::default() };
        let log = LogOptions { path: "/dev/full".into(), ..LogOptions::default() };
        let rules = "rules: [{level: Metadata, userGroups: [people]}]";
        let (harness, audit) = harness(rules, log, options).await;
        let person = harness.server.as_user(Identity::user("person", ["people", "system:masters"]));
        let error = person.get(&CONFIG_MAP, ObjectRef::new(Some("default"), "c")).await.unwrap_err();
        assert_eq!(error.code(), if refused { 500 } else { 404 });
        let mut metrics = String::new();
        audit.render_metrics(&mut metrics);
        let rejected = format!("apiserver_audit_requests_rejected_total {}", u8::from(refused));
        assert!(metrics.contains(&rejected), "{metrics}");
        harness.stop().await;
    }
}
