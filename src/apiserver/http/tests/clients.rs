//! What client libraries look for in answers beside the objects.

use std::io::Read;

use api::kinds::{CUSTOM_RESOURCE_DEFINITION, NAMESPACE, POD, SERVICE_ACCOUNT};
use client::ApiFor;

use super::*;
use crate::testing::pod;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

fn warnings(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all("warning").iter().map(|text| text.to_str().unwrap()).collect()
}

async fn get(h: &Harness, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(h, "GET", path, headers, Body::empty()).await
}

/// Defines `widgets.example.com/v1`, a version that is deprecated, and waits until it is served.
async fn define(h: &Harness) {
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let version = json!({
        "name": "v1", "served": true, "storage": true, "deprecated": true,
        "schema": { "openAPIV3Schema": schema },
    });
    let spec = json!({
        "group": "example.com", "scope": "Namespaced", "versions": [version],
        "names": { "plural": "widgets", "kind": "Widget" },
    });
    let body = json!({ "metadata": { "name": "widgets.example.com" }, "spec": spec });
    h.create(&CUSTOM_RESOURCE_DEFINITION, None, body).await;
    let mut served = h.server.served();
    while served.borrow_and_update().by_kind("example.com/v1", "Widget").is_none() {
        served.changed().await.unwrap();
    }
}

const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

#[tokio::test]
async fn a_time_limit_has_to_be_one() {
    let h = Harness::start().await;
    let wrong = get(&h, &format!("{CONFIG_MAPS}?timeout=invalid"), &[]).await;
    let message = r#"invalid timeout specified in the request URL - time: invalid duration "invalid""#;
    assert_eq!((wrong.code, &*wrong.message()), (400, message));
    assert_eq!(get(&h, "/version?timeout=1", &[]).await.code, 400);
    for right in ["", "0s", "32s", "10m"] {
        assert_eq!(get(&h, &format!("{CONFIG_MAPS}?timeout={right}"), &[]).await.code, 200, "{right}");
    }
    // Streams have limits of their own.
    let request = Request::builder().uri(format!("{CONFIG_MAPS}?watch=1&timeout=invalid"));
    assert_eq!(raw(&h, request.body(Body::empty()).unwrap()).await.status(), 200);
    h.stop().await;
}

#[tokio::test]
async fn answers_name_their_flow() {
    let h = Harness::start().await;
    let uid = async |path: &str| {
        let object = get(&h, &format!("/apis/flowcontrol.apiserver.k8s.io/v1/{path}"), &[]).await.json();
        object["metadata"]["uid"].as_str().unwrap().to_string()
    };
    for path in [CONFIG_MAPS, "/version"] {
        let answer = get(&h, path, &[]).await;
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_string();
        assert_eq!(header("x-kubernetes-pf-flowschema-uid"), uid("flowschemas/exempt").await);
        let level = uid("prioritylevelconfigurations/exempt").await;
        assert_eq!(header("x-kubernetes-pf-prioritylevel-uid"), level);
    }
    h.stop().await;
}

#[tokio::test]
async fn items_of_built_in_kinds_do_not_say_what_they_are() {
    let h = Harness::start().await;
    h.config_map("a").await;
    define(&h).await;
    let widget = json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "a" } });
    assert_eq!(post(&h, WIDGETS, widget).await.code, 201);
    let first = async |path: &str, accept: &str| {
        let answer = get(&h, path, &[("accept", accept)]).await;
        let list: Value = serde_yaml::from_slice(&answer.body).unwrap();
        let key = if list["kind"] == "Table" { "rows" } else { "items" };
        let item = list[key][0].clone();
        assert!(item.is_object(), "{path} {accept}: {list}");
        item["object"].as_object().map_or_else(|| item.clone(), |object| Value::Object(object.clone()))
    };
    for (accept, kind) in [
        ("application/json", None),
        ("application/yaml", None),
        ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some("PartialObjectMetadata")),
        ("application/json;as=Table;g=meta.k8s.io;v=v1", Some("PartialObjectMetadata")),
    ] {
        let item = first(CONFIG_MAPS, accept).await;
        assert_eq!(item["kind"].as_str(), kind, "{accept}");
        assert_eq!(item["apiVersion"].is_string(), kind.is_some(), "{accept}");
        assert_eq!(item["metadata"]["name"], "a");
        let custom = first(WIDGETS, accept).await;
        assert_eq!(custom["kind"], kind.unwrap_or("Widget"), "{accept}");
    }
    let path = format!("{CONFIG_MAPS}?includeObject=Object");
    assert_eq!(first(&path, "application/json;as=Table;g=meta.k8s.io;v=v1").await["kind"], "ConfigMap");
    h.stop().await;
}

