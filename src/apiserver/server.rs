//! The running API server: start, in-process access, the port.

use std::sync::Arc;

use api::Identity;
use client::{ApiFor, ObjectApi};
use embedded_store::Store;
use supervisor::Stage;
use tokio::net::TcpListener;

use crate::Config;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("reading the store")]
    Store(#[from] embedded_store::StoreError),
    #[error("configuration: {0}")]
    Config(String),
    /// What every cluster has could not be created.
    #[error("creating {what}")]
    Bootstrap { what: String, source: api::ApiError },
}

/// Shared by everything that serves requests.
pub struct ApiServer {}

impl ApiServer {
    /// Fills the caches and creates what every cluster has (system namespaces, the `kubernetes` service, bootstrap
    /// roles). Tasks it needs run in `stage`.
    pub async fn start(
        _config: Config,
        _store: Arc<dyn Store>,
        _stage: &Stage,
    ) -> Result<Arc<ApiServer>, StartError> {
        Ok(Arc::new(ApiServer {}))
    }

    /// Serves HTTPS on the listener until the stage stops.
    pub fn serve(self: &Arc<Self>, _listener: TcpListener, _tls: Arc<rustls::ServerConfig>, _stage: &Stage) {}
}

impl ApiFor for ApiServer {
    fn as_user(&self, _identity: Identity) -> Arc<dyn ObjectApi> {
        todo!("registry")
    }
}
