//! What comes over a WebSocket instead of an answer.

use client::streams::websocket::{self, Message};
use futures::StreamExt;

use super::*;

#[tokio::test]
async fn a_log_can_be_followed_over_a_websocket() {
    let h = start().await;
    let peer = Arc::new(Peer::in_process(Some(master()), Default::default()));
    let path = "/api/v1/namespaces/default/pods/p/log?container=c";
    let mut response = upgrade(&h, &peer, "GET", path).await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-accept"], websocket::accept_key(b"the key"));
    let stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut socket = websocket::connected(stream).await;
    let first = socket.next().await.unwrap().unwrap();
    assert_eq!(first, Message::Binary("GET /containerLogs/default/p/c".into()));
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(Some(_))))), "it ends with the log");
    // A refusal stays an answer.
    let refused = upgrade(&h, &peer, "GET", &path.replace("=c", "=waiting")).await;
    assert_eq!(refused.status(), 400);
    h.stop().await;
}

#[tokio::test]
async fn a_watch_can_be_followed_over_a_websocket() {
    let h = start().await;
    h.config_map("a").await;
    let large = json!({ "metadata": { "name": "b" }, "data": { "k": "v".repeat(300 * 1024) } });
    h.create(&api::kinds::CONFIG_MAP, Some("default"), large).await;
    let peer = Arc::new(Peer::in_process(Some(master()), Default::default()));
    let path = "/api/v1/namespaces/default/configmaps?watch=true";
    let mut response = upgrade(&h, &peer, "GET", path).await;
    assert_eq!(response.status(), 101);
    let stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut socket = websocket::connected(stream).await;
    for name in ["a", "b"] {
        let Message::Text(event) = socket.next().await.unwrap().unwrap() else { panic!("no text") };
        let event: serde_json::Value = serde_json::from_str(&event).unwrap();
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!(name)));
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(rest)) = socket.next().await {
        assert!(matches!(rest, Message::Close(_)), "it ends when the client goes");
    }
    // A refusal stays an answer.
    let refused = upgrade(&h, &peer, "GET", &path.replace("true", "true&resourceVersion=x")).await;
    assert_eq!(refused.status(), 400);
    h.stop().await;
}
