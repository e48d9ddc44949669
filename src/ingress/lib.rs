//! Ingress v1, served by every node in the process: no pod, no image, no hop between client and pod but this.
//!
//! [`facts`] takes out of the objects what counts, [`paths`] and [`table`] say what goes where,
//! [`certificates`] which certificate a client is shown, [`headers`] what is passed on: pure, all of it.
//! [`follow`] keeps these as the objects are; [`listener`] has the ports, [`proxy`] a request on its way,
//! [`pool`] the connections to pods. [`tell`] writes events about what is wrong with an ingress. Classes and
//! the status of ingresses are the controllers' (`controllers::ingress`).
//!
//! Absent: Gateway API, TLS to pods, backends of the type `ExternalName` and other kinds than services,
//! sessions that stick, rewriting of paths, HTTP/3.

mod body;
mod certificates;
mod facts;
mod follow;
mod headers;
mod listener;
mod metrics;
mod paths;
mod pool;
mod proxy;
mod record;
mod services;
mod table;
mod tasks;
mod tell;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use client::Informers;
use client::events::Recorder;
use k8s_openapi::api::core::v1::ObjectReference;
use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use supervisor::{ConnectionLimiter, ConnectionLimits, OnExit, Stage};
use tokio::sync::{Semaphore, watch};

use certificates::{Resolver, Shown, Wanted};
use follow::Follower;
use listener::{Front, Port};
use metrics::Metrics;
use pool::Pool;
use proxy::Proxy;

pub use tell::tell;

/// Who says what is written about ingresses.
pub const COMPONENT: &str = "minik8s-ingress";

/// What the node's ingress is told.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// Where the ports are opened; the unspecified address of IPv4 means both families.
    pub bind_address: IpAddr,
    /// 0 for none.
    pub http_port: u16,
    /// 0 for none.
    pub https_port: u16,
    /// Of each port.
    pub connections: ConnectionLimits,
}

/// Gives the metrics as text.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves ingresses. `network` must be allowed to read ingresses, classes, services and slices of all
/// namespaces and to write events; `node` reads secrets as the node itself.
pub fn start(config: &Config, network: &Informers, node: &Informers, stage: &Stage) -> MetricsText {
    let metrics = Arc::new(Metrics::default());
    let proxy = Arc::new(Proxy {
        table: ArcSwap::default(),
        pool: Pool::start(stage),
        metrics: metrics.clone(),
        stage: stage.clone(),
        https_port: Some(config.https_port).filter(|port| *port != 0),
        places: Arc::new(Semaphore::new(config.connections.total)),
    });
    let (open, wanted) = watch::channel(false);
    match certificates::self_made().map(|made| (made.clone(), tls(&made))) {
        Ok((self_made, Ok((resolver, tls)))) => {
            open_ports(config, &proxy, &tls, network, &wanted, stage);
            let (network, node) = (network.clone(), node.clone());
            let follower = Follower { network, node, proxy, resolver, self_made, ports: open };
            stage.spawn_cancellable("ingress: rules and secrets", OnExit::Stop, follower.run());
        }
        Ok((_, Err(error))) => tracing::error!(%error, "ingresses are not served: TLS cannot be set up"),
        Err(error) => {
            tracing::error!(error = chain(&error), "ingresses are not served: there is no certificate")
        }
    }
    Arc::new(move || metrics.text())
}

fn open_ports(
    config: &Config,
    proxy: &Arc<Proxy>,
    tls: &Arc<rustls::ServerConfig>,
    network: &Informers,
    wanted: &watch::Receiver<bool>,
    stage: &Stage,
) {
    let recorder = Recorder::new(network.api().clone(), stage, COMPONENT, Some(&config.node_name));
    let node = ObjectReference {
        api_version: Some("v1".to_string()),
        kind: Some("Node".to_string()),
        name: Some(config.node_name.clone()),
        ..ObjectReference::default()
    };
    for (port, tls) in [(config.http_port, None), (config.https_port, Some(tls.clone()))] {
        if port == 0 {
            continue;
        }
        let port = Arc::new(Port {
            address: SocketAddr::new(config.bind_address, port),
            front: Arc::new(Front {
                port,
                tls,
                proxy: proxy.clone(),
                limiter: ConnectionLimiter::new(config.connections),
                stage: stage.clone(),
            }),
            recorder: recorder.clone(),
            node: node.clone(),
        });
        stage.spawn_cancellable("ingress: port", OnExit::Done, port.keep(wanted.clone()));
    }
}

fn tls(self_made: &Arc<CertifiedKey>) -> Result<(Arc<Resolver>, Arc<rustls::ServerConfig>), rustls::Error> {
    let shown = Shown::new(&Wanted::default(), |_| None, self_made);
    let resolver = Arc::new(Resolver(ArcSwap::from_pointee(shown)));
    let provider = Arc::new(ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((resolver, Arc::new(config)))
}

/// Milliseconds since the first look.
pub(crate) fn clock() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
