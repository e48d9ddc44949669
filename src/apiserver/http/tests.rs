//! Requests as bytes in, answers as bytes out; and one real connection over TLS.

mod admission;
mod clients;
mod deletion;
mod metrics;
mod reviews;

use std::sync::Arc;

use api::Identity;
use api::kinds::{CONFIG_MAP, DEPLOYMENT};
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::negotiate::{Accepted, Encoding, Form, Offer, choose, choose_of};
use super::{Peer, handle};
use crate::testing::{Harness, deployment, master};

mod apply;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Answer {
    code: u16,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or("").to_string()
    }
}

fn peer(certificate: Option<Identity>) -> Arc<Peer> {
    Arc::new(Peer::in_process(certificate, supervisor::CancellationToken::new()))
}

async fn raw(h: &Harness, request: Request<Body>) -> Response<Body> {
    handle(h.server.clone(), peer(Some(master())), request).await.map(Body::new)
}

async fn send(
    h: &Harness,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = raw(h, request.body(body.into()).unwrap()).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { code: parts.status.as_u16(), headers: parts.headers, body }
}

async fn get(h: &Harness, path: &str) -> Answer {
    send(h, "GET", path, &[], Body::empty()).await
}

async fn post(h: &Harness, path: &str, body: Value) -> Answer {
    send(h, "POST", path, &[("content-type", "application/json")], body.to_string()).await
}

#[test]
fn the_first_form_that_can_be_given_is_chosen() {
    let accepted = |encoding, form| {
        let version = if form == Form::Whole { "" } else { "meta.k8s.io/v1" };
        Some(Accepted { encoding, form, version })
    };
    let old = Some(Accepted { encoding: Encoding::Json, form: Form::Table, version: "meta.k8s.io/v1beta1" });
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    for (header, expected) in [
        ("", accepted(Encoding::Json, Form::Whole)),
        ("*/*", accepted(Encoding::Json, Form::Whole)),
        (table, accepted(Encoding::Json, Form::Table)),
        (
            "application/json;as=Table;v=v9;g=meta.k8s.io, application/yaml",
            accepted(Encoding::Yaml, Form::Whole),
        ),
        ("application/vnd.kubernetes.protobuf,application/json", accepted(Encoding::Json, Form::Whole)),
        ("application/vnd.kubernetes.protobuf", accepted(Encoding::Protobuf, Form::Whole)),
        (
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,\
             application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
            accepted(Encoding::Json, Form::Metadata),
        ),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json", old),
        ("application/json;q=0.5, application/yaml", accepted(Encoding::Yaml, Form::Whole)),
        ("*/*, application/yaml;q=0.1", accepted(Encoding::Yaml, Form::Whole)),
        ("application/json;stream=other, application/yaml", accepted(Encoding::Yaml, Form::Whole)),
        ("application/json;q=0, text/html", None),
        ("text/html", None),
    ] {
        assert_eq!(choose(header), expected, "{header}");
    }
    let without = |header| choose_of(header, Offer { tables: false, protobuf: false });
    assert_eq!(without(table), accepted(Encoding::Json, Form::Whole));
    assert_eq!(without("application/vnd.kubernetes.protobuf"), None);
    let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    assert_eq!(without(metadata), accepted(Encoding::Protobuf, Form::Metadata));
}