#[tokio::test]
async fn tables_and_metadata_come_in_the_version_that_is_asked_for() {
    let h = Harness::start().await;
    h.config_map("a").await;
    let old = |kind: &str| format!("application/json;as={kind};g=meta.k8s.io;v=v1beta1");
    for path in [CONFIG_MAPS.to_string(), format!("{CONFIG_MAPS}/a")] {
        let table = get(&h, &path, &[("accept", &old("Table"))]).await.json();
        assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1beta1")));
        assert_eq!(table["rows"][0]["object"]["apiVersion"], "meta.k8s.io/v1beta1");
    }
    let list = get(&h, CONFIG_MAPS, &[("accept", &old("PartialObjectMetadataList"))]).await.json();
    assert_eq!(list["apiVersion"], "meta.k8s.io/v1beta1");
    assert_eq!(list["items"][0]["apiVersion"], "meta.k8s.io/v1beta1");
    h.stop().await;
}

#[tokio::test]
async fn what_has_no_messages_is_given_as_the_next_best_or_not_at_all() {
    let h = Harness::start().await;
    define(&h).await;
    let media = async |path: &str, accept: &str| {
        let answer = get(&h, path, &[("accept", accept)]).await;
        let media = answer.headers["content-type"].to_str().unwrap().to_string();
        (answer.code, media, answer.body)
    };
    let (code, media_type, _) = media(WIDGETS, PROTOBUF).await;
    assert_eq!((code, &*media_type), (406, PROTOBUF));
    let table = format!("{PROTOBUF}, application/json;as=Table;g=meta.k8s.io;v=v1");
    let (code, media_type, body) = media(WIDGETS, &table).await;
    assert_eq!((code, &*media_type), (200, "application/json"));
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["kind"], "Table");
    let metadata = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    assert_eq!(media(WIDGETS, &metadata).await.1, PROTOBUF);
    assert_eq!(media(CONFIG_MAPS, PROTOBUF).await.1, PROTOBUF);
    h.stop().await;
}

#[tokio::test]
async fn readers_hear_that_a_version_is_deprecated() {
    let h = Harness::start().await;
    define(&h).await;
    let told = get(&h, WIDGETS, &[]).await;
    assert_eq!(warnings(&told), [r#"299 - "example.com/v1 Widget is deprecated""#]);
    let body = json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "a" } });
    assert_eq!(warnings(&post(&h, WIDGETS, body).await), warnings(&told));
    let endpoints = get(&h, "/api/v1/namespaces/default/endpoints", &[]).await;
    let text = r#"299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice""#;
    assert_eq!(warnings(&endpoints), [text]);
    assert_eq!(warnings(&get(&h, CONFIG_MAPS, &[]).await), [""; 0]);
    h.stop().await;
}

#[tokio::test]
async fn a_negative_grace_period_is_the_shortest() {
    let h = Harness::start().await;
    let account = json!({ "metadata": { "name": "default" } });
    h.create(&SERVICE_ACCOUNT, Some("default"), account).await;
    let mut bound = pod("a");
    bound["spec"]["nodeName"] = json!("n1");
    h.create(&POD, Some("default"), bound).await;
    let delete = async |seconds: i64| {
        let path = format!("/api/v1/namespaces/default/pods/a?gracePeriodSeconds={seconds}");
        let answer = send(&h, "DELETE", &path, &[], Body::empty()).await;
        assert_eq!(answer.code, 200, "{}", answer.message());
        answer.json()["metadata"]["deletionGracePeriodSeconds"].as_i64()
    };
    assert_eq!(delete(40).await, Some(40));
    assert_eq!(delete(-1).await, Some(1));
    let there = h.get(&POD, Some("default"), "a").await.unwrap();
    assert_eq!(there["metadata"]["deletionGracePeriodSeconds"], 1, "it is not gone at once");
    h.stop().await;
}

