//! Bodies of requests that are refused before they are read, on HTTP/1.1.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const PATH: &str = "/api/v1/namespaces/default/configmaps";

/// The head of an answer, in lower case; its body is read and dropped.
async fn answer(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    head
}

fn post(length: usize, more: &str) -> String {
    format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn a_refused_request_with_a_small_body_leaves_the_connection_usable() {
    let served = Served::start(&["http/1.1"]).await;
    let mut stream = served.dial(None, "http/1.1").await;
    for _ in 0..3 {
        // More than one read brings: whoever refuses it has not seen the end of the body.
        stream.write_all(post(200_000, "").as_bytes()).await.unwrap();
        stream.write_all(&vec![b' '; 200_000]).await.unwrap();
        let head = answer(&mut stream).await;
        assert!(head.starts_with("http/1.1 403") && !head.contains("connection: close"), "{head}");
    }
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(answer(&mut stream).await.starts_with("http/1.1 200"));
    served.harness.stop().await;
}

#[tokio::test]
async fn what_is_not_read_is_told_by_closing() {
    let served = Served::start(&["http/1.1"]).await;
    // Too large, kept back until told to go on, and never sent.
    for head in [post(2_000_000, ""), post(100, "expect: 100-continue\r\n"), post(100, "")] {
        let mut stream = served.dial(None, "http/1.1").await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let told = answer(&mut stream).await;
        assert!(told.starts_with("http/1.1 403") && told.contains("connection: close"), "{told}");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
    served.harness.stop().await;
}