#[tokio::test]
async fn an_object_goes_through_all_verbs() {
    let h = Harness::start().await;
    let created = post(&h, CONFIG_MAPS, json!({ "metadata": { "name": "a" }, "data": { "k": "v" } })).await;
    assert_eq!(created.code, 201);
    let path = format!("{CONFIG_MAPS}/a");
    let got = get(&h, &path).await;
    assert_eq!(got.body, created.body);
    let mut tree = got.json();
    tree["data"]["k"] = json!("w");
    let put = send(&h, "PUT", &path, &[("content-type", "application/json")], tree.to_string()).await;
    assert_eq!((put.code, put.json()["data"]["k"].as_str()), (200, Some("w")));
    let merge = [("content-type", "application/merge-patch+json")];
    let patched = send(&h, "PATCH", &path, &merge, r#"{"data":{"k":null}}"#).await;
    assert_eq!((patched.code, patched.json().get("data")), (200, None));
    let unknown = send(&h, "PATCH", &path, &[("content-type", "application/json")], "{}").await;
    assert_eq!(unknown.code, 415);
    let deleted = send(&h, "DELETE", &path, &[], Body::empty()).await;
    assert_eq!(deleted.json()["status"], "Success");
    assert_eq!(deleted.json()["details"]["kind"], "configmaps");
    assert_eq!(get(&h, &path).await.message(), "configmaps \"a\" not found");
    h.stop().await;
}

#[tokio::test]
async fn an_update_that_creates_says_so() {
    let h = Harness::start().await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/a";
    let body = json!({ "metadata": { "name": "a" }, "spec": { "holderIdentity": "x" } });
    let json = [("content-type", "application/json")];
    let created = send(&h, "PUT", path, &json, body.to_string()).await;
    let updated = send(&h, "PUT", path, &json, created.json().to_string()).await;
    assert_eq!([created.code, updated.code], [201, 200]);
    h.stop().await;
}

#[tokio::test]
async fn bodies_may_be_yaml_and_have_a_limit() {
    let h = Harness::start().await;
    let yaml = "metadata:\n  name: a\ndata:\n  mode: \"0644\"\n";
    let created = send(&h, "POST", CONFIG_MAPS, &[("content-type", "application/yaml")], yaml).await;
    assert_eq!(created.json()["data"]["mode"], "0644", "{:?}", created.body);
    let large = format!(r#"{{"metadata":{{"name":"b"}},"data":{{"k":"{}"}}}}"#, "x".repeat(3 << 20));
    let refused = send(&h, "POST", CONFIG_MAPS, &[], large).await;
    assert_eq!((refused.code, refused.json()["reason"].as_str()), (413, Some("RequestEntityTooLarge")));
    let text = send(&h, "POST", CONFIG_MAPS, &[("content-type", "text/plain")], "x").await;
    assert_eq!(text.code, 415);
    let half = send(&h, "POST", CONFIG_MAPS, &[], "{").await;
    assert_eq!((half.code, half.json()["reason"].as_str()), (400, Some("BadRequest")));
    let other =
        post(&h, CONFIG_MAPS, json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "a" } }))
            .await;
    assert_eq!(other.code, 400);
    let elsewhere = post(&h, CONFIG_MAPS, json!({ "metadata": { "name": "a", "namespace": "other" } })).await;
    assert_eq!(
        elsewhere.message(),
        "the namespace of the provided object does not match the namespace sent on the request"
    );
    h.stop().await;
}

#[tokio::test]
async fn unknown_fields_warn_or_fail() {
    let h = Harness::start().await;
    let body = json!({ "metadata": { "name": "a" }, "dada": {} });
    let warned = post(&h, &format!("{CONFIG_MAPS}?dryRun=All"), body.clone()).await;
    assert_eq!(warned.code, 201);
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"dada\\\"\"");
    let ignored = post(&h, &format!("{CONFIG_MAPS}?dryRun=All&fieldValidation=Ignore"), body.clone()).await;
    assert!(!ignored.headers.contains_key("warning"));
    let strict = post(&h, &format!("{CONFIG_MAPS}?fieldValidation=Strict"), body).await;
    assert_eq!(strict.code, 400);
    assert!(strict.message().contains("unknown field \"dada\""), "{}", strict.message());
    h.stop().await;
}

#[tokio::test]
async fn paths_that_do_not_exist_are_a_status() {
    let h = Harness::start().await;
    for path in [
        "/nope",
        "/api/v1/nope",
        "/api/v2",
        "/apis/nope",
        "/apis/apps/v1/namespaces/default/configmaps",
        "/api/v1/configmaps/a",
        "/api/v1/namespaces/default/nodes",
        "/api/v1/namespaces/default/configmaps/a/scale",
    ] {
        let answer = get(&h, path).await;
        assert_eq!(answer.code, 404, "{path}");
        assert_eq!(answer.message(), "the server could not find the requested resource", "{path}");
    }
    let method = send(&h, "PUT", CONFIG_MAPS, &[], "{}").await;
    assert_eq!((method.code, method.json()["reason"].as_str()), (405, Some("MethodNotAllowed")));
    let accept = send(&h, "GET", CONFIG_MAPS, &[("accept", "text/html")], Body::empty()).await;
    assert_eq!(accept.code, 406);
    h.stop().await;
}