#[tokio::test]
async fn health_is_told_check_by_check() {
    let h = Harness::start().await;
    let text = async |path: &str| {
        let answer = get(&h, path, &[]).await;
        (answer.code, String::from_utf8(answer.body.to_vec()).unwrap())
    };
    let (code, ready) = text("/readyz?verbose").await;
    assert_eq!(code, 200);
    let names =
        ["ping", "etcd", "etcd-readiness", "informer-sync", "poststarthook/rbac/bootstrap-roles", "shutdown"];
    for name in names {
        assert!(ready.contains(&format!("[+]{name} ok\n")), "{name}: {ready}");
        assert_eq!(text(&format!("/readyz/{name}")).await, (200, "ok".to_string()));
    }
    assert!(ready.ends_with("readyz check passed\n"), "{ready}");
    let (_, live) = text("/livez?verbose").await;
    assert!(!live.contains("shutdown") && !live.contains("etcd-readiness"), "{live}");
    let (_, excluded) = text("/livez?verbose&exclude=etcd&exclude=none").await;
    assert!(excluded.contains("[+]etcd excluded: ok\n"), "{excluded}");
    let unknown = "warn: some health checks cannot be excluded: no matches for \"none\"\n";
    assert!(excluded.contains(unknown), "{excluded}");
    assert_eq!(text("/livez/none").await.0, 404);
    h.stop().await;
}

#[tokio::test]
async fn who_scales_is_not_warned_of_the_template() {
    let h = Harness::start().await;
    let labels = json!({ "pod-security.kubernetes.io/warn": "restricted" });
    h.create(&NAMESPACE, None, json!({ "metadata": { "name": "strict", "labels": labels } })).await;
    let path = "/apis/apps/v1/namespaces/strict/deployments";
    let created = post(&h, path, deployment("web")).await;
    assert!(warnings(&created)[0].contains("would violate PodSecurity"), "{:?}", warnings(&created));
    let merge = [("content-type", "application/merge-patch+json")];
    let scaled = json!({ "spec": { "replicas": 3 } }).to_string();
    let scale = send(&h, "PATCH", &format!("{path}/web/scale"), &merge, scaled.clone()).await;
    assert_eq!((scale.code, warnings(&scale)), (200, vec![]));
    let whole = send(&h, "PATCH", &format!("{path}/web"), &merge, scaled).await;
    assert_eq!(warnings(&whole).len(), 1, "an update of the whole has the template in it");
    h.stop().await;
}

#[tokio::test]
async fn a_service_may_begin_with_a_digit() {
    let h = Harness::start().await;
    let service = |name: &str| json!({ "metadata": { "name": name }, "spec": { "ports": [{ "port": 80 }] } });
    let path = "/api/v1/namespaces/default/services";
    assert_eq!(post(&h, path, service("1-web")).await.code, 201);
    assert_eq!(post(&h, path, service("Web")).await.code, 422);
    h.stop().await;
}

#[tokio::test]
async fn large_answers_are_compressed_for_who_takes_that() {
    let h = Harness::start().await;
    let large = json!({ "metadata": { "name": "large" }, "data": { "k": "v".repeat(200 * 1024) } });
    assert_eq!(post(&h, CONFIG_MAPS, large).await.code, 201);
    for n in 0..3 {
        let body = json!({ "metadata": { "name": format!("m{n}") }, "data": { "k": "v".repeat(60 * 1024) } });
        assert_eq!(post(&h, CONFIG_MAPS, body).await.code, 201);
    }
    let gzip = [("accept-encoding", "deflate, gzip")];
    for path in [CONFIG_MAPS.to_string(), format!("{CONFIG_MAPS}/large"), format!("{CONFIG_MAPS}?pretty=1")] {
        let plain = get(&h, &path, &[]).await;
        assert!(plain.headers.get("content-encoding").is_none());
        let packed = get(&h, &path, &gzip).await;
        assert_eq!(packed.headers["content-encoding"], "gzip", "{path}");
        assert_eq!(packed.headers["vary"], "Accept-Encoding");
        assert!(packed.body.len() < plain.body.len() / 10);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == plain.body, "{path}");
    }
    // Of several pieces, but no more than 128 KiB.
    let path = format!("{CONFIG_MAPS}?limit=2&fieldSelector=metadata.name!=large");
    let small = get(&h, &path, &gzip).await;
    assert!(small.headers.get("content-encoding").is_none());
    assert_eq!(small.json()["items"].as_array().unwrap().len(), 2);
    for plain in ["gzip;q=1", "br"] {
        let answer = get(&h, CONFIG_MAPS, &[("accept-encoding", plain)]).await;
        assert!(answer.headers.get("content-encoding").is_none(), "{plain}");
    }
    let watch = Request::builder().uri(format!("{CONFIG_MAPS}?watch=1")).header("accept-encoding", "gzip");
    let watch = raw(&h, watch.body(Body::empty()).unwrap()).await;
    assert!(watch.headers().get("content-encoding").is_none());
    h.stop().await;
}

