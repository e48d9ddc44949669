//! Answers about all kinds are made once for each set of them, and clients know them by their hash.

use api::kinds::CUSTOM_RESOURCE_DEFINITION as DEFINITION;
use axum::body::Body;
use client::ApiFor;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::json;

use crate::testing::{Harness, master};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

async fn get(h: &Harness, path: &str, accept: &str, etag: &str) -> (u16, HeaderMap, bytes::Bytes) {
    let request = Request::builder().uri(path).header("accept", accept).header("if-none-match", etag);
    let response = h.server.answer(master(), request.body(Body::empty()).unwrap()).await;
    let (code, headers) = (response.status().as_u16(), response.headers().clone());
    (code, headers, response.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_about_all_kinds_are_made_once_for_each_set() {
    let h = Harness::start().await;
    let mut before = Vec::new();
    let json = "application/json";
    for (path, accept) in
        [("/apis", AGGREGATED), ("/api", AGGREGATED), ("/openapi/v2", json), ("/openapi/v2", V2)]
    {
        let (code, headers, first) = get(&h, path, accept, "").await;
        assert_eq!((code, headers["vary"].to_str().unwrap()), (200, "Accept"), "{path}");
        let etag = headers["etag"].to_str().unwrap().to_string();
        let (code, _, again) = get(&h, path, accept, "").await;
        assert_eq!(code, 200);
        assert_eq!(first, again);
        // The very same bytes, not ones that are made alike. Large ones leave in slices.
        if path != "/openapi/v2" {
            assert_eq!(first.as_ptr(), again.as_ptr(), "{path}");
        }
        let (code, headers, nothing) = get(&h, path, accept, &etag).await;
        assert_eq!((code, headers["etag"].to_str().unwrap(), nothing.len()), (304, &*etag, 0), "{path}");
        before.push((path, accept, etag));
    }
    let set = h.server.registry.resources.load();
    let kept = set.derived.openapi_v2.get().map(|answer| answer.etag.clone());
    assert_eq!(kept.as_ref(), before.last().map(|(_, _, etag)| etag));
    let schema = json!({ "type": "object", "properties": { "spec": { "type": "object" } } });
    let version =
        json!({ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } });
    let body = json!({ "metadata": { "name": "widgets.example.com" }, "spec": {
        "group": "example.com", "scope": "Cluster", "names": { "plural": "widgets", "kind": "Widget" },
        "versions": [version] } });
    h.create(&DEFINITION, None, body).await;
    let mut served = h.server.served();
    served.wait_for(|set| set.by_kind("example.com/v1", "Widget").is_some()).await.unwrap();
    for (path, accept, etag) in before {
        let (code, headers, bytes) = get(&h, path, accept, &etag).await;
        // The core group is what it was.
        assert_eq!(code, if path == "/api" { 304 } else { 200 }, "{path}");
        assert_eq!(headers["etag"] == *etag, path == "/api");
        assert_eq!(String::from_utf8_lossy(&bytes).contains("Widget"), path != "/api", "{path}");
    }
    h.stop().await;
}
