//! The ports: open while there is an ingress to serve, each with its clients' connections.
//!
//! A port that somebody else has is tried again, and an event of the node says so. Connections are bounded as
//! on every port (`supervisor`): one that has not brought a request gives way to new ones, the others count
//! by address. A client that sends nothing, reads nothing or rests for long is let go. A connection is ended
//! by nothing that happens to rules, secrets or endpoints.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use client::events::{EventType, Recorder};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use k8s_openapi::api::core::v1::ObjectReference;
use supervisor::{Admission, ConnectionLimiter, OnExit, Stage, Standing, WriteTimeout};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::body::Reply;
use crate::headers::Origin;
use crate::proxy::Proxy;
use crate::tasks::Tasks;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// After a failed accept (out of file descriptors).
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// Connections that nobody has accepted yet.
const QUEUE: u32 = 4096;
/// How long a handshake may take, and then the first request.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a request's headers may take, and the time between two requests.
const HEADERS: Duration = Duration::from_secs(60);
/// How long a connection of HTTP/2 may be without a request.
const IDLE: Duration = Duration::from_secs(180);
/// How long a client may read nothing of what waits for it.
const STALLED: Duration = Duration::from_secs(60);
const PING: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(15);
/// How long a stopping process waits for requests under way.
const DRAIN: Duration = Duration::from_secs(5);
/// Bounds of a request's head.
const MOST_HEADERS: usize = 200;
const HEAD_BYTES: usize = 64 * 1024;
/// Requests of one connection at a time.
const STREAMS: u32 = 128;
const SEND_BUFFER: usize = 64 * 1024;

/// A client's connection.
pub(crate) struct Client {
    pub(crate) origin: Origin,
    admission: Admission,
    /// It has brought a request.
    known: AtomicBool,
    active: AtomicUsize,
    /// When a request last ended, in milliseconds of [`crate::clock`].
    rested_since: AtomicU64,
}

impl Client {
    pub(crate) fn new(origin: Origin, admission: Admission) -> Self {
        Client {
            origin,
            admission,
            known: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            rested_since: AtomicU64::new(crate::clock()),
        }
    }

    /// Counts a connection with its address, once it has brought a request. False if there are too many.
    fn is_welcome(&self) -> bool {
        if self.known.load(Relaxed) {
            return true;
        }
        let welcome = self.admission.identify(&self.origin.address.to_string(), Standing::Ordinary);
        self.known.store(welcome, Relaxed);
        welcome
    }
}

/// What serves the connections of a port.
pub(crate) struct Front {
    pub(crate) port: u16,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) limiter: ConnectionLimiter,
    pub(crate) stage: Stage,
}

/// A port of the machine.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    pub(crate) front: Arc<Front>,
    pub(crate) recorder: Recorder,
    pub(crate) node: ObjectReference,
}

/// The whole machine, in both families where there are two.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listen = |address: SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A process that was restarted need not wait for the connections of the one before.
        socket.set_reuseaddr(true)?;
        // Clients that vanish from an upgraded connection are noticed.
        socket.set_keepalive(true)?;
        socket.bind(address)?;
        socket.listen(QUEUE)
    };
    if address.ip() != IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        return listen(address);
    }
    match listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port())) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => listen(address),
        outcome => outcome,
    }
}

impl Port {
    /// Keeps the port open while it is wanted.
    pub(crate) async fn keep(self: Arc<Self>, mut wanted: watch::Receiver<bool>) {
        loop {
            if wanted.wait_for(|wanted| *wanted).await.is_err() {
                return;
            }
            let ends = async |mut wanted: watch::Receiver<bool>| {
                let _ = wanted.wait_for(|wanted| !*wanted).await;
            };
            tokio::select! {
                () = ends(wanted.clone()) => {}
                () = self.clone().serve() => {}
            }
            tracing::info!(address = %self.address, "the port of ingresses is closed: there are none");
        }
    }

