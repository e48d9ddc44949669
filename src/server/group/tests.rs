//! What servers say to each other and are named by; whole servers are in `tests/it/servers.rs`.

use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use supervisor::{ConnectionLimits, Supervisor};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::frames::{self, Frame};
use super::join::{authority, is_proof};
use super::port::accept;
use super::{Place, identity_text, parse_identity};

#[test]
fn a_server_is_named_by_a_url() {
    assert_eq!(authority("https://192.0.2.1:6443").unwrap(), "192.0.2.1:6443");
    assert_eq!(authority("https://first.example/").unwrap(), "first.example:6443");
    assert_eq!(authority("https://[2001:db8::1]:7443").unwrap(), "[2001:db8::1]:7443");
    for bad in ["", "192.0.2.1:6443", "http://192.0.2.1", "https://", "https://a/b"] {
        let refused = authority(bad).unwrap_err().to_string();
        assert!(refused.contains("give --server https://HOST:PORT") && !refused.contains('\n'), "{refused}");
    }
}

#[test]
fn identities_and_places_are_read_as_they_are_written() {
    assert_eq!(parse_identity(&identity_text(7)).unwrap(), 7);
    assert!(["", "7", "xyzxyzxyzxyzxyzx"].iter().all(|text| parse_identity(text).is_err()));
    let place = Place { address: "192.0.2.1:6443".into(), name: "one".into() };
    assert_eq!(Place::parse(&place.text()), place);
}

#[test]
fn a_proof_counts_for_one_connection_and_one_token() {
    use base64::Engine;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret");
    let proof = base64::engine::general_purpose::STANDARD.encode(ring::hmac::sign(&key, b"connection"));
    assert!(is_proof("secret", b"connection", &proof));
    assert!(!is_proof("secret", b"another", &proof));
    assert!(!is_proof("other", b"connection", &proof));
    assert!(!is_proof("secret", b"connection", ""));
}

#[tokio::test]
async fn frames_are_bounded_and_come_whole() {
    let (mut here, mut there) = tokio::io::duplex(1 << 16);
    let (send, mut outgoing) = mpsc::unbounded_channel();
    for number in 0..3 {
        send.send(Frame { number, kind: 1, content: Bytes::from(vec![7; 1000]) }).unwrap();
    }
    drop(send);
    frames::write_all(&mut here, &mut outgoing).await.unwrap();
    for number in 0..3 {
        let frame = frames::read(&mut there, 1000).await.unwrap().unwrap();
        assert_eq!((frame.number, frame.kind, frame.content.len()), (number, 1, 1000));
    }
    frames::write(&mut here, &Frame { number: 9, kind: 1, content: Bytes::from(vec![7; 1001]) })
        .await
        .unwrap();
    assert!(frames::read(&mut there, 1000).await.is_err(), "it is too long");
    drop(here);
}

/// While a server waits for its majority nothing but the port's limits bounds those who connect to it.
#[tokio::test]
async fn a_server_that_waits_for_others_takes_no_more_strangers_than_its_limits() {
    let supervisor = Supervisor::new();
    let stage = supervisor.stage("servers");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ConnectionLimits { per_address: 2, ..ConnectionLimits::default() };
    let (begun, mut beginnings) = mpsc::unbounded_channel();
    let accepting = accept(&listener, limits, &stage, move |stream, admission| {
        begun.send(()).unwrap();
        async move {
            let _held = (stream, admission);
            std::future::pending().await
        }
    });
    let strangers = async {
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(TcpStream::connect(address).await.unwrap());
            beginnings.recv().await.unwrap();
        }
        // The oldest gives way.
        let ended = streams[0].read(&mut [0]).await;
        assert!(ended.is_err() || ended.is_ok_and(|bytes| bytes == 0));
        assert_eq!(streams[2].try_read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    };
    tokio::select! {
        never = accepting => match never {},
        done = tokio::time::timeout(Duration::from_secs(60), strangers) => done.unwrap(),
    }
    supervisor.shutdown(Duration::from_secs(10)).await;
}

/// Ends after its bytes, and notes how much room it was given at most.
struct Claims {
    bytes: &'static [u8],
    room: usize,
}

impl AsyncRead for Claims {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        self.room = self.room.max(room.remaining());
        let (now, later) = self.bytes.split_at(self.bytes.len().min(room.remaining()));
        room.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_frame_takes_memory_as_its_bytes_come() {
    let mut stream = Claims { bytes: &[0, 0, 0x10, 0, 1, 2, 3], room: 0 };
    let cut = frames::read(&mut stream, 1 << 20).await.unwrap_err();
    assert_eq!(cut.kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(stream.room <= 64 << 10, "{} bytes for a frame of which three came", stream.room);
}
