//! Connections: dialling with TLS, lanes of HTTP clients, and the errors of a request that got no answer.

use std::error::Error as StdError;
use std::io;
use std::io::ErrorKind::{self, InvalidInput, NotFound};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client, Error as LegacyError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::credentials::CredentialError;
use super::proxy::Proxy;
use super::servers::{Servers, Severable};
use super::tls::{TlsError, server_name};
use crate::{BoxFuture, ByteStream};

/// Streams per connection. Servers allow 100 or more (upstream's API server 100, hyper 200).
const STREAMS_PER_LANE: usize = 80;
/// A connection on which nothing arrives for this long is pinged, and dropped if the ping is not answered in
/// time.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// What may be under way unread: enough for lists of megabytes at full speed. The HTTP/2 library's tolerance
/// for many small frames that wait to be read (a burst of watch events) grows with the connection's window.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Why a request got no answer. A server that answered, whatever it said, is not an error here.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("cannot connect to {server}: {source}")]
    Connect { server: String, source: io::Error },
    #[error("TLS with {server} failed: {source}")]
    Tls { server: String, source: io::Error },
    #[error("connecting to {server} took longer than {limit:?}")]
    ConnectTimeout { server: String, limit: Duration },
    #[error("no answer from {server} within {limit:?}")]
    Timeout { server: String, limit: Duration },
    #[error("the connection to {server} was lost: {source}")]
    Lost { server: String, source: Box<dyn StdError + Send + Sync> },
    #[error("reading the token file {}: {source}", .path.display())]
    TokenFile { path: PathBuf, source: io::Error },
    #[error("{source}")]
    Credentials { source: CredentialError },
    #[error("the request cannot be sent: {source}")]
    Invalid { source: http::Error },
}

/// What dialling fails with; travels through the HTTP client's error.
#[derive(Clone, Debug, thiserror::Error)]
enum DialError {
    #[error("{1}")]
    Connect(io::ErrorKind, String),
    #[error("{0}")]
    Tls(String),
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

impl DialError {
    /// Names the one of several servers.
    fn at(self, address: &str) -> DialError {
        match self {
            DialError::Connect(kind, text) => DialError::Connect(kind, format!("{address}: {text}")),
            DialError::Tls(text) => DialError::Tls(format!("{address}: {text}")),
            late @ DialError::Timeout(_) => late,
        }
    }

    fn of(self, server: String) -> RequestError {
        match self {
            DialError::Connect(kind, text) => {
                RequestError::Connect { server, source: io::Error::new(kind, text) }
            }
            DialError::Tls(text) => RequestError::Tls { server, source: io::Error::other(text) },
            DialError::Timeout(limit) => RequestError::ConnectTimeout { server, limit },
        }
    }
}

type HttpClient = Client<Connector, Full<Bytes>>;

/// The answer to a request for another protocol.
pub enum Switch {
    /// The connection is the other protocol's from now on.
    Done { headers: HeaderMap, stream: Box<dyn ByteStream> },
    /// The server goes on with HTTP; its answer, of which no more than a MiB is kept.
    Refused { status: StatusCode, body: Bytes },
}

/// The most that is read of why a server does not switch.
const REFUSAL: usize = 1 << 20;

/// All connections to one server.
pub(super) struct Transport {
    connector: Connector,
    lanes: Mutex<Lanes>,
}

struct Lanes {
    calls: HttpClient,
    streams: Vec<(HttpClient, Arc<()>)>,
}

/// A streamed answer. Holds its lane's place until it is dropped.
pub struct ResponseBody {
    body: Incoming,
    _place: Option<Arc<()>>,
}

impl Transport {
    pub(super) fn new(
        tls: Arc<ClientConfig>,
        verify_name: Option<&str>,
        via: Via,
        connect_timeout: Duration,
    ) -> Result<Self, TlsError> {
        let verify_name = verify_name.map(server_name).transpose()?;
        let connector = Connector { tls, verify_name, via, timeout: connect_timeout };
        let lanes = Mutex::new(Lanes { calls: http_client(&connector), streams: Vec::new() });
        Ok(Transport { connector, lanes })
    }

