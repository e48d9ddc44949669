//! etcd's v3 gRPC API in front of the store: KV, Watch, Lease, Cluster and Maintenance.
//!
//! A translation, nothing more: every promise is the store's. Error codes and messages are etcd's, because
//! clients match on them. `/metrics`, `/health` and `/version` are on the same port. Writing under protected
//! prefixes is refused unless allowed: it would bypass the owner of those keys. Absent: authentication by
//! user and role, member changes, learners; they answer `Unimplemented`.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::check::MAX_REQUEST_BYTES;
use crate::embedded::EmbeddedStore;

mod bridge;
mod connection;
mod convert;
mod http;
mod kv;
mod lease;
mod maintenance;
mod page;
mod server;
mod transport;
mod unary;
mod watch;

pub(crate) use convert::{range, range_response, transaction, txn_response};
pub(crate) use transport::fuzz_connection;

use crate::wire::etcdserverpb as pb;

/// Mutual TLS: clients without a certificate of the CA are refused.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The server's certificate chain and key, PEM.
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    /// CA of the clients' certificates, PEM.
    pub client_ca: Vec<u8>,
}

impl Tls {
    /// A configuration for [`serve`]; callers that renew their certificate while they run bring one of their
    /// own.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, ServeError> {
        transport::server_config(self)
    }
}

/// Decides which connections are taken. The caller brings it, because it has flags and other ports.
pub type Gate = Arc<dyn Fn(IpAddr) -> Option<Box<dyn Place>> + Send + Sync>;

/// The place of a connection; it is given back when this is dropped.
pub trait Place: Send + Sync {
    /// The client has shown a good certificate. False if the connection is to be closed nevertheless.
    fn identified(&self) -> bool;
    /// Completes when a connection that is not identified is to give way to another.
    fn cut(&self) -> BoxFuture<'static, ()>;
}

#[derive(Clone)]
pub struct Options {
    /// Name of this member.
    pub name: String,
    /// Where clients reach it, for the list of members.
    pub client_urls: Vec<String>,
    /// Prefixes under which nothing may be written through this API.
    pub protected: Vec<Bytes>,
    /// How often a watch that asked for it is told that there is nothing new.
    pub progress_interval: Duration,
    /// The version that `status` reports: the etcd release whose API this is.
    pub version: String,
    /// None takes every connection.
    pub gate: Option<Gate>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            name: "default".to_string(),
            client_urls: Vec::new(),
            protected: vec![Bytes::from_static(b"/registry/")],
            progress_interval: Duration::from_secs(600),
            version: "3.6.0".to_string(),
            gate: None,
        }
    }
}

/// The API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot serve the etcd API: {0}")]
    Io(#[from] std::io::Error),
    #[error("cannot serve the etcd API with TLS: {0}")]
    Tls(String),
}

/// What all services share.
pub(crate) struct Front {
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) options: Options,
}

impl Front {
    pub(crate) fn member(&self) -> u64 {
        // Any number but the cluster's that stays the same over restarts.
        self.store.identity().rotate_left(32) | 1
    }

    /// The header of an answer at a revision.
    pub(crate) fn header(&self, revision: u64) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader {
            cluster_id: self.store.identity(),
            member_id: self.member(),
            revision: revision.cast_signed(),
            raft_term: 1,
        })
    }
}

/// With the room that gRPC and the encoding need on top of the largest request, as in etcd.
const LARGEST_MESSAGE: usize = MAX_REQUEST_BYTES + 512 * 1024;

/// Serves the API on `listener` until `stop` completes. The TLS configuration must offer `h2`. Connections
/// live on a thread of their own; streams and large answers are tasks of the caller's runtime. If the future
/// is dropped the thread, and with it the store, lives on for up to a second.
pub async fn serve(
    store: Arc<EmbeddedStore>,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    options: Options,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let front = Arc::new(Front { store, options });
    let acceptor = tls.map(tokio_rustls::TlsAcceptor::from);
    server::run(listener, acceptor, services(&front), front, stop).await
}

/// Everything that is offered, by path.
fn services(front: &Arc<Front>) -> axum::Router {
    let kv = pb::kv_server::KvServer::new(kv::Kv { front: Arc::clone(front), submissions: None });
    let services = Routes::new(kv.max_decoding_message_size(LARGEST_MESSAGE))
        .add_service(pb::watch_server::WatchServer::new(watch::Watch(Arc::clone(front))))
        .add_service(pb::lease_server::LeaseServer::new(lease::Lease(Arc::clone(front))))
        .add_service(pb::cluster_server::ClusterServer::new(maintenance::Cluster(Arc::clone(front))))
        .add_service(pb::maintenance_server::MaintenanceServer::new(maintenance::Maintenance(Arc::clone(
            front,
        ))));
    http::with(services.into_axum_router(), Arc::clone(front))
}

#[cfg(test)]
mod tests;
