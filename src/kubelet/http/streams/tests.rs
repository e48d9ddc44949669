//! A kubelet whose runtime streams from a double that speaks SPDY: what clients of every age get.

use std::collections::HashMap;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use client::Informers;
use client::streams::spdy::{self, Encoder, Frame, FrameReader};
use client::streams::websocket::{Message, WebSocket};
use futures::{SinkExt, StreamExt};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic::Code;

use super::super::Service;
use super::*;
use crate::testing::{TestNode, pod};

type Stream = TokioIo<Upgraded>;

struct Node {
    node: TestNode,
    service: Service,
    address: SocketAddr,
}

/// A node with a running pod `p`, whose one container is `c`.
async fn start() -> Node {
    let node = TestNode::new();
    let pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "image:1"}]}));
    node.run(&pod);
    node.until("Running, ready").await;
    let (stage, runtime) = (node.agent.stage.clone(), node.runtime.clone());
    let pods = Informers::new(node.api.clone(), stage.clone()).of();
    crate::testing::until("the pod is known", || pods.get(Some("ns"), "p").is_some(), String::new).await;
    let service = node.service(pods);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    runtime.serve_streams_at(format!("http://{address}/run"));
    let connections = stage.clone();
    stage.spawn_cancellable("double", OnExit::Done, async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let stage = connections.clone();
            let handler = hyper::service::service_fn(move |request| {
                let stage = stage.clone();
                async move { Ok::<_, std::convert::Infallible>(switch(&stage, request)) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), handler)
                .with_upgrades();
            connections.spawn_cancellable("double", OnExit::Done, async move { drop(connection.await) });
        }
    });
    node.journal.take();
    Node { node, service, address }
}

/// The runtime's streaming server.
fn switch(stage: &supervisor::Stage, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_string();
    if path == "/refuse" {
        return Response::builder().status(418).body(Full::from("not today")).unwrap();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let is_command = request.headers().get(PROTOCOL_VERSION).is_some_and(|one| one == REMOTE_COMMAND_V4);
    stage.spawn_cancellable("double", OnExit::Done, async move {
        let stream = TokioIo::new(upgrade.await.unwrap());
        match path.as_str() {
            _ if !is_command => {
                let (mut reader, mut writer) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            }
            "/lost" => drop(stream),
            _ => command(stream).await,
        }
    });
    let mut response = Response::builder().status(101).header(CONNECTION, "Upgrade");
    for name in [UPGRADE, HeaderName::from_static(PROTOCOL_VERSION)] {
        if let Some(value) = request.headers().get(&name) {
            response = response.header(name, value);
        }
    }
    response.body(Full::default()).unwrap()
}

/// `cat`, which tells what it was told about its terminal and fails with 7.
async fn command(stream: Stream) {
    let (reader, mut writer) = tokio::io::split(stream);
    let (mut reader, mut encoder) = (FrameReader::new(reader), Encoder::default());
    let mut streams: HashMap<String, u32> = HashMap::new();
    let mut sizes = String::new();
    while let Ok(Some(frame)) = reader.next().await {
        let mut out = BytesMut::new();
        match frame {
            Frame::SynStream { stream, headers, .. } => {
                assert_eq!(headers[0].0, "streamtype");
                encoder.put_syn_reply(&mut out, stream).unwrap();
                streams.insert(headers[0].1.clone(), stream);
                spdy::put_ping(&mut out, 2);
            }
            Frame::Data { stream, bytes, .. } if Some(&stream) == streams.get("resize") => {
                sizes.push_str(std::str::from_utf8(&bytes).unwrap());
            }
            Frame::Data { fin, bytes, .. } => {
                spdy::put_data(&mut out, streams["stdout"], false, &bytes);
                if fin {
                    let told = if sizes.is_empty() { "no terminal" } else { &sizes };
                    let target = streams.get("stderr").unwrap_or(&streams["stdout"]);
                    spdy::put_data(&mut out, *target, false, told.as_bytes());
                    // As containerd does it: the status, and then everything is reset.
                    spdy::put_data(&mut out, streams["error"], false, exit_code().as_bytes());
                    streams.values().for_each(|stream| spdy::put_reset(&mut out, *stream, 5));
                    spdy::put_go_away(&mut out);
                    writer.write_all(&out).await.unwrap();
                    return;
                }
            }
            Frame::Ping(2) => {}
            other => panic!("{other:?}"),
        }
        writer.write_all(&out).await.unwrap();
    }
}

fn exit_code() -> String {
    let causes = json!([{"reason": "ExitCode", "message": "7"}]);
    json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}})
        .to_string()
}

