//! The thread of the API's connections.
//!
//! One thread for all of them: what a put costs is mostly HTTP/2 and switching between threads, and on the
//! small machines this is for, one thread that is busy beats several that wake each other. What may take
//! long, streams and large answers, runs on the caller's runtime.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::StreamExt;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::front::{Front, ServeError};
use super::kv::Kv;
use super::{connection, transport};
use crate::writer::submission::SubmissionQueue;

/// How long calls under way may take once the server is to stop.
const DRAIN: Duration = Duration::from_secs(1);

/// What every connection needs.
pub(super) struct ConnectionContext {
    /// For calls that are answered on this thread.
    pub(super) kv: Arc<Kv>,
    /// The same for those that may take long.
    pub(super) elsewhere: Arc<Kv>,
    /// For all others.
    pub(super) services: Router,
    pub(super) runtime: Handle,
}

/// Serves until `stop` completes or the future is dropped.
pub(super) async fn run(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    services: Router,
    front: Arc<Front>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let listener = listener.into_std()?;
    let submissions = Arc::new(SubmissionQueue::default());
    let kv = Arc::new(Kv { front: Arc::clone(&front), submissions: Some(Arc::clone(&submissions)) });
    let elsewhere = Arc::new(Kv { front: Arc::clone(&front), submissions: None });
    let context = Arc::new(ConnectionContext { kv, elsewhere, services, runtime: Handle::current() });
    let (halt, halted) = watch::channel(());
    let (ended, mut end) = oneshot::channel();
    let thread = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let served = runtime.and_then(|runtime| {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                let mut driver = JoinSet::new();
                driver.spawn(async move { front.store.drive(&submissions).await });
                accept(listener, tls, &context, halted).await;
                Ok(())
            })
        });
        let _ = ended.send(served);
    };
    std::thread::Builder::new().name("etcd-api".to_string()).spawn(thread)?;
    tokio::select! {
        () = stop => drop(halt),
        served = &mut end => return finished(served),
    }
    finished(end.await)
}

fn finished(served: Result<io::Result<()>, oneshot::error::RecvError>) -> Result<(), ServeError> {
    let panicked = |_| Err(io::Error::other("its thread panicked"));
    Ok(served.unwrap_or_else(panicked)?)
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    context: &Arc<ConnectionContext>,
    mut halted: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    {
        let gate = context.kv.front.options.gate.clone();
        let mut incoming = std::pin::pin!(transport::connections(listener, tls, gate));
        let stopping = halted.clone();
        loop {
            tokio::select! {
                _ = halted.changed() => break,
                Some((socket, place)) = incoming.next() => {
                    let served = connection::serve(socket, Arc::clone(context), stopping.clone());
                    connections.spawn(transport::while_placed(place, served));
                }
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
    }
    // What has not ended by then is dropped.
    let _ = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}
