//! The handshake's arithmetic, and a tunnel from end to end.

use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[test]
fn the_answer_to_a_key_is_the_rfcs() {
    assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(STANDARD.decode(new_key()).unwrap().len(), 16);
}

#[test]
fn protocols_are_read_from_every_header() {
    let mut headers = HeaderMap::new();
    headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("v5.channel.k8s.io, v4.channel.k8s.io"));
    headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("channel.k8s.io"));
    let all: Vec<&str> = offered(&headers).collect();
    assert_eq!(all, ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"]);
    assert!(!is_wanted(&headers));
    headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
    assert!(is_wanted(&headers));
}

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways_and_their_end() {
    let (near, far) = tokio::io::duplex(1000);
    let near = Tunnel::new(connected(near).await);
    let far = Tunnel::new(accepted(far).await);
    let sent: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    let (mut reader, mut writer) = tokio::io::split(near);
    let echo = async {
        let (mut reader, mut writer) = tokio::io::split(far);
        let mut buffer = vec![0; 70_000];
        loop {
            let length = reader.read(&mut buffer).await.unwrap();
            if length == 0 {
                return;
            }
            writer.write_all(&buffer[..length]).await.unwrap();
            writer.flush().await.unwrap();
        }
    };
    let back = async {
        let mut back = vec![0; sent.len()];
        reader.read_exact(&mut back).await.unwrap();
        back
    };
    let client = async {
        let (back, ()) = tokio::join!(back, async {
            writer.write_all(&sent).await.unwrap();
            writer.flush().await.unwrap();
        });
        assert!(back == sent);
        writer.shutdown().await.unwrap();
    };
    tokio::join!(echo, client);
}

#[tokio::test]
async fn a_tunnel_that_ends_says_that_all_is_well() {
    use futures::StreamExt;

    let (near, far) = tokio::io::duplex(1000);
    let mut near = Tunnel::new(accepted(near).await);
    near.shutdown().await.unwrap();
    let Some(Ok(Message::Close(Some(frame)))) = connected(far).await.next().await else { panic!() };
    assert_eq!(u16::from(frame.code), 1000);
}

#[tokio::test]
async fn a_tunnel_takes_no_text_and_no_giant() {
    use futures::SinkExt;

    let (near, far) = tokio::io::duplex(1000);
    let mut client = connected(near).await;
    client.send(Message::text("hello")).await.unwrap();
    let error = Tunnel::new(accepted(far).await).read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);

    let (mut near, far) = tokio::io::duplex(1000);
    // A masked binary frame that says it has 33 MiB.
    near.write_all(&[0x82, 0xff, 0, 0, 0, 0, 2, 0x10, 0, 0, 1, 2, 3, 4]).await.unwrap();
    let error = Tunnel::new(accepted(far).await).read(&mut [0; 8]).await.unwrap_err();
    assert!(
        error.to_string().to_lowercase().contains("long") || error.to_string().contains("large"),
        "{error}"
    );
}