#[tokio::test]
async fn a_kubelet_is_reached_by_its_port_too() {
    let h = Harness::start().await;
    let missing = get(&h, "/api/v1/nodes/none:10250/proxy/pods", &[]).await;
    assert_eq!(missing.message(), "nodes \"none\" not found");
    let wrong = get(&h, "/api/v1/nodes/ftp:none:1/proxy/pods", &[]).await;
    assert_eq!((wrong.code, &*wrong.message()), (400, "invalid node request \"ftp:none:1\""));
    h.stop().await;
}

#[tokio::test]
async fn early_versions_are_the_stable_one_under_another_name() {
    let runtime = crate::RuntimeConfig::parse(["api/beta=true"]).unwrap();
    let h = Harness::with(crate::Config { runtime, ..crate::testing::config() }).await;
    let at = |version: &str| format!("/apis/storage.k8s.io/{version}/volumeattributesclasses");
    let class = json!({
        "apiVersion": "storage.k8s.io/v1beta1", "kind": "VolumeAttributesClass",
        "metadata": { "name": "a" }, "driverName": "example.com", "parameters": { "k": "v" },
    });
    let created = post(&h, &at("v1beta1"), class).await;
    assert_eq!((created.code, &created.json()["apiVersion"]), (201, &json!("storage.k8s.io/v1beta1")));
    let stable = get(&h, &format!("{}/a", at("v1")), &[]).await.json();
    assert_eq!(
        (&stable["apiVersion"], &stable["parameters"]["k"]),
        (&json!("storage.k8s.io/v1"), &json!("v"))
    );
    let list = get(&h, &at("v1beta1"), &[]).await.json();
    assert_eq!(list["apiVersion"], "storage.k8s.io/v1beta1");
    assert_eq!(list["items"][0]["metadata"]["uid"], stable["metadata"]["uid"]);
    // Defaults are those of the stable version.
    let claim = json!({
        "apiVersion": "resource.k8s.io/v1beta2", "kind": "ResourceClaim", "metadata": { "name": "c" },
        "spec": { "devices": { "requests": [{ "name": "r", "exactly": { "deviceClassName": "d" } }] } },
    });
    let path = "/apis/resource.k8s.io/v1beta2/namespaces/default/resourceclaims";
    let created = post(&h, path, claim).await;
    assert_eq!(created.code, 201, "{}", created.message());
    let exactly = &created.json()["spec"]["devices"]["requests"][0]["exactly"];
    assert_eq!((&exactly["allocationMode"], &exactly["count"]), (&json!("ExactCount"), &json!(1)));
    let patch = [("content-type", "application/merge-patch+json")];
    let change = json!({ "metadata": { "labels": { "a": "b" } } }).to_string();
    let patched = send(&h, "PATCH", &format!("{path}/c"), &patch, change).await.json();
    assert_eq!(
        (&patched["apiVersion"], &patched["metadata"]["labels"]["a"]),
        (&json!("resource.k8s.io/v1beta2"), &json!("b"))
    );
    let group = get(&h, "/apis/storage.k8s.io", &[]).await.json();
    let versions: Vec<_> =
        group["versions"].as_array().unwrap().iter().map(|one| one["version"].clone()).collect();
    assert_eq!(versions, ["v1", "v1beta1"]);
    assert_eq!(group["preferredVersion"]["version"], "v1");
    h.stop().await;
    let h = Harness::start().await;
    assert_eq!(get(&h, &at("v1beta1"), &[]).await.code, 404, "it is off by default");
    h.stop().await;
}

#[tokio::test]
async fn documents_say_what_fields_mean() {
    let h = Harness::start().await;
    define(&h).await;
    let index = get(&h, "/openapi/v3", &[]).await.json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let apps = get(&h, url, &[]).await;
    assert_eq!(apps.code, 200);
    let replicas =
        &apps.json()["components"]["schemas"]["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["replicas"];
    assert!(replicas["description"].as_str().unwrap().starts_with("Number of desired pods."));
    let custom = get(&h, "/openapi/v3/apis/example.com/v1", &[]).await.json();
    let widget = &custom["components"]["schemas"]["com.example.v1.Widget"]["properties"];
    assert!(
        widget["kind"]["description"].as_str().unwrap().starts_with("Kind is a string value representing")
    );
    let etag = apps.headers["etag"].to_str().unwrap();
    let again = get(&h, "/openapi/v3/apis/apps/v1", &[("if-none-match", etag)]).await;
    assert_eq!((again.code, again.body.len()), (304, 0));
    let old = get(&h, "/openapi/v2", &[("accept", "application/json")]).await.json();
    let pod = &old["definitions"]["io.k8s.api.core.v1.Pod"];
    assert!(pod["description"].as_str().unwrap().starts_with("Pod is a collection of containers"));
    h.stop().await;
}
