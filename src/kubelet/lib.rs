//! The node agent: runs the pods that are bound to its node, through a CRI runtime, and tells the API how they are.
//!
//! Everything goes through [`client::ObjectApi`]; one serial worker per pod compares what is wanted with what runs (a pure
//! plan) and acts. Container events wake workers, so nothing on the way from a new pod to a running one waits for
//! a poll. Its HTTPS endpoint serves logs and the list of pods to the API server alone.

mod config;
mod http;

use std::sync::Arc;

use client::ObjectApi;
use supervisor::{Latch, Stage};
use tokio::io::DuplexStream;

pub use config::Config;

/// Why a kubelet cannot start. What can heal later (runtime down, API unreachable) is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("kubelet cannot listen on {address}")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("kubelet cannot create {path}")]
    Directory {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a usable runtime socket path")]
    Socket { path: std::path::PathBuf },
}

/// A running kubelet.
#[derive(Clone)]
pub struct KubeletHandle {
    /// Port of the HTTPS endpoint.
    pub port: u16,
    /// Opens when the node's status has been Ready once.
    pub ready: Latch,
    service: http::Service,
}

impl KubeletHandle {
    /// A connection to the HTTP service through memory. Whoever holds the handle is trusted as the API server is.
    pub fn connect(&self) -> DuplexStream {
        self.service.connect()
    }
}

/// Starts a node's kubelet as tasks of `stage`. Returns once its port is open; [`KubeletHandle::ready`] tells of the rest.
pub async fn start(
    config: Config,
    api: Arc<dyn ObjectApi>,
    stage: &Stage,
) -> Result<KubeletHandle, StartError> {
    let ready = Latch::new("kubelet");
    let _ = api;
    let service = http::Service::new(stage.clone());
    let port = service.listen(&config).await?;
    Ok(KubeletHandle { port, ready, service })
}
