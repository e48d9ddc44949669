//! A kubelet made of a duplex in memory: logs and the node proxy.

use std::io;
use std::sync::Arc;

use api::kinds::{NODE, POD, SERVICE_ACCOUNT};
use api::{CreateOptions, Identity};
use axum::body::Body;
use client::{BoxFuture, ByteStream, NodeDialer, ObjectRef};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::Config;
use crate::http::{Peer, handle};
use crate::testing::{Harness, config, master, pod};

/// Answers every dial with a kubelet that tells what it was asked.
struct Kubelet;

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, std::convert::Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    assert!(request.headers().get("authorization").is_none());
    Ok(if line.contains("waiting") {
        let text = "container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating";
        Response::builder().status(400).body(Body::from(text)).unwrap()
    } else {
        Response::new(Body::from(line))
    })
}

impl NodeDialer for Kubelet {
    #[expect(clippy::disallowed_methods, reason = "the double ends with the test's runtime")]
    fn dial<'a>(&'a self, node: &'a Node) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>> {
        let reachable = node.metadata.name.as_deref() == Some("n1");
        Box::pin(async move {
            if !reachable {
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused"));
            }
            let (near, far) = tokio::io::duplex(4096);
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(far), service_fn(answer));
            tokio::spawn(connection);
            Ok(Box::new(near) as Box<dyn ByteStream>)
        })
    }
}

async fn start() -> Harness {
    let h = Harness::with(Config { node_dialer: Arc::new(Kubelet), ..config() }).await;
    for node in ["n1", "n2"] {
        h.create(&NODE, None, json!({ "metadata": { "name": node } })).await;
    }
    h.create(&SERVICE_ACCOUNT, Some("default"), json!({ "metadata": { "name": "default" } })).await;
    for (name, node) in [("p", "n1"), ("lost", "n2")] {
        let mut body = pod(name);
        body["spec"]["containers"] =
            json!([{ "name": "c", "image": "i" }, { "name": "waiting", "image": "i" }]);
        h.create(&POD, Some("default"), body).await;
        let binding = json!({ "metadata": { "name": name }, "target": { "kind": "Node", "name": node } });
        let at = ObjectRef::new(Some("default"), name).sub("binding");
        h.api.create_sub(&POD, at, binding, &CreateOptions::default()).await.unwrap();
    }
    h
}

async fn get(h: &Harness, user: Identity, path: &str) -> (u16, String) {
    let peer = Arc::new(Peer::in_process(Some(user), Default::default()));
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let response = handle(h.server.clone(), peer, request).await;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_log_is_the_kubelets_with_checked_options() {
    let h = start().await;
    let logs = "/api/v1/namespaces/default/pods/p/log";
    let asked = get(
        &h,
        master(),
        &format!(
            "{logs}?container=c&follow=true&tailLines=5&timestamps=true&sinceTime=2026-01-01T00:00:00%2B01:00"
        ),
    )
    .await;
    let expected = "GET /containerLogs/default/p/c?follow=true&timestamps=true&tailLines=5&sinceTime=2026-01-01T00:00:00%2B01:00";
    assert_eq!(asked, (200, expected.to_string()));
    let (code, text) = get(&h, master(), &format!("{logs}?container=waiting")).await;
    assert_eq!(code, 400);
    assert!(text.contains("is waiting to start: ContainerCreating"), "{text}");
    let (code, text) = get(&h, master(), "/api/v1/namespaces/default/pods/lost/log?container=c").await;
    assert_eq!(code, 502);
    assert!(text.contains("connection refused"), "{text}");
    let (code, _) = get(&h, Identity::user("eve", []), logs).await;
    assert_eq!(code, 403);
    h.stop().await;
}

#[tokio::test]
async fn the_node_proxy_passes_path_and_query_on() {
    let h = start().await;
    let (code, text) = get(&h, master(), "/api/v1/nodes/n1/proxy/pods?x=1").await;
    assert_eq!((code, &*text), (200, "GET /pods?x=1"));
    let (code, text) = get(&h, master(), "/api/v1/nodes/n1/proxy/").await;
    assert_eq!((code, &*text), (200, "GET /"));
    assert_eq!(get(&h, master(), "/api/v1/nodes/none/proxy/pods").await.0, 404);
    assert_eq!(get(&h, master(), "/api/v1/nodes/n2/proxy/pods").await.0, 502);
    h.stop().await;
}
