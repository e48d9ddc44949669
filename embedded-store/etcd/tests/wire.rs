//! The wire itself, with a client that does what well-behaved ones do not: messages in pieces, broken ones,
//! calls taken back.

use std::time::Duration;

use bytes::BytesMut;
use h2::client::SendRequest;
use http::{HeaderMap, Request};

use super::*;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

#[expect(clippy::disallowed_methods, reason = "a test's own runtime joins it")]
async fn client(server: &Server) -> SendRequest<Bytes> {
    let socket = tokio::net::TcpStream::connect(&server.address).await.unwrap();
    let (requests, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    requests.ready().await.unwrap()
}

fn post(path: &str) -> http::request::Builder {
    Request::post(format!("http://etcd{path}")).header("content-type", "application/grpc")
}

/// What came: the data, and the headers and trailers together.
async fn call(
    client: &SendRequest<Bytes>,
    request: http::request::Builder,
    pieces: impl Iterator<Item = Bytes>,
) -> (Vec<u8>, HeaderMap) {
    let mut client = client.clone().ready().await.unwrap();
    let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    for piece in pieces {
        // The server may have answered already.
        let _ = body.send_data(piece, false);
    }
    let _ = body.send_data(Bytes::new(), true);
    let (head, mut body) = answer.await.unwrap().into_parts();
    assert_eq!(head.status, 200);
    let mut data = Vec::new();
    rest(&mut body, &mut data).await;
    let mut headers = head.headers;
    headers.extend(body.trailers().await.unwrap().unwrap_or_default());
    (data, headers)
}

/// A put with the prefix of gRPC.
fn framed(value: usize) -> Bytes {
    prefixed(&put("a", vec![b'v'; value]))
}

/// A range over the keys that begin with `k`, likewise.
fn all_k() -> Bytes {
    prefixed(&pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() })
}

fn prefixed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], &message].concat().into()
}

/// 40 keys whose values are larger together than any window.
async fn much(server: &Server) -> KvClient<Channel> {
    let mut kv = KvClient::new(channel(server).await);
    for number in 0..40 {
        kv.put(put(&format!("k{number:02}"), vec![b'v'; 100_000])).await.unwrap();
    }
    kv
}

/// Reads the rest of an answer, and lets more come meanwhile.
async fn rest(body: &mut h2::RecvStream, data: &mut Vec<u8>) {
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        data.extend_from_slice(&chunk);
    }
}

fn code(headers: &HeaderMap) -> &str {
    headers["grpc-status"].to_str().unwrap()
}

#[tokio::test]
async fn it_does_not_matter_how_a_message_arrives() {
    let server = plain().await;
    let client = client(&server).await;
    let whole = framed(100);
    for size in [1, 2, 5, 6, 50, whole.len()] {
        let before = server.store.revision();
        let pieces: Vec<_> = whole.chunks(size).map(Bytes::copy_from_slice).collect();
        let (data, headers) = call(&client, post(PUT), pieces.into_iter()).await;
        assert_eq!(code(&headers), "0", "in pieces of {size}");
        let answer = pb::PutResponse::decode(&data[5..]).unwrap();
        assert_eq!(answer.header.unwrap().revision, i64::try_from(before).unwrap() + 1);
    }
}

