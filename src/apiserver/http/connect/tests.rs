//! A kubelet made of a duplex in memory: logs, the node proxy, and tunnels that echo.

mod sockets;

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
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Config;
use crate::http::{Peer, handle};
use crate::testing::{Harness, config, master, pod};

/// Answers every dial with a kubelet that tells what it was asked.
struct Kubelet;

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, std::convert::Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    for secret in ["authorization", "cookie"] {
        assert!(request.headers().get(secret).is_none(), "{secret}");
    }
    for (mark, code) in [
        ("tailLines=302", 302),
        ("tailLines=304", 304),
        ("tailLines=204", 204),
        ("refuse/302", 302),
        ("refuse/403", 403),
    ] {
        if line.contains(mark) {
            let response = Response::builder()
                .status(code)
                .header("location", "/api/v1/secrets")
                .header("set-cookie", "a=b");
            let body = if code > 300 && code != 304 { Body::from("not here") } else { Body::empty() };
            return Ok(response.body(body).unwrap());
        }
    }
    if request.headers().contains_key("upgrade") && !line.contains("refuse") {
        return Ok(echo(line, request));
    }
    Ok(if line.contains("waiting") {
        let text = "container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating";
        Response::builder().status(400).body(Body::from(text)).unwrap()
    } else {
        Response::new(Body::from(line))
    })
}

/// Switches to whatever is asked for; says what that was and then echoes.
#[expect(clippy::disallowed_methods, reason = "the double ends with the test's runtime")]
fn echo(line: String, mut request: Request<Incoming>) -> Response<Body> {
    assert_eq!(request.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    let protocol = request.headers()["upgrade"].clone();
    let key = request.headers().get("sec-websocket-key").cloned();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
        let _ = writer.shutdown().await;
    });
    let mut response = Response::builder()
        .status(101)
        .header("connection", "Upgrade")
        .header("upgrade", protocol)
        .header("set-cookie", "a=b");
    if let Some(key) = key {
        response = response.header("sec-websocket-accept", key);
    }
    response.body(Body::empty()).unwrap()
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
                .serve_connection(TokioIo::new(far), service_fn(answer))
                .with_upgrades();
            tokio::spawn(connection);
            Ok(Box::new(near) as Box<dyn ByteStream>)
        })
    }
}

async fn start() -> Harness {
    start_within(crate::Limits::default()).await
}

