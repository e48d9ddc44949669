//! etcd's v3 gRPC API in front of the store: KV, Watch, Lease, Cluster and Maintenance.
//!
//! A translation, nothing more: every promise is the store's. Error codes and messages are etcd's, because
//! clients match on them. `/metrics`, `/health` and `/version` are on the same port. Writing under protected
//! prefixes is refused unless allowed: it would bypass the owner of those keys. Absent: authentication by
//! user and role, and adding members, who come by themselves; they answer `Unimplemented`.

use std::future::Future;
use std::sync::Arc;

use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::embedded::EmbeddedStore;

mod bridge;
mod connection;
mod convert;
mod front;
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
pub use front::{Gate, ListedMember, Members, MembersError, Options, Place, ServeError};
pub(crate) use transport::fuzz_connection;

use front::{Front, LARGEST_MESSAGE};

use crate::wire::etcdserverpb as pb;

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
