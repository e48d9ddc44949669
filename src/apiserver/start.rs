//! Putting the API server together: start, the port, and requests without a connection.
//!
//! This is the top of the crate: it knows all parts, and no part knows it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use api::Identity;
use client::ApiFor;
use embedded_store::Store;
use supervisor::{Latch, OnExit, Stage};

use crate::config::Config;
use crate::error::StartError;
use crate::fairness::Fairness;
use crate::registry::{Registry, repair, unreadable};
use crate::server::ApiServer;
use crate::{aggregation, bootstrap, definitions, http, policies};

/// How often old history is dropped.
const SWEEP: Duration = Duration::from_secs(60);

impl ApiServer {
    /// Fills the caches and creates what every cluster has (system namespaces, the `kubernetes` service,
    /// bootstrap roles). Tasks it needs run in `stage`.
    pub async fn start(
        config: Config,
        store: Arc<dyn Store>,
        stage: &Stage,
    ) -> Result<Arc<ApiServer>, StartError> {
        let fairness = Arc::new(Fairness::new(&config.limits));
        let registry = Arc::new(Registry::new(config, store)?);
        let caches = registry.caches.clone();
        let (announcing, authorizer) = (caches.clone(), registry.authorizer.clone());
        stage.spawn_cancellable(
            "wake-ups of watchers",
            OnExit::Stop,
            async move { announcing.announce().await },
        );
        stage.spawn_cancellable("history of the watch cache", OnExit::Stop, async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                caches.sweep();
                authorizer.rbac().sweep();
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
        stage.spawn_cancellable(
            "APIServices of what is served",
            OnExit::Done,
            bootstrap::api_services::follow(server.clone()),
        );
        stage.spawn_cancellable(
            "what other API servers know this one by",
            OnExit::Done,
            aggregation::trust::follow(server.clone()),
        );
        stage.spawn_cancellable(
            "availability of other API servers",
            OnExit::Stop,
            aggregation::availability::follow(server.clone()),
        );
        stage.spawn_cancellable(
            "types of admission policies",
            OnExit::Done,
            policies::checking::follow(server.clone()),
        );
        stage.spawn_cancellable(
            "values that could not be decrypted",
            OnExit::Stop,
            unreadable::try_again(server.registry.clone()),
        );
        let (registry, api) = (server.registry.clone(), server.as_user(bootstrap::identity()));
        stage.spawn_cancellable("repair of claims", OnExit::Stop, repair::run(registry, api, stage.clone()));
        Ok(server)
    }

    /// The checks of `/readyz`, by name.
    pub fn readiness(&self) -> Vec<(Cow<'static, str>, bool)> {
        http::readiness(self)
    }

    /// Serves HTTPS on the listener until the stage stops. HTTP/2 is offered if the configuration names no
    /// protocols.
    pub fn serve(
        self: &Arc<Self>,
        listener: tokio::net::TcpListener,
        tls: Arc<rustls::ServerConfig>,
        stage: &Stage,
    ) {
        http::serve(self, listener, tls, stage);
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