#[tokio::test]
async fn lists_come_whole_as_tables_and_as_metadata() {
    let h = Harness::start().await;
    // Enough for several pieces.
    for n in 0..40 {
        let body = json!({ "metadata": { "name": format!("a{n:02}") }, "data": { "k": "x".repeat(10_000) } });
        h.create(&CONFIG_MAP, Some("default"), body).await;
    }
    let list = get(&h, CONFIG_MAPS).await.json();
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["items"].as_array().unwrap().len(), 40);
    assert_eq!(list["items"][39]["metadata"]["name"], "a39");
    assert_eq!(list["metadata"]["resourceVersion"], list["items"][39]["metadata"]["resourceVersion"]);
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let table = send(&h, "GET", &format!("{CONFIG_MAPS}?limit=2"), &table, Body::empty()).await.json();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][1]["cells"][0], "a01");
    assert_eq!(table["rows"][1]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["metadata"]["remainingItemCount"], 38);
    let partial = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let partial = send(&h, "GET", CONFIG_MAPS, &partial, Body::empty()).await.json();
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert!(partial["items"][0].get("data").is_none());
    let empty = get(&h, "/api/v1/namespaces/none/configmaps").await;
    assert_eq!(empty.json()["items"], json!([]));
    let pretty = get(&h, &format!("{CONFIG_MAPS}/a00?pretty=true")).await;
    assert!(pretty.body.starts_with(b"{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"ConfigMap\",\n"));
    h.stop().await;
}

#[test]
fn indentation_keeps_what_strings_hold() {
    let text = br#"{"a":"x,{}[]:\"\\","b":[],"c":{},"d":[1,{"e":null}]}"#;
    let pretty = super::pretty::indented(text);
    let expected = "{\n  \"a\": \"x,{}[]:\\\"\\\\\",\n  \"b\": [],\n  \"c\": {},\n  \"d\": [\n    1,\n    {\n      \"e\": null\n    }\n  ]\n}";
    assert_eq!(String::from_utf8(pretty).unwrap(), expected);
}

#[tokio::test]
async fn a_watch_is_a_stream_of_frames() {
    let h = Harness::start().await;
    h.config_map("a").await;
    let path = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=2");
    let request = Request::builder().uri(&path).body(Body::empty()).unwrap();
    let response = raw(&h, request).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let mut body = response.into_body();
    let frame = async |body: &mut Body| -> Option<Value> {
        let data = body.frame().await?.unwrap().into_data().unwrap();
        assert!(data.ends_with(b"\n"));
        Some(serde_json::from_slice(&data).unwrap())
    };
    let added = frame(&mut body).await.unwrap();
    assert_eq!(
        (added["type"].as_str(), added["object"]["metadata"]["name"].as_str()),
        (Some("ADDED"), Some("a"))
    );
    h.delete(&CONFIG_MAP, Some("default"), "a").await.unwrap();
    let deleted = frame(&mut body).await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    assert_ne!(
        deleted["object"]["metadata"]["resourceVersion"], added["object"]["metadata"]["resourceVersion"],
        "a deletion has a version of its own"
    );
    assert!(frame(&mut body).await.is_none(), "the timeout ends the stream");
    h.stop().await;
}

#[tokio::test]
async fn a_watch_from_a_lost_version_says_so_in_the_stream() {
    let h = Harness::start().await;
    let stage = h.supervisor.stage("second");
    let server = crate::ApiServer::start(crate::testing::config(), h.store.clone(), &stage).await.unwrap();
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion=1");
    let request = Request::builder().uri(&path).body(Body::empty()).unwrap();
    let response = handle(server, peer(Some(master())), request).await;
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let frame: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((frame["type"].as_str(), frame["object"]["code"].as_u64()), (Some("ERROR"), Some(410)));
    assert_eq!(frame["object"]["reason"], "Expired");
    h.stop().await;
}

#[tokio::test]
async fn a_watch_can_be_a_table() {
    let h = Harness::start().await;
    h.config_map("a").await;
    h.config_map("b").await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let answer =
        send(&h, "GET", &format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1"), &table, Body::empty()).await;
    let frames: Vec<Value> = answer
        .body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0]["object"]["kind"], "Table");
    assert!(frames[0]["object"]["columnDefinitions"].is_array());
    assert!(frames[1]["object"]["columnDefinitions"].is_null());
    assert_eq!(frames[1]["object"]["rows"][0]["cells"][0], "b");
    h.stop().await;
}

