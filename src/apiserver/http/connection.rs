//! Connections: accept within bounds, TLS, HTTP/1.1 or HTTP/2 as negotiated, and their end: the client's, the
//! server's, or because nothing comes of them.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use futures::FutureExt;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use supervisor::{Admission, ConnectionLimiter, OnExit, Stage, Standing, WriteTimeout};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::gather::{self, Gathered};
use super::handle;
use super::peer::{Peer, Vitals, standing};
use super::reply::Streams;
use super::unread;
use crate::limits::Timeouts;
use crate::protocols::{OtherProtocols, OtherStream};
use crate::server::ApiServer;

/// A peer that vanished is noticed by unanswered pings.
const PING: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(15);
/// Streams of a connection: nodes have one connection for all their watches.
const STREAMS: u32 = 500;
const STREAMS_RESERVED: u32 = 1000;
/// What a client may send before it is read: a stream's share, and the connection's as a whole.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Where many streams are let in, the bodies that wait on all of them fit: a client whose window is used up
/// sends in pieces of a few bytes, and too many of those end the connection.
const CONNECTION_WINDOW_RESERVED: u32 = 4 << 20;
/// What a stream may have waiting to be sent.
const SEND_BUFFER: usize = 64 * 1024;
/// What a client of HTTP/2 sends first.
const PREFACE: usize = 24;
/// How long a stopping server waits for requests under way.
const DRAIN: Duration = Duration::from_secs(5);
/// After a failed accept (out of file descriptors) the next try waits for a connection to end, or this long.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Whose connections they are, for the limits of the port.
const OTHER_USER: &str = "system:minik8s:server";

pub(crate) fn serve(
    server: &Arc<ApiServer>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    stage: &Stage,
) {
    let server = server.clone();
    let acceptor =
        Acceptor { http: with_protocols(tls), other: server.registry.config.other_protocols.clone() };
    let limiter = ConnectionLimiter::new(server.registry.config.limits.connections);
    let connections = stage.clone();
    stage.spawn_cancellable("API server port", OnExit::Stop, async move {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let Some(admission) = limiter.admit(address.ip()) else {
                        tracing::debug!(%address, "connection refused: every place is taken");
                        continue;
                    };
                    let new = New { stream, address, admission, stage: connections.clone() };
                    let task = connection(server.clone(), acceptor.clone(), new);
                    connections.spawn("API server connection", OnExit::Done, task);
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    });
}

fn with_protocols(tls: Arc<rustls::ServerConfig>) -> Arc<rustls::ServerConfig> {
    if !tls.alpn_protocols.is_empty() {
        return tls;
    }
    let mut tls = (*tls).clone();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(tls)
}

/// Finishes handshakes, for whichever protocol the client asks.
#[derive(Clone)]
struct Acceptor {
    http: Arc<rustls::ServerConfig>,
    other: Option<Arc<dyn OtherProtocols>>,
}

enum Accepted {
    Http(TlsStream<WriteTimeout<TcpStream>>),
    Other(Arc<dyn OtherProtocols>, OtherStream),
}

impl Acceptor {
    async fn accept(&self, stream: WriteTimeout<TcpStream>) -> io::Result<Accepted> {
        let Some(other) = &self.other else {
            return TlsAcceptor::from(self.http.clone()).accept(stream).await.map(Accepted::Http);
        };
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        let tls = other.tls(&start.client_hello());
        match tls {
            Some(tls) => Ok(Accepted::Other(other.clone(), start.into_stream(tls).await?)),
            None => start.into_stream(self.http.clone()).await.map(Accepted::Http),
        }
    }
}

/// A connection as it was accepted.
struct New {
    stream: TcpStream,
    address: SocketAddr,
    admission: Admission,
    stage: Stage,
}

async fn connection(server: Arc<ApiServer>, acceptor: Acceptor, new: New) {
    let New { stream, address, admission, stage } = new;
    let (stopping, cut) = (stage.stopping(), admission.cut());
    let timeouts = server.registry.config.limits.timeouts;
    let vitals = Arc::new(Vitals::default());
    let _ = stream.set_nodelay(true);
    let stream = WriteTimeout::new(stream, timeouts.stalled, vitals.unhurried.clone());
    let mut cut = std::pin::pin!(cut);
    let handshake = tokio::time::timeout(timeouts.handshake, acceptor.accept(stream));
    let stream = tokio::select! {
        () = stopping.cancelled() => return,
        () = &mut cut => return,
        done = handshake => match done {
            Ok(Ok(Accepted::Http(stream))) => stream,
            Ok(Ok(Accepted::Other(other, stream))) => {
                if !stream.get_ref().1.peer_certificates().is_none_or(<[_]>::is_empty) {
                    admission.identify(OTHER_USER, Standing::Reserved);
                }
                tokio::select! {
                    () = stopping.cancelled() => {}
                    () = &mut cut => {}
                    () = other.serve(stream) => {}
                }
                return;
            }
            Ok(Err(error)) => {
                tracing::debug!(%address, %error, "TLS handshake failed");
                return;
            }
            Err(_) => return,
        },
    };
    let session = stream.get_ref().1;
    let http2 = session.alpn_protocol() == Some(b"h2");
    let certificate =
        session.peer_certificates().and_then(|chain| server.registry.authenticator.certificate(chain).ok());
    if let Some(certificate) = &certificate {
        let user = &certificate.identity;
        if !admission.identify(&user.name, standing(user)) {
            tracing::debug!(%address, user = user.name, "connection refused: its user has too many, or the port");
            return;
        }
    }
    let peer = Arc::new(Peer {
        certificate,
        address,
        stopping: stopping.clone(),
        admission: Some(admission),
        vitals,
    });
    // A connection that gives way to others is dropped at once.
    tokio::select! {
        () = &mut cut => tracing::debug!(%address, "connection gives way to others"),
        () = async {
            match http2 {
                true => http_2(server, peer, stream, stage).await,
                false => http_1(server, peer, stream).await,
            }
        } => {}
    }
}

