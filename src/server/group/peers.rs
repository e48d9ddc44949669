//! Connections to other servers: one each, made when it is needed, kept, and made anew when nothing comes
//! back any more.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent::Problem;
use bytes::Bytes;
use embedded_store::group::{CallError, LONGEST_MESSAGE, Transport};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::frames::{self, ENGINE, Frame, HELLO, REQUEST};
use super::{Answer, Place, Request, identity_text, tls};
use crate::pki::Pki;

/// What a connection begins with: who calls whom, of which cluster.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hello {
    pub(super) cluster: String,
    pub(super) from: String,
    /// None if the caller knows the address only.
    pub(super) to: Option<String>,
}

/// The answer: the reader's identity, or why it does not talk to the caller.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Welcome {
    Member(String),
    Refused(String),
}

const CONNECT_TIMEOUT: Duration = Duration::from_millis(900);
/// A connection on which nothing has come for so long although something is due is given up.
const SILENCE: Duration = Duration::from_secs(3);

type Waiting = Arc<Mutex<HashMap<u64, (Instant, oneshot::Sender<Bytes>)>>>;

struct Connection {
    frames: mpsc::UnboundedSender<Frame>,
    waiting: Waiting,
    heard: Arc<Mutex<Instant>>,
    /// Read and write; they end with the connection.
    _tasks: JoinSet<()>,
}

impl Connection {
    fn is_silent(&self) -> bool {
        let oldest = self.waiting.lock().values().map(|(since, _)| *since).min();
        oldest.is_some_and(|since| since.elapsed() > SILENCE) && self.heard.lock().elapsed() > SILENCE
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>;

struct Inner {
    pki: Arc<Pki>,
    cluster: u64,
    /// Zero until it is known.
    own: AtomicU64,
    slots: Mutex<HashMap<(u64, String), Slot>>,
    numbers: AtomicU64,
    /// What the last server said that would not talk to this one.
    refused: Mutex<Option<String>>,
}

/// The way to the other servers.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Inner>);

impl Peers {
    pub(crate) fn new(pki: Arc<Pki>, cluster: u64) -> Self {
        let (slots, numbers, own) = (Mutex::default(), AtomicU64::new(1), AtomicU64::new(0));
        let refused = Mutex::default();
        Peers(Arc::new(Inner { pki, cluster, own, slots, numbers, refused }))
    }

    /// Why another server does not talk to this one, if one has said so.
    pub(super) fn refused(&self) -> Option<String> {
        self.0.refused.lock().clone()
    }

    /// Who this server is, before it calls anybody.
    pub(crate) fn set_own(&self, own: u64) {
        self.0.own.store(own, Ordering::Release);
    }

    /// Asks another server for something; `member` is 0 if only its address is known.
    pub(crate) async fn ask(&self, member: u64, address: &str, request: &Request) -> Result<Answer, Problem> {
        let failed = |why: &dyn std::fmt::Display| {
            let place = Place::parse(address).address;
            Problem::new(format!("reach the server {place}"), why, "see that it runs and can be reached")
        };
        let content = serde_json::to_vec(request).map_err(|error| failed(&error))?;
        let answer = self.0.call(member, address, REQUEST, content.into()).await;
        let answer = answer.map_err(|error| failed(&error))?;
        serde_json::from_slice(&answer).map_err(|error| failed(&error))
    }
}

impl Inner {
    fn slot(&self, member: u64, address: &str) -> Slot {
        self.slots.lock().entry((member, address.to_string())).or_default().clone()
    }

    async fn connection(&self, slot: &Slot, member: u64, address: &str) -> io::Result<Arc<Connection>> {
        let mut kept = slot.lock().await;
        if let Some(connection) = kept.as_ref()
            && !connection.frames.is_closed()
            && !connection.is_silent()
        {
            return Ok(connection.clone());
        }
        *kept = None;
        let dialled = tokio::time::timeout(CONNECT_TIMEOUT, self.dial(member, address)).await;
        let connection = Arc::new(dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?);
        *kept = Some(connection.clone());
        Ok(connection)
    }

    async fn dial(&self, member: u64, address: &str) -> io::Result<Connection> {
        let place = Place::parse(address).address;
        let stream = TcpStream::connect(&place).await?;
        let tls = tls::client(&self.pki).map_err(io::Error::other)?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(tls::SERVER_NAME).map_err(io::Error::other)?;
        let mut stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
        let hello = Hello {
            cluster: identity_text(self.cluster),
            from: identity_text(self.own.load(Ordering::Acquire)),
            to: (member != 0).then(|| identity_text(member)),
        };
        let content = serde_json::to_vec(&hello).map_err(io::Error::other)?;
        frames::write(&mut stream, &Frame { number: 0, kind: HELLO, content: content.into() }).await?;
        let welcome = frames::read(&mut stream, LONGEST_MESSAGE).await?;
        let welcome = welcome.ok_or(io::ErrorKind::UnexpectedEof)?;
        match serde_json::from_slice(&welcome.content).map_err(io::Error::other)? {
            Welcome::Member(_) => Ok(Connection::start(stream)),
            Welcome::Refused(why) => {
                *self.refused.lock() = Some(format!("{place}: {why}"));
                Err(io::Error::other(why))
            }
        }
    }

    async fn call(&self, member: u64, address: &str, kind: u8, content: Bytes) -> Result<Bytes, CallError> {
        let slot = self.slot(member, address);
        let connection = self.connection(&slot, member, address).await.map_err(CallError::NotSent)?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        connection.waiting.lock().insert(number, (Instant::now(), answer));
        if connection.frames.send(Frame { number, kind, content }).is_err() {
            return Err(CallError::NotSent(io::ErrorKind::NotConnected.into()));
        }
        answered.await.map_err(|_| CallError::Lost(io::ErrorKind::ConnectionReset.into()))
    }
}

impl Connection {
    fn start(stream: TlsStream<TcpStream>) -> Connection {
        let (mut reading, mut writing) = tokio::io::split(stream);
        let (frames, mut outgoing) = mpsc::unbounded_channel::<Frame>();
        let waiting = Waiting::default();
        let heard = Arc::new(Mutex::new(Instant::now()));
        let mut tasks = JoinSet::new();
        let write = tasks.spawn(async move {
            let _ = frames::write_all(&mut writing, &mut outgoing).await;
        });
        let (answers, last) = (waiting.clone(), heard.clone());
        tasks.spawn(async move {
            while let Ok(Some(frame)) = frames::read(&mut reading, LONGEST_MESSAGE).await {
                *last.lock() = Instant::now();
                let waiting = answers.lock().remove(&frame.number);
                if let Some((_, waiting)) = waiting {
                    let _ = waiting.send(frame.content);
                }
            }
            // Nothing comes any more: who waits learns that, and the next call makes a connection.
            write.abort();
            answers.lock().clear();
        });
        Connection { frames, waiting, heard, _tasks: tasks }
    }
}

impl Transport for Peers {
    fn call(
        &self,
        member: u64,
        address: &str,
        message: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let (inner, address) = (self.0.clone(), address.to_string());
        async move { inner.call(member, &address, ENGINE, message).await }.boxed()
    }
}