impl Node {
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
        let io = TokioIo::new(self.service.connect());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        self.node.agent.stage.spawn_cancellable("client", OnExit::Done, async move {
            let _ = connection.with_upgrades().await;
        });
        let mut request = Request::builder().method(method).uri(path).header(HOST, "node");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
    }

    async fn socket(&self, path: &str, protocol: &str) -> Response<Incoming> {
        let headers = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", protocol),
        ];
        self.ask("GET", path, &headers).await
    }

    async fn refusal(&self, method: &str, path: &str) -> (u16, String) {
        let headers = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        told(self.ask(method, path, &headers).await).await
    }
}

async fn told(response: Response<Incoming>) -> (u16, String) {
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

async fn stream(response: Response<Incoming>) -> Stream {
    assert_eq!(response.status(), 101);
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

fn message(channel: u8, data: &[u8]) -> Message {
    Message::binary([&[channel], data].concat())
}

/// All that comes until the server closes, by channel.
async fn rest(socket: &mut WebSocket<Stream>) -> HashMap<u8, Vec<u8>> {
    let mut all: HashMap<u8, Vec<u8>> = HashMap::new();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(bytes) = message {
            all.entry(bytes[0]).or_default().extend_from_slice(&bytes[1..]);
        }
    }
    all
}

#[tokio::test]
async fn v5_carries_input_output_and_the_exit_code() {
    let n = start().await;
    let response = n
        .socket(
            "/exec/ns/p/c?input=1&output=1&error=1&command=cat&command=a%20b",
            "v5.channel.k8s.io, v4.channel.k8s.io",
        )
        .await;
    assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(n.node.journal.take(), ["stream exec c [stdin stdout stderr] cat a b"]);
    let socket = websocket::connected(stream(response).await).await;
    let (mut sink, source) = socket.split();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    let writing = async {
        for piece in sent.chunks(100_000) {
            sink.send(message(0, piece)).await.unwrap();
        }
        sink.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
        sink.send(message(9, b"of no channel")).await.unwrap();
        sink.send(message(255, &[0])).await.unwrap();
        sink
    };
    let reading = async {
        let (mut source, mut all, mut first) = (source, HashMap::<u8, Vec<u8>>::new(), None);
        let mut pongs = 0;
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(bytes) => {
                    first.get_or_insert(bytes.clone());
                    all.entry(bytes[0]).or_default().extend_from_slice(&bytes[1..]);
                }
                Message::Pong(_) => pongs += 1,
                _ => {}
            }
        }
        (first, all, pongs)
    };
    let (_sink, (first, all, pongs)) = tokio::join!(writing, reading);
    assert_eq!(first.as_deref(), Some(&[1][..]), "an empty message says that it stands");
    assert!(all[&1] == sent, "{} bytes came back", all[&1].len());
    assert_eq!(all[&2], b"no terminal");
    assert_eq!(all[&3], exit_code().into_bytes());
    assert_eq!(pongs, 1);
}