#[tokio::test]
async fn who_comes_without_credentials_sees_little() {
    let h = Harness::start().await;
    let request = |path: &str, token: Option<&str>| {
        let mut request = Request::builder().uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        handle(h.server.clone(), peer(None), request.body(Body::empty()).unwrap())
    };
    for path in ["/healthz", "/readyz?verbose", "/livez/ping", "/version", "/cacerts"] {
        assert_eq!(request(path, None).await.status(), 200, "{path}");
    }
    assert_eq!(request("/api/v1/pods", None).await.status(), 403);
    assert_eq!(request("/metrics", None).await.status(), 403);
    let wrong = request("/api/v1/pods", Some("wrong")).await;
    assert_eq!(wrong.status(), 401);
    let body = wrong.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["message"], "Unauthorized");
    h.stop().await;
}

#[tokio::test]
async fn a_master_may_be_somebody_else_and_eve_may_not() {
    let h = Harness::start().await;
    let as_eve = [("impersonate-user", "eve"), ("impersonate-group", "people")];
    let refused = send(&h, "GET", CONFIG_MAPS, &as_eve, Body::empty()).await;
    assert_eq!(refused.code, 403);
    assert!(refused.message().contains("User \"eve\" cannot list"), "{}", refused.message());
    let as_master = [("impersonate-user", "x"), ("impersonate-group", "system:masters")];
    assert_eq!(send(&h, "GET", CONFIG_MAPS, &as_master, Body::empty()).await.code, 200);
    assert_eq!(send(&h, "GET", CONFIG_MAPS, &[("impersonate-group", "x")], Body::empty()).await.code, 400);
    let request = Request::builder().uri(CONFIG_MAPS).header("impersonate-user", "admin");
    let eve = peer(Some(Identity::user("eve", [])));
    let answer = handle(h.server.clone(), eve, request.body(Body::empty()).unwrap()).await;
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let message = serde_json::from_slice::<Value>(&body).unwrap()["message"].to_string();
    assert!(message.contains("cannot impersonate resource"), "{message}");
    h.stop().await;
}

