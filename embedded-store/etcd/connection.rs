//! One connection: HTTP/2 with its calls, or HTTP/1.1 for `/metrics` and its like.
//!
//! The task of the connection answers the calls of the KV service itself: no task, no lock and no switch of
//! threads for each of them. All other calls are tasks of the shared runtime, and end with their connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Turn, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use h2::server::{Builder, SendResponse};
use h2::{Ping, PingPong, RecvStream};
use http::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, timeout};

use super::server::ConnectionContext;
use super::transport::{HANDSHAKE_TIMEOUT, Repaired, Socket};
use super::{bridge, unary};

/// Calls at a time on one connection, watches included; more of them wait.
const CALLS: u32 = 256;
/// Bytes of all headers of a call.
const LARGEST_HEADERS: u32 = 64 * 1024;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves a client until it goes, does not answer any more or `stopping` changes.
pub(super) async fn serve(
    mut socket: Repaired<Socket>,
    context: Arc<ConnectionContext>,
    mut stopping: watch::Receiver<()>,
) {
    let begun = tokio::select! {
        begun = timeout(HANDSHAKE_TIMEOUT, socket.speaks_http2()) => begun,
        _ = stopping.changed() => return,
    };
    match begun {
        Ok(Ok(true)) => http2(socket, context, stopping).await,
        Ok(Ok(false)) => {
            let mut elsewhere = JoinSet::new();
            elsewhere.spawn_on(http1(socket, Arc::clone(&context), stopping), &context.runtime);
            elsewhere.join_next().await;
        }
        Ok(Err(_)) | Err(_) => {}
    }
}

async fn http1(socket: Repaired<Socket>, context: Arc<ConnectionContext>, mut stopping: watch::Receiver<()>) {
    let services = TowerToHyperService::new(context.services.clone());
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT)
        .serve_connection(TokioIo::new(socket), services);
    tokio::select! {
        ended = connection => {
            if let Err(e) = ended {
                tracing::debug!("a connection of the etcd API: {e}");
            }
        }
        _ = stopping.changed() => {}
    }
}

async fn http2(socket: Repaired<Socket>, context: Arc<ConnectionContext>, mut stopping: watch::Receiver<()>) {
    let mut settings = Builder::new();
    settings
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(LARGEST_HEADERS)
        .max_concurrent_streams(CALLS);
    let mut inner = match timeout(HANDSHAKE_TIMEOUT, settings.handshake(socket)).await {
        Ok(Ok(inner)) => inner,
        Ok(Err(e)) => {
            tracing::debug!("a connection of the etcd API: {e}");
            return;
        }
        Err(_) => return,
    };
    let mut connection = Connection {
        keepalive: Keepalive::new(inner.ping_pong()),
        inner,
        calls: FuturesUnordered::new(),
        tasks: JoinSet::new(),
        context,
    };
    tokio::select! {
        ended = std::future::poll_fn(|cx| connection.poll(cx)) => return ended,
        _ = stopping.changed() => {}
    }
    connection.inner.graceful_shutdown();
    std::future::poll_fn(|cx| connection.poll(cx)).await;
}

struct Connection {
    inner: h2::server::Connection<Repaired<Socket>, Bytes>,
    /// Answered here.
    calls: FuturesUnordered<BoxFuture<'static, ()>>,
    /// Answered elsewhere.
    tasks: JoinSet<()>,
    keepalive: Keepalive,
    context: Arc<ConnectionContext>,
}

impl Connection {
    fn poll(&mut self, cx: &mut Turn<'_>) -> Poll<()> {
        loop {
            // Answers first: what they give the connection to write is written right after.
            while let Poll::Ready(Some(())) = self.calls.poll_next_unpin(cx) {}
            while let Poll::Ready(Some(_)) = self.tasks.poll_join_next(cx) {}
            match self.inner.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.take(request, respond),
                Poll::Ready(Some(Err(e))) => {
                    tracing::debug!("a connection of the etcd API: {e}");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return self.keepalive.poll(cx),
            }
        }
    }

    fn take(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        match unary::Method::of(&request) {
            Some(method) => {
                let call = unary::answer(method, Arc::clone(&self.context), request.into_body(), respond);
                self.calls.push(call.boxed());
            }
            None => {
                let call = bridge::answer(self.context.services.clone(), request, respond);
                self.tasks.spawn_on(call, &self.context.runtime);
            }
        }
    }
}

/// Finds out that a client is gone although its connection was never closed.
struct Keepalive {
    pings: Option<PingPong>,
    timer: Pin<Box<Sleep>>,
    /// A ping is not answered yet.
    waiting: bool,
}

impl Keepalive {
    fn new(pings: Option<PingPong>) -> Self {
        let timer = Box::pin(tokio::time::sleep(KEEPALIVE_INTERVAL));
        Keepalive { pings, timer, waiting: false }
    }

    /// Ready when the client does not answer.
    fn poll(&mut self, cx: &mut Turn<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        loop {
            if self.waiting {
                match pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        self.waiting = false;
                        self.timer.as_mut().reset(Instant::now() + KEEPALIVE_INTERVAL);
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            if self.timer.as_mut().poll_unpin(cx).is_pending() {
                return Poll::Pending;
            }
            if self.waiting || pings.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.waiting = true;
            self.timer.as_mut().reset(Instant::now() + KEEPALIVE_TIMEOUT);
        }
    }
}
#[cfg(test)]
mod tests;