    /// Later requests open new connections.
    pub(super) fn reset(&self) {
        *self.lanes.lock() = Lanes { calls: http_client(&self.connector), streams: Vec::new() };
    }

    pub(super) async fn call(&self, request: Request<Bytes>) -> Result<Response<ResponseBody>, RequestError> {
        let client = self.lanes.lock().calls.clone();
        send(client, request, None).await
    }

    pub(super) async fn stream(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let (client, place) = self.stream_lane();
        send(client, request, Some(place)).await
    }

    pub(super) async fn switch(&self, request: Request<Bytes>) -> Result<Switch, RequestError> {
        let server = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let lost =
            |source: Box<dyn StdError + Send + Sync>| RequestError::Lost { server: server.clone(), source };
        let mut connector = self.connector.clone();
        let mut tls = (*connector.tls).clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        connector.tls = Arc::new(tls);
        let dialled =
            connector.dial(request.uri().clone()).await.map_err(|error| error.of(server.clone()))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(dialled.io).await.map_err(|error| lost(error.into()))?;
        let mut request = request.map(Full::new);
        // HTTP/1.1 names the server in a header and the path alone in the line.
        if let Ok(host) = HeaderValue::from_str(&server) {
            request.headers_mut().insert(HOST, host);
        }
        if let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = path.into();
        }
        let exchange = async {
            let response = sender.send_request(request).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            if status == StatusCode::SWITCHING_PROTOCOLS {
                let upgraded = hyper::upgrade::on(response).await?;
                return Ok(Switch::Done { headers, stream: Box::new(TokioIo::new(upgraded)) });
            }
            let body = Limited::new(response.into_body(), REFUSAL).collect().await?.to_bytes();
            Ok(Switch::Refused { status, body })
        };
        let driven = async {
            // It ends with the switch; whatever ends it earlier, the exchange says so.
            let _ = connection.with_upgrades().await;
            std::future::pending().await
        };
        tokio::select! {
            done = exchange => done.map_err(lost),
            never = driven => never,
        }
    }

    /// A lane with room, which is a new one if need be; lanes without streams beyond the first are given up.
    fn stream_lane(&self) -> (HttpClient, Arc<()>) {
        let mut lanes = self.lanes.lock();
        let live = |place: &Arc<()>| Arc::strong_count(place) - 1;
        let mut first = true;
        lanes.streams.retain(|(_, place)| std::mem::take(&mut first) || live(place) > 0);
        let found = lanes.streams.iter().find(|(_, place)| live(place) < STREAMS_PER_LANE);
        if let Some((client, place)) = found {
            return (client.clone(), place.clone());
        }
        let lane = (http_client(&self.connector), Arc::new(()));
        lanes.streams.push(lane.clone());
        lane
    }
}

fn http_client(connector: &Connector) -> HttpClient {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(90))
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(connector.clone())
}

async fn send(
    client: HttpClient,
    request: Request<Bytes>,
    place: Option<Arc<()>>,
) -> Result<Response<ResponseBody>, RequestError> {
    let server = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    match client.request(request.map(Full::new)).await {
        Ok(response) => Ok(response.map(|body| ResponseBody { body, _place: place })),
        Err(error) => Err(explain(server, error)),
    }
}