#[tokio::test]
async fn broken_messages_are_refused_and_change_nothing() {
    let server = plain().await;
    let client = client(&server).await;
    let whole = framed(10);
    let mut compressed = BytesMut::from(&whole[..]);
    compressed[0] = 1;
    let cases = [
        ("nothing", Bytes::new(), "13"),
        ("half a prefix", whole.slice(..3), "13"),
        ("half a message", whole.slice(..12), "13"),
        ("two", [&whole[..], &whole[..]].concat().into(), "13"),
        ("compressed", compressed.freeze(), "13"),
        ("no message", Bytes::from_static(&[0, 0, 0, 0, 2, 0xff, 0xff]), "13"),
        ("a giant", Bytes::from_static(&[0, 0x7f, 0, 0, 0]), "11"),
    ];
    for (what, bytes, expected) in cases {
        let (data, headers) = call(&client, post(PUT), std::iter::once(bytes)).await;
        assert_eq!((code(&headers), data.len()), (expected, 0), "{what}: {headers:?}");
    }
    assert_eq!(server.store.revision(), 1);
    // Everything unusual takes the other way, and is answered there.
    let unusual = post(PUT).header("grpc-encoding", "gzip");
    let (_, headers) = call(&client, unusual, std::iter::once(whole.clone())).await;
    assert_eq!(code(&headers), "12", "{headers:?}");
    let (_, headers) = call(&client, post("/etcdserverpb.KV/Nothing"), std::iter::once(whole)).await;
    assert_eq!(code(&headers), "12", "{headers:?}");
}

#[tokio::test]
async fn calls_that_are_taken_back_disturb_nobody() {
    let server = plain().await;
    let client = client(&server).await;
    let whole = framed(1000);
    // More of them at a time would be taken for an attack.
    for round in 0..16 {
        let mut ready = client.clone().ready().await.unwrap();
        let (_answer, mut body) = ready.send_request(post(PUT).body(()).unwrap(), false).unwrap();
        if round % 2 == 0 {
            body.send_data(whole.clone(), round % 4 == 0).unwrap();
        }
        body.send_reset(h2::Reason::CANCEL);
    }
    let (_, headers) = call(&client, post(PUT), std::iter::once(whole)).await;
    assert_eq!(code(&headers), "0");
}

#[tokio::test]
async fn pages_are_served_over_http_2_too() {
    let server = plain().await;
    let client = client(&server).await;
    let request = Request::get("http://etcd/version");
    let (data, _) = call(&client, request, std::iter::empty()).await;
    assert!(String::from_utf8(data).unwrap().contains("etcdserver"));
}

#[tokio::test]
async fn an_answer_larger_than_the_windows_arrives_whole() {
    let server = plain().await;
    much(&server).await;
    let client = client(&server).await;
    let (data, headers) = call(&client, post(RANGE), std::iter::once(all_k())).await;
    assert_eq!(code(&headers), "0");
    assert_eq!(pb::RangeResponse::decode(&data[5..]).unwrap().kvs.len(), 40);
}

#[tokio::test]
async fn an_answer_is_of_one_revision_however_slowly_it_is_read() {
    let server = plain().await;
    let mut kv = much(&server).await;
    let client = client(&server).await;
    let (answer, mut body) = client.clone().send_request(post(RANGE).body(()).unwrap(), false).unwrap();
    body.send_data(all_k(), true).unwrap();
    let mut answer = answer.await.unwrap().into_body();
    let first = answer.data().await.unwrap().unwrap();
    for number in 0..40 {
        kv.put(put(&format!("k{number:02}"), "new")).await.unwrap();
    }
    let mut data = first.to_vec();
    answer.flow_control().release_capacity(first.len()).unwrap();
    rest(&mut answer, &mut data).await;
    let page = pb::RangeResponse::decode(&data[5..]).unwrap();
    assert_eq!((page.kvs.len(), page.count), (40, 40));
    assert!(page.kvs.iter().all(|kv| kv.value.len() == 100_000 && kv.version == 1));
    assert_eq!(page.header.unwrap().revision, 41);
}

#[tokio::test]
async fn stopping_ends_open_watches() {
    let server = plain().await;
    let create = pb::WatchCreateRequest { key: "a".into(), ..Default::default() };
    let (_requests, mut responses) = open(&WatchClient::new(channel(&server).await), create).await;
    assert!(responses.message().await.unwrap().unwrap().created);
    server.stop.send(()).unwrap();
    let ended = async {
        while let Ok(Some(_)) = responses.message().await {}
        server.serving.await.unwrap()
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap().unwrap();
}
