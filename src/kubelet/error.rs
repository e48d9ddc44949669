//! Why a kubelet cannot start.

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
