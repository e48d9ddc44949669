//! The running API server: start, in-process access, the port.

use std::sync::Arc;
use std::time::Duration;

use api::Identity;
use client::leader::Fence;
use client::{ApiFor, ObjectApi, ServedKinds};
use embedded_store::Store;
use supervisor::{Latch, OnExit, Stage};

use crate::fairness::Fairness;
use crate::local::{Fenced, Local};
use crate::registry::{Registry, repair};
use crate::{Config, bootstrap, definitions, http};

/// How often old history is dropped.
const SWEEP: Duration = Duration::from_secs(60);

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
pub struct ApiServer {
    pub(crate) registry: Arc<Registry>,
    /// Open once what every cluster has exists.
    pub(crate) bootstrapped: Latch,
    pub(crate) stage: Stage,
    pub(crate) metrics: http::Metrics,
    pub(crate) fairness: Fairness,
}

impl ApiServer {
    /// Fills the caches and creates what every cluster has (system namespaces, the `kubernetes` service, bootstrap
    /// roles). Tasks it needs run in `stage`.
    pub async fn start(
        config: Config,
        store: Arc<dyn Store>,
        stage: &Stage,
    ) -> Result<Arc<ApiServer>, StartError> {
        let fairness = Fairness::new(&config.limits);
        let registry = Arc::new(Registry::new(config, store)?);
        let caches = registry.caches.clone();
        let announcing = caches.clone();
        stage.spawn_cancellable(
            "wake-ups of watchers",
            OnExit::Stop,
            async move { announcing.announce().await },
        );
        stage.spawn_cancellable("history of the watch cache", OnExit::Stop, async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                caches.sweep();
            }
        });
        let server = Arc::new(ApiServer {
            registry,
            bootstrapped: Latch::new("bootstrap"),
            stage: stage.clone(),
            metrics: http::Metrics::default(),
            fairness,
        });
        let (counted, mut served) = (server.clone(), server.served());
        stage.spawn_cancellable("metrics of kinds that have gone", OnExit::Done, async move {
            while served.changed().await.is_ok() {
                let now = served.borrow_and_update().clone();
                counted.metrics.keep_only(&now);
            }
        });
        definitions::start(&server.registry, server.as_user(bootstrap::identity()), stage);
        bootstrap::run(&server).await?;
        server.bootstrapped.open();
        stage.spawn_cancellable(
            "endpoints of the kubernetes service",
            OnExit::Done,
            bootstrap::follow_address(server.clone()),
        );
        stage.spawn_cancellable(
            "the default ServiceCIDR",
            OnExit::Done,
            bootstrap::follow_service_range(server.clone()),
        );
        let (registry, api) = (server.registry.clone(), server.as_user(bootstrap::identity()));
        stage.spawn_cancellable("repair of claims", OnExit::Stop, repair::run(registry, api, stage.clone()));
        Ok(server)
    }

    /// The checks of `/readyz`, by name.
    pub fn readiness(&self) -> Vec<(&'static str, bool)> {
        http::readiness(self)
    }

    /// Serves HTTPS on the listener until the stage stops. HTTP/2 is offered if the configuration names no protocols.
    pub fn serve(
        self: &Arc<Self>,
        listener: tokio::net::TcpListener,
        tls: Arc<rustls::ServerConfig>,
        stage: &Stage,
    ) {
        http::serve(self, listener, tls, stage);
    }

    /// The API for components that lead: what they write takes effect only during the fence's term.
    pub fn fenced(&self, fence: Arc<Fence>) -> Arc<dyn ApiFor> {
        Arc::new(Fenced { registry: self.registry.clone(), fence })
    }

    /// Answers one HTTP request of somebody who is known already, without a connection.
    pub async fn answer(
        self: &Arc<Self>,
        identity: Identity,
        request: ::http::Request<axum::body::Body>,
    ) -> ::http::Response<axum::body::Body> {
        let peer = http::Peer::in_process(Some(identity), self.stage.stopping());
        http::handle(self.clone(), Arc::new(peer), request).await.map(axum::body::Body::new)
    }
}

impl ApiFor for ApiServer {
    fn as_user(&self, identity: Identity) -> Arc<dyn ObjectApi> {
        Arc::new(Local::new(self.registry.clone(), identity))
    }

    fn served(&self) -> ServedKinds {
        self.registry.resources.served()
    }
}
