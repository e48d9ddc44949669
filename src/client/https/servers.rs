//! The servers of a cluster that a client may use instead of each other, in the order in which it tries them:
//! those that have not failed as they were given, then those that failed longest ago.
//!
//! A client stays with the server that it has until that fails or is [`given up`](Servers::give_up). An
//! address that does not answer at once is not waited for alone: the next one is tried beside it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::ByteStream;

/// So long is a server waited for before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Known {
    /// `HOST:PORT`.
    address: String,
    failed: Option<Instant>,
    /// Ends the connections to it.
    connections: CancellationToken,
}

impl Known {
    fn new(address: String) -> Self {
        Known { address, failed: None, connections: CancellationToken::new() }
    }
}

#[derive(Debug, Default)]
struct State {
    known: Vec<Known>,
    /// The one that a connection was last made to.
    current: Option<String>,
}

/// Servers by address, `HOST:PORT`. Each is verified by its own host. Clients share the list and what they
/// have learned of it.
#[derive(Debug, Default)]
pub struct Servers(Mutex<State>);

impl Servers {
    pub fn new(addresses: impl IntoIterator<Item = String>) -> Arc<Self> {
        let servers = Servers::default();
        servers.set(addresses);
        Arc::new(servers)
    }

    /// Replaces the list. What is known of those that stay is kept; connections to others go on.
    pub fn set(&self, addresses: impl IntoIterator<Item = String>) {
        let mut state = self.0.lock();
        let mut before = std::mem::take(&mut state.known);
        for address in addresses {
            if state.known.iter().any(|known| known.address == address) {
                continue;
            }
            let kept = before.iter().position(|known| known.address == address);
            let known = kept.map_or_else(|| Known::new(address), |at| before.swap_remove(at));
            state.known.push(known);
        }
    }

    /// All of them, in the order in which they are tried.
    pub fn in_order(&self) -> Vec<String> {
        let state = self.0.lock();
        let mut known: Vec<&Known> = state.known.iter().collect();
        // None comes before Some, and the sort is stable.
        known.sort_by_key(|known| (known.failed, state.current.as_ref() != Some(&known.address)));
        known.into_iter().map(|known| known.address.clone()).collect()
    }

    /// The one that a connection was last made to.
    pub fn current(&self) -> Option<String> {
        self.0.lock().current.clone()
    }

    /// Ends all connections to a server that does not do what it should, and tries it last from now on.
    pub fn give_up(&self, address: &str) {
        let mut state = self.0.lock();
        if let Some(known) = state.known.iter_mut().find(|known| known.address == address) {
            known.failed = Some(Instant::now());
            std::mem::take(&mut known.connections).cancel();
        }
    }

    fn note(&self, address: &str, works: bool) -> CancellationToken {
        let mut state = self.0.lock();
        if works {
            state.current = Some(address.to_string());
        }
        let Some(known) = state.known.iter_mut().find(|known| known.address == address) else {
            return CancellationToken::new();
        };
        known.failed = (!works).then(Instant::now);
        known.connections.clone()
    }

    /// Connects to the first that answers. The error tells of the last one that was tried.
    pub(super) async fn connect<T, E, F>(
        &self,
        dial: impl Fn(String) -> F,
    ) -> Result<(T, CancellationToken), Option<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut waiting = self.in_order().into_iter();
        let mut tried = FuturesUnordered::new();
        let mut begun: Vec<String> = Vec::new();
        let mut failure = None;
        loop {
            if let Some(address) = waiting.next() {
                begun.push(address.clone());
                let dialling = dial(address.clone());
                tried.push(async move { (address, dialling.await) });
            }
            let head_start = async {
                match waiting.len() {
                    0 => std::future::pending().await,
                    _ => tokio::time::sleep(HEAD_START).await,
                }
            };
            tokio::select! {
                done = tried.next() => match done {
                    Some((address, Ok(connected))) => {
                        // Whoever was asked earlier and has not answered is slow at best.
                        for slow in begun.iter().take_while(|begun| **begun != address) {
                            self.note(slow, false);
                        }
                        return Ok((connected, self.note(&address, true)));
                    }
                    Some((address, Err(error))) => {
                        self.note(&address, false);
                        failure = Some(error);
                    }
                    None => return Err(failure),
                },
                () = head_start => {}
            }
        }
    }
}

/// A connection that ends when its server is given up.
pub(super) struct Severable {
    io: Box<dyn ByteStream>,
    severed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Severable {
    pub(super) fn new(io: Box<dyn ByteStream>, connections: CancellationToken) -> Self {
        Severable { io, severed: Box::pin(connections.cancelled_owned()) }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.severed.as_mut().poll(context) {
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server is given up"))
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Severable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Severable {
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

#[cfg(test)]
mod tests;
