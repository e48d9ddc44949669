//! Connections: accept, TLS, HTTP/1.1 or HTTP/2 as negotiated, and their orderly end.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use supervisor::{OnExit, Stage};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::gather::{self, Gathered};
use super::{Peer, handle};
use crate::server::ApiServer;

const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(30);
/// A peer that vanished is noticed by unanswered pings.
const PING: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(15);
const STREAMS: u32 = 1000;
/// How long a stopping server waits for requests under way.
const DRAIN: Duration = Duration::from_secs(5);
/// After a failed accept (out of file descriptors) the next try waits for a connection to end, or this long.
const BREATH: Duration = Duration::from_millis(100);

pub(crate) fn serve(
    server: &Arc<ApiServer>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    stage: &Stage,
) {
    let server = server.clone();
    let acceptor = TlsAcceptor::from(with_protocols(tls));
    let connections = stage.clone();
    stage.spawn_cancellable("API server port", OnExit::Stop, async move {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let task =
                        connection(server.clone(), acceptor.clone(), stream, address, connections.clone());
                    connections.spawn("API server connection", OnExit::Done, task);
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(BREATH).await;
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

async fn connection(
    server: Arc<ApiServer>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    stage: Stage,
) {
    let stopping = stage.stopping();
    let _ = stream.set_nodelay(true);
    let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
    let stream = tokio::select! {
        () = stopping.cancelled() => return,
        done = handshake => match done {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%address, %error, "TLS handshake failed");
                return;
            }
            Err(_) => return,
        },
    };
    let session = stream.get_ref().1;
    let http2 = session.alpn_protocol() == Some(b"h2");
    let certificate = match session.peer_certificates() {
        Some(chain) => server.registry.authenticator.certificate(chain).ok().map(Arc::new),
        None => None,
    };
    let peer = Arc::new(Peer { certificate, address, stopping: stopping.clone() });
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(handle(server, peer, request.map(Body::new)).await) }
    });
    if http2 {
        let stream = Gathered::new(stream);
        let connection = hyper::server::conn::http2::Builder::new(InStage(stage))
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING_ANSWER)
            .max_send_buf_size(256 * 1024)
            .serve_connection(TokioIo::new(stream.clone()), service);
        tokio::pin!(connection);
        tokio::select! {
            done = gather::drive(connection.as_mut(), &stream) => return log_end(address, done),
            () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        if let Ok(done) = tokio::time::timeout(DRAIN, gather::drive(connection, &stream)).await {
            log_end(address, done);
        }
    } else {
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        tokio::select! {
            done = connection.as_mut() => return log_end(address, done),
            () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        if let Ok(done) = tokio::time::timeout(DRAIN, connection).await {
            log_end(address, done);
        }
    }
}

fn log_end(address: SocketAddr, done: Result<(), impl std::fmt::Display>) {
    if let Err(error) = done {
        tracing::debug!(%address, %error, "connection ended");
    }
}

/// Runs the streams of HTTP/2 connections as tasks of the stage.
#[derive(Clone)]
struct InStage(Stage);

impl<F> hyper::rt::Executor<F> for InStage
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn("API server stream", OnExit::Done, stream);
    }
}
