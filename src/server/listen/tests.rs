//! The backlog of a listener.

use std::net::TcpStream;
use std::time::Duration;

use super::*;

#[tokio::test]
async fn hundreds_may_dial_before_anybody_is_accepted() {
    let longest: usize =
        std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    // A connection that the kernel drops is tried again after a second.
    let timeout = Duration::from_millis(900);
    let dial = move || (0..400.min(longest)).map(|_| TcpStream::connect_timeout(&address, timeout)).collect();
    let connections: Vec<_> = tokio::task::spawn_blocking(dial).await.unwrap();
    assert!(connections.iter().all(Result::is_ok));
}
