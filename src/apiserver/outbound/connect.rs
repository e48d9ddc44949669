//! Connections for the HTTP client: TCP to a host or to an endpoint of a service, TLS on it.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use client::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rand::seq::SliceRandom;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::resolve::{Addresses, addresses};
use crate::cache::Caches;

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: Arc<ClientConfig>,
    caches: Arc<Caches>,
}

/// A connection with TLS.
pub(crate) struct Stream(TokioIo<TlsStream<TcpStream>>);

impl Connector {
    pub(super) fn new(tls: Arc<ClientConfig>, caches: Arc<Caches>) -> Self {
        Connector { tls, caches }
    }

    async fn dial(self, uri: Uri) -> io::Result<Stream> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(443);
        let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
        let tcp = self.reach(host, port).await?;
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(self.tls).connect(name, tcp).await.map_err(|error| {
            io::Error::new(error.kind(), format!("tls: failed to verify certificate: {error}"))
        })?;
        Ok(Stream(TokioIo::new(tls)))
    }

    async fn reach(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let dialled = |address: &dyn std::fmt::Display, error: io::Error| {
            io::Error::new(error.kind(), format!("dial tcp {address}: connect: {}", plain(&error)))
        };
        let outside = async |host: &str, port: u16| {
            let connected = TcpStream::connect((host, port)).await;
            connected.map_err(|error| dialled(&format!("{host}:{port}"), error))
        };
        let Some((name, namespace)) = service_of(host) else { return outside(host, port).await };
        let mut found = match addresses(&*self.caches, namespace, name, port).map_err(io::Error::other)? {
            Addresses::External(host, port) => return outside(&host, port).await,
            Addresses::Endpoints(found) => found,
        };
        found.shuffle(&mut rand::rng());
        let mut last = None;
        for address in found {
            match TcpStream::connect(address).await {
                Ok(tcp) => return Ok(tcp),
                Err(error) => last = Some(dialled(&address, error)),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("no address")))
    }
}

/// The words of the operating system without the number that Rust adds.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_string(),
        _ => error.to_string(),
    }
}

/// `NAME.NAMESPACE.svc`.
fn service_of(host: &str) -> Option<(&str, &str)> {
    let (name, namespace) = host.strip_suffix(".svc")?.split_once('.')?;
    (!namespace.contains('.')).then_some((name, namespace))
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Stream>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(context)
    }
}
