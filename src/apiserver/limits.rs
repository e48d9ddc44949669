//! What clients may hold of a server, and for how long. Defaults are upstream's where it has any.

use std::time::Duration;

use supervisor::ConnectionLimits;

/// Bytes of the largest body that is read, as upstream's.
pub(crate) const LARGEST_BODY: usize = 3 * 1024 * 1024;

#[derive(Clone, Debug)]
pub struct Limits {
    pub connections: ConnectionLimits,
    /// Requests that only read, at a time (`--max-requests-inflight`).
    pub requests: usize,
    /// Requests that change something, at a time (`--max-mutating-requests-inflight`).
    pub mutating_requests: usize,
    /// Watches, logs and other requests without an end, of one user.
    pub streams_per_user: usize,
    pub timeouts: Timeouts,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: ConnectionLimits::default(),
            requests: 400,
            mutating_requests: 200,
            streams_per_user: 2000,
            timeouts: Timeouts::default(),
        }
    }
}

/// How long the server waits for its clients.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a TLS handshake.
    pub handshake: Duration,
    /// For the first bytes of HTTP/2, once TLS has agreed on it.
    pub preface: Duration,
    /// For the headers of a request of HTTP/1.1, the first or the next.
    pub headers: Duration,
    /// For the next request of HTTP/2 on a connection without any.
    pub idle: Duration,
    /// For a client to read something of what it asked for.
    pub stalled: Duration,
    /// The same for logs and what is handed on to nodes: people page through them.
    pub stalled_log: Duration,
    /// For a request's turn among the others.
    pub queued: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            handshake: Duration::from_secs(10),
            preface: Duration::from_secs(10),
            headers: Duration::from_secs(32),
            idle: Duration::from_secs(90),
            stalled: Duration::from_secs(30),
            stalled_log: Duration::from_secs(900),
            queued: Duration::from_secs(15),
        }
    }
}
