//! The one door to a node's kubelet.

use std::io;

use k8s_openapi::api::core::v1::Node;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::BoxFuture;

/// A connection's bytes, after TLS where there is TLS.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Gives a byte stream to the kubelet HTTP service of a node: over TLS to the address and port its status
/// publishes, through memory for the server's own node, later through a tunnel for nodes behind NAT.
pub trait NodeDialer: Send + Sync {
    fn dial<'a>(&'a self, node: &'a Node) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>>;
}
