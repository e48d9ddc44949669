//! Hooks that are not commands: a request to a listener on loopback, and sleep.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;
use crate::testing::TestNode;

async fn run_on(node: &TestNode, handler: Value, limit: Option<Duration>) -> Result<(), HookError> {
    let handler: LifecycleHandler = serde_json::from_value(handler).unwrap();
    let container = Container { name: "a".into(), ..Container::default() };
    run(&*node.runtime, &handler, &container, "a", None, limit).await
}

#[tokio::test]
async fn a_request_has_no_limit_and_any_answer_is_good() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let length = stream.read(&mut asked).await.unwrap();
        stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
        String::from_utf8_lossy(&asked[..length]).into_owned()
    };
    let node = TestNode::new();
    let hook = json!({"httpGet": {"path": "/warm?up=1", "port": port, "host": "127.0.0.1"}});
    let (ran, asked) = tokio::join!(run_on(&node, hook, None), server);
    ran.unwrap();
    assert!(asked.starts_with("GET /warm?up=1 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_ascii_lowercase().contains("user-agent: kube-lifecycle/1.36\r\n"), "{asked}");
}

#[tokio::test]
async fn a_request_that_reaches_nobody_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let hook = json!({"httpGet": {"path": "/", "port": port, "host": "127.0.0.1"}});
    let error = run_on(&TestNode::new(), hook, None).await.unwrap_err().to_string();
    assert!(error.contains("connection refused"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn sleep_takes_its_time_or_what_there_is() {
    let node = TestNode::new();
    let took = async |limit| {
        let began = Instant::now();
        run_on(&node, json!({"sleep": {"seconds": 7}}), limit).await.unwrap();
        began.elapsed().as_secs()
    };
    assert_eq!(took(None).await, 7);
    assert_eq!(took(Some(Duration::from_secs(3))).await, 3);
}
