//! Protocols beside HTTP on the port of the API: what servers of a cluster say to each other.

use std::sync::Arc;

use futures::future::BoxFuture;
use supervisor::WriteTimeout;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Protocols beside HTTP on the same port. A client asks for one by ALPN, and gets another TLS configuration
/// with it: other certificates count there.
pub trait OtherProtocols: Send + Sync {
    /// The configuration for a client that offers such a protocol; `None` for all others.
    fn tls(&self, hello: &rustls::server::ClientHello<'_>) -> Option<Arc<rustls::ServerConfig>>;

    /// Serves a connection until it ends.
    fn serve(&self, stream: OtherStream) -> BoxFuture<'static, ()>;
}

/// A connection of another protocol.
pub type OtherStream = TlsStream<WriteTimeout<TcpStream>>;
