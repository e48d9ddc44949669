//! Many clients at once: those that belong together pass, those that flood keep nobody out.

use std::time::Instant;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use supervisor::ConnectionLimits;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_watchers_and_sixty_four_writers_of_one_user_pass() {
    let served = Served::start(&["h2"]).await;
    // Ordinary, but allowed to.
    let role = json!({ "metadata": { "name": "writer" }, "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "writer" }] });
    served.harness.create(&api::kinds::ROLE_BINDING, HERE, role).await;
    let shown = Arc::new(served.certificate("writer", "people", Duration::from_secs(600)));
    let served = Arc::new(served);
    let (mut connections, mut watchers, mut writers) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for _ in 0..300 {
        let mut client = served.http2(Some(&shown), &mut connections).await;
        let uri = format!("{}/api/v1/namespaces/default/configmaps?watch=true", served.url);
        watchers.spawn(async move {
            let response = client.send_request(Request::get(uri).body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), 200);
            let (mut body, mut seen) = (response.into_body(), 0);
            while seen < 64 * 3 {
                let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
                seen += data.iter().filter(|byte| **byte == b'\n').count();
            }
        });
    }
    for writer in 0..64 {
        let mut client = served.http2(Some(&shown), &mut connections).await;
        let uri = format!("{}/api/v1/namespaces/default/configmaps", served.url);
        writers.spawn(async move {
            for n in 0..3 {
                let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("w{writer}-{n}") } });
                let request = Request::post(&uri).header("content-type", "application/json");
                let response = client.send_request(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
                assert_eq!(response.status(), 201);
            }
        });
    }
    let all = async {
        while let Some(done) = writers.join_next().await {
            done.unwrap();
        }
        while let Some(done) = watchers.join_next().await {
            done.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all).await.expect("everybody is served");
    Arc::into_inner(served).unwrap().harness.stop().await;
}

#[tokio::test]
async fn silent_connections_keep_nobody_out_and_a_user_has_a_bound() {
    let limits = Limits {
        connections: ConnectionLimits { total: 40, reserved: 4, per_address: 30, per_user: 5 },
        ..Limits::default()
    };
    let served = Served::within(&["h2"], limits).await;
    let shown = served.certificate("eve", "people", Duration::from_secs(600));
    let mut tasks = JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(served.http2(Some(&shown), &mut tasks).await);
    }
    let mut one_more = served.dial(Some(&shown), "h2").await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), one_more.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the sixth connection of a user is closed");
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    let begun = Instant::now();
    let admin = served.certificate("admin", "system:masters", Duration::from_secs(600));
    let mut client = served.http2(Some(&admin), &mut tasks).await;
    let request = || Request::get(format!("{}/version", served.url)).body(Body::empty()).unwrap();
    assert_eq!(client.send_request(request()).await.unwrap().status(), 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "long before the silent ones are late");
    for client in &mut clients {
        // Known users are not disturbed.
        assert_eq!(client.send_request(request()).await.unwrap().status(), 200);
    }
    served.harness.stop().await;
}