#[tokio::test]
async fn a_terminal_has_a_size_and_no_standard_error() {
    let n = start().await;
    let response =
        n.socket("/exec/ns/p/c?input=1&output=1&error=1&tty=1&command=sh", "v5.channel.k8s.io").await;
    assert_eq!(n.node.journal.take(), ["stream exec c [stdin stdout tty] sh"]);
    let mut socket = websocket::connected(stream(response).await).await;
    socket.send(message(4, br#"{"Width":80,"Height":24}"#)).await.unwrap();
    socket.send(message(255, &[0])).await.unwrap();
    let all = rest(&mut socket).await;
    assert_eq!(all[&1], br#"{"Width":80,"Height":24}"#);
    assert!(!all.contains_key(&2));
}

#[tokio::test]
async fn a_runtime_that_goes_away_is_an_error_of_its_own() {
    let n = start().await;
    n.node.runtime.serve_streams_at(format!("http://{}/lost", n.address));
    let response = n.socket("/exec/ns/p/c?output=1&command=x", "v5.channel.k8s.io").await;
    let mut socket = websocket::connected(stream(response).await).await;
    let status: Value = serde_json::from_slice(&rest(&mut socket).await[&3]).unwrap();
    assert_eq!(
        (&status["status"], &status["reason"], &status["code"]),
        (&json!("Failure"), &json!("InternalError"), &json!(500))
    );
}

#[tokio::test]
async fn older_clients_are_joined_with_the_runtime() {
    let n = start().await;
    let headers =
        [("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), (PROTOCOL_VERSION, "v3.channel.k8s.io")];
    for path in ["/exec/ns/p/c?output=1&command=x", "/attach/ns/p/u/c?input=1&output=1", "/portForward/ns/p"]
    {
        let response = n.ask("POST", path, &headers).await;
        assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
        assert_eq!(response.headers()[PROTOCOL_VERSION], "v3.channel.k8s.io", "they negotiate, not we");
        let mut stream = stream(response).await;
        stream.write_all(b"anything").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"anything");
    }
    assert_eq!(
        n.node.journal.take(),
        ["stream exec c [stdout] x", "stream attach c tty=false", "stream port_forward sandbox 0 []"]
    );
    let response = n.socket("/portForward/ns/p?port=80,81&port=82", "v4.channel.k8s.io").await;
    assert_eq!(response.status(), 101);
    assert_eq!(n.node.journal.take(), ["stream port_forward sandbox 0 [80, 81, 82]"]);
}

#[tokio::test]
async fn spdy_in_a_websocket_is_unwrapped() {
    let n = start().await;
    let response = n.socket("/portForward/ns/p", "SPDY/3.1+portforward.k8s.io").await;
    assert_eq!(response.headers()["sec-websocket-protocol"], "SPDY/3.1+portforward.k8s.io");
    let mut tunnel = Tunnel::new(websocket::connected(stream(response).await).await);
    tunnel.write_all(b"frames").await.unwrap();
    tunnel.flush().await.unwrap();
    let mut back = [0; 6];
    tunnel.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"frames");
    tunnel.shutdown().await.unwrap();
    assert_eq!(tunnel.read(&mut back).await.unwrap(), 0);
}

#[tokio::test]
async fn what_cannot_be_is_said_in_upstreams_words() {
    let n = start().await;
    for (path, code, text) in [
        ("/exec/ns/p/c?command=x", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("/exec/ns/none/c?output=1", 404, "pod does not exist"),
        ("/exec/ns/p/other/c?output=1", 404, "pod not found"),
        ("/exec/ns/p/none?output=1", 500, "container not found (\"none\")"),
        ("/attach/ns/p/none?output=1", 500, "container none not found in pod p_ns"),
        ("/portForward/ns/p/other", 404, "pod not found"),
        ("/exec/ns/p", 404, "404 page not found\n"),
    ] {
        assert_eq!(n.refusal("POST", path).await, (code, text.to_string()), "{path}");
    }
    assert_eq!(n.refusal("DELETE", "/exec/ns/p/c?output=1").await.0, 405);
    let (code, text) = told(n.ask("POST", "/exec/ns/p/c?output=1", &[]).await).await;
    assert_eq!((code, &*text), (400, "Upgrade request required"));
    for (query, text) in [
        ("", "query parameter \"port\" is required"),
        ("?port=0", "port must be > 0"),
        ("?port=x", "invalid port \"x\""),
    ] {
        let path = format!("/portForward/ns/p{query}");
        assert_eq!(told(n.socket(&path, "v4.channel.k8s.io").await).await, (400, text.to_string()));
    }
    n.node.runtime.fail("stream", Code::NotFound, "no such container");
    let expected = "rpc error: code = NotFound desc = no such container";
    assert_eq!(n.refusal("POST", "/exec/ns/p/c?output=1").await, (404, expected.to_string()));
    n.node.runtime.serve_streams_at(format!("http://{}/refuse", n.address));
    assert_eq!(n.refusal("POST", "/exec/ns/p/c?output=1").await, (418, "not today".to_string()));
    n.node.runtime.serve_streams_at("https://127.0.0.1:1/x".to_string());
    let (code, text) = n.refusal("POST", "/exec/ns/p/c?output=1").await;
    assert!(code == 500 && text.ends_with("is not one of HTTP"), "{text}");
    // A container that has ended.
    n.node.runtime.exit("c", 0);
    let (code, text) = n.refusal("POST", "/exec/ns/p/c?output=1").await;
    assert_eq!((code, &*text), (500, "container not found (\"c\")"));
}

#[tokio::test]
async fn a_client_that_goes_takes_the_stream_with_it() {
    let n = start().await;
    let response = n.socket("/exec/ns/p/c?input=1&output=1&command=cat", "v5.channel.k8s.io").await;
    let socket = websocket::connected(stream(response).await).await;
    let tasks = || n.node.supervisor.report().into_iter().flat_map(|stage| stage.tasks);
    let gone = || !tasks().any(|(name, _)| name == "stream into a pod");
    let has_begun = tasks().any(|(name, _)| name == "stream into a pod");
    assert!(has_begun);
    drop(socket);
    crate::testing::until("the stream ends", gone, || format!("{:?}", tasks().collect::<Vec<_>>())).await;
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_stream_with_1009() {
    let n = start().await;
    for (path, protocol) in [
        ("/exec/ns/p/c?input=1&output=1&command=cat", "v5.channel.k8s.io"),
        ("/portForward/ns/p", "SPDY/3.1+portforward.k8s.io"),
    ] {
        let mut stream = stream(n.socket(path, protocol).await).await;
        // A masked binary frame that says it has 2 MiB.
        stream.write_all(&[0x82, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0, 1, 2, 3, 4]).await.unwrap();
        stream.write_all(&[0; 1000]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        let code = 1009_u16.to_be_bytes();
        assert!(all.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..] == code), "{path}: {all:?}");
    }
}