async fn start_within(limits: crate::Limits) -> Harness {
    let h = Harness::with(Config { node_dialer: Arc::new(Kubelet), limits, ..config() }).await;
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
    let daemon = json!({ "status": { "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } } } });
    h.try_patch(&NODE, ObjectRef::new(None, "n1").sub("status"), daemon).await.unwrap();
    let (code, text) = get(&h, master(), "/api/v1/nodes/n1:10250/proxy/pods?x=1").await;
    assert_eq!((code, &*text), (200, "GET /pods?x=1"));
    let (code, text) = get(&h, master(), "/api/v1/nodes/n1/proxy/pods?x=1").await;
    assert_eq!((code, &*text), (200, "GET /pods?x=1"));
    let (code, text) = get(&h, master(), "/api/v1/nodes/n1/proxy/").await;
    assert_eq!((code, &*text), (200, "GET /"));
    assert_eq!(get(&h, master(), "/api/v1/nodes/none/proxy/pods").await.0, 404);
    assert_eq!(get(&h, master(), "/api/v1/nodes/n2/proxy/pods").await.0, 502);
    h.stop().await;
}

/// Sends a request that asks for an upgrade over a connection in memory.
#[expect(clippy::disallowed_methods, reason = "both ends of the connection end with the test's runtime")]
async fn upgrade(h: &Harness, peer: &Arc<Peer>, method: &str, path: &str) -> Response<Incoming> {
    let (near, far) = tokio::io::duplex(4096);
    let (server, peer) = (h.server.clone(), peer.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(handle(server, peer, request.map(Body::new)).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(far), service)
        .with_upgrades();
    tokio::spawn(connection);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "server")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "the key")
        .header("authorization", "Bearer secret")
        .header("cookie", "a=b")
        .header("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io")
        .body(Body::empty())
        .unwrap();
    sender.send_request(request).await.unwrap()
}

async fn line(stream: &mut TokioIo<Upgraded>) -> String {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await.unwrap() {
            b'\n' => return String::from_utf8(line).unwrap(),
            byte => line.push(byte),
        }
    }
}

#[tokio::test]
async fn upgrades_pass_through_to_the_node_and_echo() {
    let h = start().await;
    let peer = Arc::new(Peer::in_process(Some(master()), Default::default()));
    let pod = "/api/v1/namespaces/default/pods/p";
    for (method, path, expected) in [
        (
            "POST",
            format!(
                "{pod}/exec?container=c&stdin=true&stdout=true&stderr=false&command=sh&command=-c&command=a%20b%26c"
            ),
            "POST /exec/default/p/c?input=1&output=1&command=sh&command=-c&command=a%20b%26c",
        ),
        (
            "GET",
            format!("{pod}/attach?container=c&stdout=true&tty=true"),
            "GET /attach/default/p/c?output=1&tty=1",
        ),
        ("POST", format!("{pod}/portforward?ports=80"), "POST /portForward/default/p?port=80"),
        ("GET", "/api/v1/nodes/n1/proxy/exec/x?y=1".to_string(), "GET /exec/x?y=1"),
    ] {
        let response = upgrade(&h, &peer, method, &path).await;
        assert_eq!(response.status(), 101, "{path}");
        assert_eq!(response.headers()["upgrade"], "websocket");
        assert!(response.headers().get("set-cookie").is_none());
        assert_eq!(
            response.headers()["sec-websocket-accept"],
            "the key",
            "the handshake is between the two ends"
        );
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        assert_eq!(line(&mut stream).await, expected);
        // More than any buffer on the way holds, both ways at once.
        let sent: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (back, done) = tokio::join!(
            async {
                let mut back = Vec::new();
                reader.read_to_end(&mut back).await.unwrap();
                back
            },
            async {
                writer.write_all(&sent).await.unwrap();
                writer.shutdown().await
            }
        );
        done.unwrap();
        assert!(back == sent, "{path}: {} of {} bytes came back", back.len(), sent.len());
    }
    h.stop().await;
}

async fn allow(h: &Harness, user: &str, verb: &str, resources: &[&str]) {
    let rule = json!({ "apiGroups": [""], "resources": resources, "verbs": [verb] });
    let role = json!({ "metadata": { "name": user }, "rules": [rule] });
    h.create(&api::kinds::CLUSTER_ROLE, None, role).await;
    let binding = json!({ "metadata": { "name": user }, "subjects": [{ "kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io" }],
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user } });
    h.create(&api::kinds::CLUSTER_ROLE_BINDING, None, binding).await;
}

#[tokio::test]
async fn who_may_only_read_cannot_run_commands() {
    let h = start().await;
    let rules = [("get", "reader"), ("create", "runner")];
    for (verb, user) in rules {
        allow(&h, user, verb, &["pods/exec", "pods/attach", "pods/portforward"]).await;
    }
    for path in ["exec?container=c&stdout=true", "attach?container=c&stdout=true", "portforward?ports=80"] {
        let path = format!("/api/v1/namespaces/default/pods/p/{path}");
        let code = async |user: &str, method: &str| {
            let peer = Arc::new(Peer::in_process(Some(Identity::user(user, [])), Default::default()));
            upgrade(&h, &peer, method, &path).await.status().as_u16()
        };
        // GET needs both: it is a reading verb, and what it does is not.
        assert_eq!(code("reader", "GET").await, 403, "{path}");
        assert_eq!(code("reader", "POST").await, 403, "{path}");
        assert_eq!(code("runner", "GET").await, 403, "{path}");
        assert_eq!(code("runner", "POST").await, 101, "{path}");
    }
    h.stop().await;
}

