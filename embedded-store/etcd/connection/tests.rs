//! Keepalive, on a clock that the test turns.

use std::future::poll_fn;

use tokio::time::Duration;

use super::*;

/// A connection in memory; the client's end does nothing unless it is polled.
async fn pair() -> (
    h2::server::Connection<tokio::io::DuplexStream, Bytes>,
    h2::client::Connection<tokio::io::DuplexStream>,
    h2::client::SendRequest<Bytes>,
) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (server, client) = tokio::join!(h2::server::handshake(near), h2::client::handshake(far));
    let (requests, client) = client.unwrap();
    (server.unwrap(), client, requests)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_is_gone() {
    let (mut server, _client, _requests) = pair().await;
    let mut keepalive = Keepalive::new(server.ping_pong());
    let started = Instant::now();
    poll_fn(|cx| {
        assert!(server.poll_accept(cx).is_pending());
        keepalive.poll(cx)
    })
    .await;
    let took = started.elapsed();
    let expected = KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT;
    assert!(took >= expected && took < expected + Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_client_that_answers_stays() {
    let (mut server, mut client, _requests) = pair().await;
    let mut keepalive = Keepalive::new(server.ping_pong());
    let both = poll_fn(|cx| {
        assert!(client.poll_unpin(cx).is_pending());
        assert!(server.poll_accept(cx).is_pending());
        keepalive.poll(cx)
    });
    timeout(Duration::from_secs(600), both).await.expect_err("it is not given up");
}
