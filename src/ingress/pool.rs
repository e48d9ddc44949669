//! Connections to endpoints, kept for the next request.
//!
//! One of HTTP/1.1 rests a few seconds, less than common servers let theirs rest: a request that meets the
//! server's farewell on its way cannot always be repeated. One of HTTP/2 is shared by all requests to its
//! endpoint.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use supervisor::{OnExit, Stage};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::body::Upload;
use crate::services::Protocol;
use crate::tasks::Tasks;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// How long one rests.
const REST: Duration = Duration::from_secs(4);
const REST_SHARED: Duration = Duration::from_secs(60);
/// One that was given back may still be finishing.
const FINISHING: Duration = Duration::from_millis(20);
/// How many rest for an endpoint.
const MOST_RESTING: usize = 256;
const PING: Duration = Duration::from_secs(20);
const HEADERS: u32 = 64 * 1024;

type Exclusive = http1::SendRequest<Upload>;
type Shared = http2::SendRequest<Upload>;

pub(crate) struct Pool {
    resting: Mutex<HashMap<SocketAddr, Vec<(Exclusive, Instant)>>>,
    shared: Mutex<HashMap<SocketAddr, (Shared, Instant)>>,
    stage: Stage,
    /// Something rests.
    rests: Notify,
}

/// A connection that one request has, or shares.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    address: SocketAddr,
    sender: Sender,
    /// It has served another request before.
    pub(crate) reused: bool,
}

enum Sender {
    Exclusive(Exclusive),
    Shared(Shared),
}

impl Lease {
    pub(crate) async fn send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        match &mut self.sender {
            Sender::Exclusive(sender) => sender.try_send_request(request).await,
            Sender::Shared(sender) => sender.try_send_request(request).await,
        }
    }

    /// The answer has ended.
    pub(crate) fn give_back(self) {
        let Sender::Exclusive(sender) = self.sender else { return };
        if sender.is_closed() {
            return;
        }
        let mut resting = self.pool.resting.lock();
        let of_endpoint = resting.entry(self.address).or_default();
        if of_endpoint.len() < MOST_RESTING {
            of_endpoint.push((sender, Instant::now()));
            drop(resting);
            self.pool.rests.notify_one();
        }
    }
}

fn gone(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error)
}

impl Pool {
    pub(crate) fn start(stage: &Stage) -> Arc<Self> {
        let pool = Arc::new(Pool {
            resting: Mutex::default(),
            shared: Mutex::default(),
            stage: stage.clone(),
            rests: Notify::new(),
        });
        stage.spawn_cancellable("ingress: connections that rest", OnExit::Stop, pool.clone().sweep());
        pool
    }

    /// Closes what has rested for too long. Waits without a timer while nothing rests.
    async fn sweep(self: Arc<Self>) {
        loop {
            self.rests.notified().await;
            loop {
                tokio::time::sleep(REST).await;
                let now = Instant::now();
                let mut resting = self.resting.lock();
                resting.retain(|_, all| {
                    all.retain(|(sender, since)| !sender.is_closed() && now - *since < REST);
                    !all.is_empty()
                });
                let mut shared = self.shared.lock();
                shared.retain(|_, (sender, used)| !sender.is_closed() && now - *used < REST_SHARED);
                if resting.is_empty() && shared.is_empty() {
                    break;
                }
            }
        }
    }

    /// A connection to an endpoint: one that rests, unless `fresh`, else a new one.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        address: SocketAddr,
        protocol: Protocol,
        fresh: bool,
    ) -> io::Result<Lease> {
        let lease = |sender, reused| Lease { pool: self.clone(), address, sender, reused };
        if !fresh {
            match protocol {
                Protocol::Http1 => {
                    while let Some(mut sender) = self.take(address) {
                        if sender.is_ready() || matches!(timeout(FINISHING, sender.ready()).await, Ok(Ok(())))
                        {
                            return Ok(lease(Sender::Exclusive(sender), true));
                        }
                    }
                }
                Protocol::Http2 => {
                    if let Some(sender) = self.share(address) {
                        return Ok(lease(Sender::Shared(sender), true));
                    }
                }
            }
        }
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let stream = timeout(CONNECT, TcpStream::connect(address)).await.map_err(late)??;
        let _ = stream.set_nodelay(true);
        match protocol {
            Protocol::Http1 => {
                let (mut sender, connection) =
                    http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(gone)?;
                self.drive(connection.with_upgrades());
                sender.ready().await.map_err(gone)?;
                Ok(lease(Sender::Exclusive(sender), false))
            }
            Protocol::Http2 => {
                let handshake = http2::Builder::new(Tasks(self.stage.clone()))
                    .timer(TokioTimer::new())
                    .keep_alive_interval(PING)
                    .max_header_list_size(HEADERS)
                    .handshake(TokioIo::new(stream));
                let (sender, connection) = handshake.await.map_err(gone)?;
                self.drive(connection);
                self.shared.lock().insert(address, (sender.clone(), Instant::now()));
                self.rests.notify_one();
                Ok(lease(Sender::Shared(sender), false))
            }
        }
    }

    fn drive(&self, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
        self.stage.spawn_cancellable("ingress: connection to a pod", OnExit::Done, async move {
            // Whoever has a request on it is told.
            let _ = connection.await;
        });
    }

    fn take(&self, address: SocketAddr) -> Option<Exclusive> {
        let mut resting = self.resting.lock();
        let of_endpoint = resting.get_mut(&address)?;
        while let Some((sender, _)) = of_endpoint.pop() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn share(&self, address: SocketAddr) -> Option<Shared> {
        let mut shared = self.shared.lock();
        let (sender, used) = shared.get_mut(&address)?;
        if sender.is_closed() {
            shared.remove(&address);
            return None;
        }
        *used = Instant::now();
        Some(sender.clone())
    }
}