async fn http_2(
    server: Arc<ApiServer>,
    peer: Arc<Peer>,
    stream: TlsStream<WriteTimeout<TcpStream>>,
    stage: Stage,
) {
    let timeouts = server.registry.config.limits.timeouts;
    let stream = Gathered::new(stream);
    let known = peer.certificate.as_ref().map(|certificate| standing(&certificate.identity));
    let (streams, window) = match known {
        Some(Standing::Reserved) => (STREAMS_RESERVED, CONNECTION_WINDOW_RESERVED),
        _ => (STREAMS, CONNECTION_WINDOW),
    };
    let service = service_of(server, peer.clone());
    let connection = hyper::server::conn::http2::Builder::new(Streams { stage, timeouts })
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING_ANSWER)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(stream.clone()), service);
    let mut connection = std::pin::pin!(connection);
    let received = stream.clone();
    tokio::select! {
        biased;
        done = gather::drive(connection.as_mut(), &stream) => return log_end(peer.address, done),
        () = peer.stopping.cancelled() => {}
        end = over(&peer, timeouts, move || received.received() >= PREFACE) => match end {
            End::Silent => return,
            End::Idle | End::Expired => {}
        },
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(done) = tokio::time::timeout(DRAIN, gather::drive(connection, &stream)).await {
        log_end(peer.address, done);
    }
}

async fn http_1(server: Arc<ApiServer>, peer: Arc<Peer>, stream: TlsStream<WriteTimeout<TcpStream>>) {
    let timeouts = server.registry.config.limits.timeouts;
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.headers)
        .serve_connection(TokioIo::new(stream), service_of_http_1(server, peer.clone()))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        done = connection.as_mut() => return log_end(peer.address, done),
        () = peer.stopping.cancelled() => {}
        _ = over(&peer, timeouts, || true) => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(done) = tokio::time::timeout(DRAIN, connection).await {
        log_end(peer.address, done);
    }
}

/// The same for a protocol where a body that nobody reads is in the way of the next request.
fn service_of_http_1(
    server: Arc<ApiServer>,
    peer: Arc<Peer>,
) -> impl hyper::service::HttpService<
    Incoming,
    ResBody = super::reply::Reply,
    Error = Infallible,
    Future: Future<Output = Result<http::Response<super::reply::Reply>, Infallible>> + Send + 'static,
> {
    service_fn(move |request: Request<Incoming>| {
        let (server, peer) = (server.clone(), peer.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let (body, unread) = unread::lend(body, &parts.headers);
            let answer = handle(server, peer, Request::from_parts(parts, body)).await;
            Ok::<_, Infallible>(unread.settle(answer).await)
        })
    })
}

fn service_of(
    server: Arc<ApiServer>,
    peer: Arc<Peer>,
) -> impl hyper::service::HttpService<
    Incoming,
    ResBody = super::reply::Reply,
    Error = Infallible,
    Future: Future<Output = Result<http::Response<super::reply::Reply>, Infallible>> + Send + 'static,
> {
    service_fn(move |request: Request<Incoming>| {
        let (server, peer) = (server.clone(), peer.clone());
        // On the heap from the start: hyper and the runtime move what they hold, and this is large.
        Box::pin(handle(server, peer, request.map(Body::new)).map(Ok::<_, Infallible>))
    })
}

/// Why a connection is ended from this side.
enum End {
    /// TLS has agreed on HTTP/2, and nothing came of it.
    Silent,
    /// There has been no request for long.
    Idle,
    /// The certificate that the client showed is no longer good.
    Expired,
}

/// Completes when a connection is to end. Looks rarely: when something can be due.
async fn over(peer: &Peer, timeouts: Timeouts, has_begun: impl Fn() -> bool) -> End {
    let begun = Instant::now();
    tokio::time::sleep(timeouts.preface).await;
    if !has_begun() {
        return End::Silent;
    }
    loop {
        let mut next = match peer.vitals.idle_for(begun.elapsed()) {
            None => timeouts.idle,
            Some(idle) if idle >= timeouts.idle => return End::Idle,
            Some(idle) => timeouts.idle - idle,
        };
        if let Some(certificate) = &peer.certificate {
            match certificate.remaining(SystemTime::now()) {
                None => return End::Expired,
                Some(left) => next = next.min(left),
            }
        }
        tokio::time::sleep(next).await;
    }
}

fn log_end(address: SocketAddr, done: Result<(), impl std::fmt::Display>) {
    if let Err(error) = done {
        tracing::debug!(%address, %error, "connection ended");
    }
}