    async fn open(&self) -> TcpListener {
        let mut delay = FIRST_RETRY;
        loop {
            match bind(self.address) {
                Ok(listener) => return listener,
                Err(error) => {
                    let address = self.address;
                    tracing::warn!(%address, %error, retry = ?delay, "the port of ingresses cannot be opened");
                    let message = format!("ingresses are not served on port {}: {error}", address.port());
                    self.recorder.event(&self.node, EventType::Warning, "IngressPortTaken", message);
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    async fn serve(self: Arc<Self>) {
        let listener = self.open().await;
        tracing::info!(address = %self.address, tls = self.front.tls.is_some(), "ingresses are served");
        loop {
            match listener.accept().await {
                Ok((stream, address)) => self.front.take(stream, address.ip().to_canonical()),
                Err(error) => {
                    tracing::warn!(%error, "accepting a client of ingresses failed");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }
}

impl Front {
    /// Serves a connection that was accepted, if there is a place for it.
    pub(crate) fn take(self: &Arc<Self>, stream: TcpStream, address: IpAddr) {
        let Some(admission) = self.limiter.admit(address) else {
            self.proxy.metrics.refused.fetch_add(1, Relaxed);
            return;
        };
        let front = self.clone();
        self.stage.spawn("ingress: connection", OnExit::Done, async move {
            front.proxy.metrics.connections.fetch_add(1, Relaxed);
            front.connection(stream, address, admission).await;
            front.proxy.metrics.connections.fetch_sub(1, Relaxed);
        });
    }

    async fn connection(&self, stream: TcpStream, address: IpAddr, admission: Admission) {
        let origin = Origin { address, secure: self.tls.is_some(), port: self.port };
        let (cut, stopping) = (admission.cut(), self.stage.stopping());
        let client = Arc::new(Client::new(origin, admission));
        let _ = stream.set_nodelay(true);
        let stream = WriteTimeout::new(stream, STALLED, Arc::default());
        let served = async {
            match &self.tls {
                None => self.speak(stream, client).await,
                Some(tls) => {
                    let handshake = TlsAcceptor::from(tls.clone()).accept(stream);
                    match tokio::time::timeout(HANDSHAKE, handshake).await {
                        Ok(Ok(stream)) => self.speak(stream, client).await,
                        Ok(Err(error)) => {
                            self.proxy.metrics.handshakes_failed.fetch_add(1, Relaxed);
                            tracing::debug!(%address, %error, "TLS handshake failed");
                        }
                        Err(_) => {
                            self.proxy.metrics.handshakes_failed.fetch_add(1, Relaxed);
                        }
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = served => {}
            () = cut => tracing::debug!(%address, "connection gives way to others"),
            // `speak` lets requests finish; a handshake is not waited for.
            () = async { stopping.cancelled().await; tokio::time::sleep(DRAIN).await } => {}
        }
    }

    /// HTTP/1.1 or HTTP/2, as the client begins.
    async fn speak<S>(&self, stream: S, client: Arc<Client>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (proxy, of_requests) = (self.proxy.clone(), client.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (proxy, client) = (proxy.clone(), of_requests.clone());
            // On the heap from the start: hyper moves what it holds, and this is large.
            Box::pin(async move { Ok::<_, Infallible>(answer(&proxy, &client, request).await) })
        });
        let mut builder = auto::Builder::new(Tasks(self.stage.clone()));
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .max_headers(MOST_HEADERS)
            .max_buf_size(HEAD_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEAD_BYTES as u32)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING_ANSWER)
            .max_send_buf_size(SEND_BUFFER);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let stopping = self.stage.stopping();
        tokio::select! {
            biased;
            done = connection.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!(address = %client.origin.address, error = %error, "connection ended");
                }
                return;
            }
            () = stopping.cancelled() => {}
            rested = over(&client) => {
                if !rested {
                    return;
                }
            }
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

async fn answer(proxy: &Proxy, client: &Arc<Client>, request: Request<Incoming>) -> Response<Reply> {
    let welcome = client.is_welcome();
    client.active.fetch_add(1, Relaxed);
    let answer = match welcome {
        true => proxy.handle(client, request).await,
        false => proxy.refuse(client, &request),
    };
    client.active.fetch_sub(1, Relaxed);
    client.rested_since.store(crate::clock(), Relaxed);
    answer
}

/// Completes when a connection is to end: false if no request ever came, true if there was none for long.
async fn over(client: &Client) -> bool {
    tokio::time::sleep(HANDSHAKE).await;
    if !client.known.load(Relaxed) {
        return false;
    }
    loop {
        let rested = crate::clock().saturating_sub(client.rested_since.load(Relaxed));
        let rested = Duration::from_millis(rested);
        if client.active.load(Relaxed) == 0 && rested >= IDLE {
            return true;
        }
        tokio::time::sleep(IDLE.saturating_sub(rested).max(Duration::from_secs(1))).await;
    }
}
