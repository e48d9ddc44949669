//! How the API server reaches kubelets: its own node's through memory, all others over TLS.

use std::io;
use std::sync::OnceLock;

use agent::node::Kubelet;
use client::{BoxFuture, ByteStream, NodeDialer, TlsNodeDialer};
use k8s_openapi::api::core::v1::Node;

/// The dialer of one server process.
pub(crate) struct Dialer {
    remote: TlsNodeDialer,
    own: OnceLock<(String, Kubelet)>,
}

impl Dialer {
    pub(crate) fn new(remote: TlsNodeDialer) -> Self {
        Dialer { remote, own: OnceLock::new() }
    }

    pub(crate) fn remote(&self) -> &TlsNodeDialer {
        &self.remote
    }

    /// From now on this node is reached through memory.
    pub(crate) fn set_own(&self, name: String, kubelet: Kubelet) {
        // There is one own node, set once after it has started.
        let _ = self.own.set((name, kubelet));
    }
}

impl NodeDialer for Dialer {
    fn dial<'a>(&'a self, node: &'a Node) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>> {
        match self.own.get() {
            Some((name, kubelet)) if node.metadata.name.as_ref() == Some(name) => {
                let stream: Box<dyn ByteStream> = Box::new(kubelet.connect());
                Box::pin(async move { Ok(stream) })
            }
            _ => self.remote.dial(node),
        }
    }
}