#[tokio::test]
async fn discovery_in_both_forms_names_every_row() {
    let h = Harness::start().await;
    let core = get(&h, "/api/v1").await.json();
    let names: Vec<&str> =
        core["resources"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    for name in ["pods", "pods/log", "pods/binding", "namespaces/finalize", "nodes/status"] {
        assert!(names.contains(&name), "{name}");
    }
    assert_eq!(get(&h, "/apis").await.json()["kind"], "APIGroupList");
    assert_eq!(get(&h, "/apis/apps").await.json()["preferredVersion"]["groupVersion"], "apps/v1");
    let accept =
        [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")];
    let mut rows = 0;
    for path in ["/api", "/apis"] {
        let answer = send(&h, "GET", path, &accept, Body::empty()).await;
        assert_eq!(
            answer.headers["content-type"],
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        );
        let groups = answer.json()["items"].clone();
        for group in groups.as_array().unwrap() {
            for version in group["versions"].as_array().unwrap() {
                rows += version["resources"].as_array().unwrap().len();
            }
        }
        let etag = answer.headers["etag"].to_str().unwrap().to_string();
        let again = send(&h, "GET", path, &[accept[0], ("if-none-match", &etag)], Body::empty()).await;
        assert_eq!(again.code, 304);
    }
    // Two of measurements are no objects that are kept.
    assert_eq!(rows, api::kinds::ALL.len() + 2);
    h.stop().await;
}

#[tokio::test]
async fn openapi_has_a_document_for_every_version() {
    let h = Harness::start().await;
    let index = get(&h, "/openapi/v3").await.json();
    for row in api::kinds::ALL {
        let path = if row.group.is_empty() {
            "api/v1".to_string()
        } else {
            format!("apis/{}/{}", row.group, row.version)
        };
        let entry = &index["paths"][&path]["serverRelativeURL"];
        let url = entry.as_str().unwrap_or_else(|| panic!("{path} is not in the index"));
        let document = get(&h, url).await;
        assert_eq!(document.code, 200, "{url}");
        assert!(document.json()["components"]["schemas"].is_object(), "{url}");
    }
    h.stop().await;
}

#[tokio::test]
async fn deletions_take_their_options_from_body_or_query() {
    let h = Harness::start().await;
    h.create(&DEPLOYMENT, Some("default"), deployment("web")).await;
    let path = "/apis/apps/v1/namespaces/default/deployments/web";
    let body = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground" });
    let json_type = [("content-type", "application/json")];
    let marked = send(&h, "DELETE", &format!("{path}?dryRun=All"), &json_type, body.to_string()).await;
    assert_eq!(marked.json()["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let marked = send(&h, "DELETE", &format!("{path}?propagationPolicy=Orphan"), &[], Body::empty()).await;
    assert_eq!(marked.json()["metadata"]["finalizers"], json!(["orphan"]));
    let wrong = send(&h, "DELETE", &format!("{path}?propagationPolicy=No"), &[], Body::empty()).await;
    assert_eq!(wrong.code, 422);
    h.stop().await;
}

#[tokio::test]
async fn a_pod_without_a_node_has_an_empty_log_and_unclear_containers_are_refused() {
    let h = Harness::start().await;
    h.create(&api::kinds::SERVICE_ACCOUNT, Some("default"), json!({ "metadata": { "name": "default" } }))
        .await;
    let mut two = crate::testing::pod("p");
    two["spec"]["containers"] = json!([{ "name": "c", "image": "i" }, { "name": "d", "image": "i" }]);
    h.create(&api::kinds::POD, Some("default"), two).await;
    let path = "/api/v1/namespaces/default/pods/p/log";
    let unclear = get(&h, path).await;
    assert_eq!(unclear.code, 400);
    assert_eq!(unclear.message(), "a container name must be specified for pod p, choose one of: [c d]");
    assert_eq!(get(&h, &format!("{path}?container=x")).await.message(), "container x is not valid for pod p");
    assert_eq!(get(&h, &format!("{path}?container=c&tailLines=-1")).await.code, 422);
    let empty = get(&h, &format!("{path}?container=c")).await;
    assert_eq!((empty.code, &empty.body[..]), (200, &b""[..]));
    h.stop().await;
}

#[tokio::test]
async fn warnings_are_few_and_short() {
    let h = Harness::start().await;
    let mut body = json!({ "metadata": { "name": "a" } });
    for n in 0..5_000 {
        body[format!("unknown{n}")] = json!(1);
    }
    let created = post(&h, CONFIG_MAPS, body.clone()).await;
    assert_eq!(created.code, 201);
    let warnings: Vec<_> = created.headers.get_all("warning").iter().collect();
    assert_eq!(warnings.len(), 100);
    assert_eq!(warnings[0], "299 - \"unknown field \\\"unknown0\\\"\"");
    // More than 4 KiB of them: each is cut to 256 characters, and the rest left out.
    let mut body = json!({ "metadata": { "name": "b" } });
    for n in 0..200 {
        body[format!("{n:0400}")] = json!(1);
    }
    let created = post(&h, CONFIG_MAPS, body).await;
    let warnings: Vec<_> = created.headers.get_all("warning").iter().collect();
    assert_eq!(warnings.len(), 16);
    assert!(warnings.iter().all(|one| one.len() < 280));
    h.stop().await;
}

#[tokio::test]
async fn a_small_body_that_becomes_large_is_refused() {
    let h = Harness::start().await;
    let volumes: Vec<Value> = vec![json!({}); 200_000];
    let body = json!({ "metadata": { "name": "a" }, "spec": { "volumes": volumes } });
    let refused = post(&h, "/api/v1/namespaces/default/pods", body).await;
    assert_eq!((refused.code, refused.json()["reason"].as_str()), (413, Some("RequestEntityTooLarge")));
    assert!(refused.message().contains("more than 50331648 bytes of memory"), "{}", refused.message());
    post(&h, CONFIG_MAPS, json!({ "metadata": { "name": "a", "annotations": { "x": "y".repeat(1000) } } }))
        .await;
    let copies: Vec<Value> = (0..30)
        .map(|n| json!({ "op": "copy", "from": "/metadata/annotations", "path": format!("/metadata/annotations/{n}") }))
        .collect();
    let kind = [("content-type", "application/json-patch+json")];
    let refused = send(&h, "PATCH", &format!("{CONFIG_MAPS}/a"), &kind, json!(copies).to_string()).await;
    assert_eq!(refused.code, 422);
    let cause = refused.json()["details"]["causes"][0]["message"].as_str().unwrap_or("").to_string();
    assert!(cause.contains("exceeding the limit 3145728"), "{cause}");
    h.stop().await;
}