#[tokio::test]
async fn a_tunnel_is_refused_where_there_is_none_and_ends_with_the_port() {
    let h = start().await;
    let stopping = supervisor::CancellationToken::new();
    let peer = Arc::new(Peer::in_process(Some(master()), stopping.clone()));
    let pods = "/api/v1/namespaces/default/pods";
    let code = async |path: &str| upgrade(&h, &peer, "GET", path).await.status().as_u16();
    assert_eq!(code(&format!("{pods}/p/exec?container=none&stdout=true")).await, 400);
    assert_eq!(code(&format!("{pods}/absent/exec?container=c")).await, 404);
    let response = upgrade(&h, &peer, "GET", &format!("{pods}/lost/exec?container=c")).await;
    assert_eq!(response.status(), 500);
    let status: serde_json::Value =
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("error dialing backend: ") && message.ends_with("connection refused"),
        "{message}"
    );
    assert!(status.get("reason").is_none(), "as upstream: {status}");
    assert_eq!(code("/api/v1/nodes/n1/proxy/refuse").await, 500, "the node does not switch");
    let (code, text) = get(&h, master(), &format!("{pods}/p/exec?container=c&stdout=true")).await;
    assert_eq!(code, 400);
    assert!(text.contains("Upgrade request required"), "{text}");
    let eve = Arc::new(Peer::in_process(Some(Identity::user("eve", [])), Default::default()));
    assert_eq!(upgrade(&h, &eve, "POST", &format!("{pods}/p/exec?container=c")).await.status(), 403);

    let response = upgrade(&h, &peer, "POST", &format!("{pods}/p/exec?container=c&stdout=true")).await;
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    line(&mut stream).await;
    stopping.cancel();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "the tunnel is over");
    h.stop().await;
}

#[tokio::test]
async fn who_may_only_read_a_node_cannot_run_commands_there() {
    let h = start().await;
    allow(&h, "reader", "get", &["nodes/proxy"]).await;
    allow(&h, "runner", "*", &["nodes/proxy"]).await;
    let user = |name: &str| Identity::user(name, []);
    let proxy = "/api/v1/nodes/n1/proxy";
    assert_eq!(get(&h, user("reader"), &format!("{proxy}/pods")).await.0, 200);
    for path in ["exec/a", "//attach/a", "%65xec/a", "./run/a", "x/../portForward/a", "run"] {
        assert_eq!(get(&h, user("reader"), &format!("{proxy}/{path}")).await.0, 403, "{path}");
    }
    let code = async |name: &str| {
        let peer = Arc::new(Peer::in_process(Some(user(name)), Default::default()));
        upgrade(&h, &peer, "GET", &format!("{proxy}/anything")).await.status().as_u16()
    };
    assert_eq!(code("reader").await, 403);
    assert_eq!(code("runner").await, 101);
    h.stop().await;
}

#[tokio::test]
async fn a_node_neither_redirects_nor_sets_cookies() {
    let h = start().await;
    let peer = Arc::new(Peer::in_process(Some(master()), Default::default()));
    for (path, code, text) in [
        ("refuse/302", 500, "invalid upgrade response: status code 302"),
        ("refuse", 500, "invalid upgrade response: status code 200"),
        ("refuse/403", 403, "not here"),
    ] {
        let response = upgrade(&h, &peer, "GET", &format!("/api/v1/nodes/n1/proxy/{path}")).await;
        assert_eq!(response.status(), code, "{path}");
        for name in ["location", "set-cookie"] {
            assert!(response.headers().get(name).is_none(), "{path}: {name}");
        }
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains(text), "{path}: {body:?}");
    }
    let logs = "/api/v1/namespaces/default/pods/p/log?container=c";
    for code in [204, 302, 304] {
        let (answered, text) = get(&h, master(), &format!("{logs}&tailLines={code}")).await;
        assert_eq!(answered, 502, "{text}");
        assert!(text.contains(&format!("invalid response: status code {code}")), "{text}");
    }
    h.stop().await;
}