fn explain(server: String, error: LegacyError) -> RequestError {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(dial) = inner.downcast_ref::<DialError>() {
            return dial.clone().of(server);
        }
        cause = inner.source();
    }
    // The outer error says only "client error (SendRequest)"; what it wraps says why.
    let mut deepest: &(dyn StdError + 'static) = &error;
    while let Some(inner) = deepest.source() {
        deepest = inner;
    }
    RequestError::Lost { server, source: deepest.to_string().into() }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What connections are made to and through, if not just to the server that a request names.
#[derive(Clone)]
pub(super) struct Via {
    /// One of them is connected to instead.
    pub(super) servers: Option<Arc<Servers>>,
    pub(super) proxy: Option<Proxy>,
}

/// Opens a TCP connection, perhaps through a proxy, and, for https, TLS on it.
#[derive(Clone)]
struct Connector {
    tls: Arc<ClientConfig>,
    verify_name: Option<ServerName<'static>>,
    via: Via,
    timeout: Duration,
}

impl Connector {
    async fn dial(self, uri: Uri) -> Result<Dialled, DialError> {
        let Some(servers) = self.via.servers.clone() else { return self.dial_one(uri).await };
        let dialled = servers.connect(|address| {
            let (connector, scheme) = (self.clone(), uri.scheme_str().unwrap_or("https").to_string());
            async move {
                let one = Uri::builder().scheme(scheme.as_str()).authority(address.as_str());
                let one = one.path_and_query("/").build();
                let one = one.map_err(|error| DialError::Connect(InvalidInput, error.to_string()))?;
                connector.dial_one(one).await.map_err(|error| error.at(&address))
            }
        });
        match dialled.await {
            Ok((Dialled { io, http2 }, connections)) => {
                let io = Severable::new(io.into_inner(), connections);
                Ok(Dialled { io: TokioIo::new(Box::new(io)), http2 })
            }
            Err(error) => {
                Err(error.unwrap_or(DialError::Connect(NotFound, "no server is known".to_string())))
            }
        }
    }

    async fn dial_one(self, uri: Uri) -> Result<Dialled, DialError> {
        let limit = self.timeout;
        tokio::time::timeout(limit, self.dial_unlimited(uri)).await.unwrap_or(Err(DialError::Timeout(limit)))
    }

    async fn dial_unlimited(self, uri: Uri) -> Result<Dialled, DialError> {
        let host = uri.host().unwrap_or_default();
        let secure = uri.scheme_str() != Some("http");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let connect = |error: io::Error| DialError::Connect(error.kind(), error.to_string());
        let stream: Box<dyn ByteStream> = match &self.via.proxy {
            None => Box::new(tcp(bare, port).await.map_err(connect)?),
            Some(proxy) => self.through(proxy, bare, port).await?,
        };
        if !secure {
            return Ok(Dialled { io: TokioIo::new(stream), http2: false });
        }
        let failed = |error: String| DialError::Tls(error);
        let name = match self.verify_name {
            Some(name) => name,
            None => server_name(host).map_err(|error| failed(error.to_string()))?,
        };
        let stream = TlsConnector::from(self.tls)
            .connect(name, stream)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Dialled { io: TokioIo::new(Box::new(stream)), http2 })
    }
}

impl Connector {
    /// A connection to a server that a proxy makes.
    async fn through(&self, proxy: &Proxy, host: &str, port: u16) -> Result<Box<dyn ByteStream>, DialError> {
        let (address, proxy_port) = proxy.address();
        let failed = |error: io::Error| {
            DialError::Connect(error.kind(), format!("proxyconnect tcp: {address}:{proxy_port}: {error}"))
        };
        let plain = tcp(address, proxy_port).await.map_err(failed)?;
        let mut stream: Box<dyn ByteStream> = match proxy.tls_name() {
            None => Box::new(plain),
            Some(name) => {
                let mut tls = (*self.tls).clone();
                tls.alpn_protocols = Vec::new();
                let name = server_name(name).map_err(|error| DialError::Tls(error.to_string()))?;
                Box::new(TlsConnector::from(Arc::new(tls)).connect(name, plain).await.map_err(failed)?)
            }
        };
        let refused = |error: io::Error| DialError::Connect(ErrorKind::Other, error.to_string());
        proxy.open(&mut *stream, host, port).await.map_err(refused)?;
        Ok(stream)
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect((host, port)).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

impl tower::Service<Uri> for Connector {
    type Response = Dialled;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = BoxFuture<'static, Result<Dialled, Self::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dial = self.clone().dial(uri);
        Box::pin(async move { dial.await.map_err(Into::into) })
    }
}

/// An open connection and the protocol that was agreed on.
struct Dialled {
    io: TokioIo<Box<dyn ByteStream>>,
    http2: bool,
}

impl Connection for Dialled {
    fn connected(&self) -> Connected {
        if self.http2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl hyper::rt::Read for Dialled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Dialled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
