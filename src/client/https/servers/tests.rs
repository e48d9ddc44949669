//! The order in which servers are tried, and what becomes of connections to one that is given up.

use std::convert::Infallible;

use tokio::io::AsyncReadExt;

use super::*;

fn servers(names: &[&str]) -> Arc<Servers> {
    Servers::new(names.iter().map(|name| name.to_string()))
}

/// Tries them; those that are named here answer, the others refuse.
async fn connect(servers: &Servers, answering: &[&str]) -> Option<String> {
    let dial = |address: String| async move {
        if answering.contains(&address.as_str()) { Ok(address) } else { Err(()) }
    };
    servers.connect(dial).await.ok().map(|(address, _)| address)
}

#[tokio::test]
async fn a_client_stays_with_what_works() {
    let known = servers(&["a", "b", "c"]);
    assert_eq!(connect(&known, &["a", "b", "c"]).await.as_deref(), Some("a"));
    assert_eq!(connect(&known, &["c"]).await.as_deref(), Some("c"));
    assert_eq!(known.current().as_deref(), Some("c"));
    // The others have failed; the one that works is first even when they are back.
    assert_eq!(connect(&known, &["a", "b", "c"]).await.as_deref(), Some("c"));
    assert_eq!(known.in_order(), ["c", "a", "b"], "those that failed longest ago are next");
    assert_eq!(connect(&known, &[]).await, None);
    assert_eq!(connect(&known, &["b"]).await.as_deref(), Some("b"));
    // What is known of servers that stay is kept.
    known.set(["c", "d", "b", "d"].map(str::to_string));
    assert_eq!(known.in_order(), ["b", "d", "c"]);
    assert_eq!(connect(&servers(&[]), &["a"]).await, None);
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_answer_is_not_waited_for_alone() {
    let known = servers(&["silent", "dead", "works"]);
    let dial = |address: String| async move {
        match address.as_str() {
            "silent" => std::future::pending().await,
            "works" => Ok::<_, &str>(address),
            _ => Err("refused"),
        }
    };
    let began = tokio::time::Instant::now();
    let (address, _) = known.connect(dial).await.unwrap();
    assert_eq!((address.as_str(), began.elapsed()), ("works", HEAD_START));
    assert_eq!(known.in_order()[0], "works");
    let began = tokio::time::Instant::now();
    known.connect(dial).await.unwrap();
    assert!(began.elapsed().is_zero(), "the slow one is known");
}

#[tokio::test]
async fn connections_to_one_that_is_given_up_end() {
    let known = servers(&["a", "b"]);
    let dial = |_| async { Ok::<_, Infallible>(tokio::io::duplex(8)) };
    let ((near, _far), connections) = known.connect(dial).await.unwrap();
    let mut near = Severable::new(Box::new(near), connections);
    let reading = async { near.read_u8().await.map_err(|error| error.kind()) };
    let giving_up = async {
        tokio::task::yield_now().await;
        known.give_up("b");
        tokio::task::yield_now().await;
        known.give_up("a");
    };
    let (read, ()) = tokio::join!(reading, giving_up);
    assert_eq!(read.unwrap_err(), io::ErrorKind::ConnectionAborted);
    assert_eq!(known.in_order(), ["b", "a"]);
}