#[tokio::test]
async fn of_an_answer_only_what_describes_it_is_passed_on() {
    let answer = |code: u16, location: &str| {
        let response = Response::builder().status(code).header("content-type", "text/html");
        let response = response.header("content-length", "5").header("set-cookie", "a=b");
        let response = response.header("strict-transport-security", "max-age=1").header("location", location);
        super::passed_on(response.body(Body::from("hello")).unwrap(), "/api/v1/nodes/n1/proxy")
    };
    let headers = answer(200, "/x").unwrap().into_parts().0.headers;
    assert_eq!(
        (&headers["content-type"], &headers["content-length"]),
        (&"text/html".parse().unwrap(), &"5".parse().unwrap())
    );
    assert_eq!(headers["content-security-policy"], "sandbox");
    for name in ["set-cookie", "strict-transport-security", "location"] {
        assert!(headers.get(name).is_none(), "{name}");
    }
    assert_eq!(answer(301, "/logs/?a=b").unwrap().headers()["location"], "/api/v1/nodes/n1/proxy/logs/?a=b");
    for location in ["https://evil/", "//evil/", "/../../pods", "/%2e%2E/x", "x", "/\\evil"] {
        assert_eq!(answer(307, location).unwrap_err().code(), 502, "{location}");
    }
    for code in [204, 205, 304] {
        let answer = answer(code, "/x").unwrap();
        assert!(answer.headers().get("content-length").is_none(), "{code}");
        assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty(), "{code}");
    }
    for code in [101, 199, 700] {
        assert_eq!(answer(code, "/x").unwrap_err().code(), 502, "{code}");
    }
}

#[test]
fn a_node_is_not_told_who_calls() {
    let mut given = http::HeaderMap::new();
    for name in ["authorization", "cookie", "impersonate-user", "x-remote-user", "sec-websocket-protocol"] {
        given.insert(name, "base64url.bearer.authorization.k8s.io.c2VjcmV0".parse().unwrap());
    }
    given.insert("accept", "text/plain".parse().unwrap());
    given.insert("x-stream-protocol-version", "v4.channel.k8s.io".parse().unwrap());
    let names = |headers: http::HeaderMap| headers.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(super::headers::of_request(&given)), ["accept"]);
    assert_eq!(names(super::headers::of_upgrade(&given)), ["x-stream-protocol-version"]);
}

#[tokio::test]
async fn a_tunnel_counts_among_its_users_streams_until_it_ends() {
    let h = start_within(crate::Limits { streams_per_user: 1, ..crate::Limits::default() }).await;
    allow(&h, "runner", "create", &["pods/exec"]).await;
    let peer = Arc::new(Peer::in_process(Some(Identity::user("runner", [])), Default::default()));
    let path = "/api/v1/namespaces/default/pods/p/exec?container=c&stdout=true";
    let response = upgrade(&h, &peer, "POST", path).await;
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    line(&mut stream).await;
    assert_eq!(upgrade(&h, &peer, "POST", path).await.status(), 429);
    drop(stream);
    let again = async { while upgrade(&h, &peer, "POST", path).await.status() != 101 {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), again).await.expect("the seat is given back");
    h.stop().await;
}

#[tokio::test]
async fn a_tunnel_ends_with_its_clients_certificate() {
    let h = start().await;
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "admin");
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
    params.not_after = (std::time::SystemTime::now() + std::time::Duration::from_secs(3)).into();
    let shown = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let certificate = h.server.registry.authenticator.certificate(&[shown.der().clone()]).ok();
    assert!(certificate.is_some());
    let peer = Arc::new(Peer { certificate, ..Peer::in_process(None, Default::default()) });
    let path = "/api/v1/namespaces/default/pods/p/exec?container=c&stdout=true";
    let response = upgrade(&h, &peer, "POST", path).await;
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    line(&mut stream).await;
    let mut buffer = [0; 8];
    let end = tokio::time::timeout(std::time::Duration::from_secs(30), stream.read(&mut buffer)).await;
    assert_eq!(end.expect("the tunnel is over").unwrap(), 0);
    h.stop().await;
}

#[test]
fn a_switch_is_to_what_was_asked_for() {
    let mut request = http::Request::new(());
    let wanted = super::tunnel::Wanted::of("websocket, SPDY/3.1", hyper::upgrade::on(&mut request));
    let switch = |protocol: &'static str| {
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::UPGRADE, http::HeaderValue::from_static(protocol));
        wanted.offers(&headers)
    };
    assert!(switch("WebSocket") && switch("spdy/3.1"));
    assert!(!switch("h2c") && !switch("web"));
}
