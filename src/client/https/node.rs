//! Reaching a node's kubelet over the network: TLS to the address and port that its status publishes.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls::{self, CertificateSlot, ClientCertificate, TlsError};
use crate::{BoxFuture, ByteStream, NodeDialer};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Dials kubelets with the API server's client certificate, and trusts serving certificates of one authority.
pub struct TlsNodeDialer {
    tls: Arc<ClientConfig>,
    certificate: Arc<CertificateSlot>,
}

impl TlsNodeDialer {
    pub fn new(ca_pem: &[u8], certificate: &ClientCertificate) -> Result<Self, TlsError> {
        let certificate = Arc::new(CertificateSlot::new(Some(certificate))?);
        let verifier = tls::trusting(tls::roots(Some(ca_pem), false)?)?;
        let tls = Arc::new(tls::with_verifier(verifier, certificate.clone())?);
        Ok(TlsNodeDialer { tls, certificate })
    }

    /// Connections from now on present this certificate.
    pub fn replace_certificate(&self, certificate: &ClientCertificate) -> Result<(), TlsError> {
        self.certificate.replace(certificate)
    }

    async fn connect(&self, node: &Node) -> io::Result<Box<dyn ByteStream>> {
        let (address, port) = endpoint(node)?;
        let what = |error: io::Error| {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            io::Error::new(error.kind(), format!("kubelet of node {name} at {address}:{port}: {error}"))
        };
        let dialling = async {
            let tcp = TcpStream::connect((address, port)).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(self.tls.clone()).connect(ServerName::from(address), tcp).await
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, dialling).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(what(error)),
            Err(_) => Err(what(io::Error::new(io::ErrorKind::TimedOut, "no connection in time"))),
        }
    }
}

impl NodeDialer for TlsNodeDialer {
    fn dial<'a>(&'a self, node: &'a Node) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>> {
        Box::pin(self.connect(node))
    }
}

/// The node's InternalIP, else its ExternalIP, and its kubelet's port.
fn endpoint(node: &Node) -> io::Result<(IpAddr, u16)> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let missing = |what: &str| io::Error::new(io::ErrorKind::NotFound, format!("node {name} has no {what}"));
    let status = node.status.as_ref().ok_or_else(|| missing("status"))?;
    let addresses = status.addresses.as_deref().unwrap_or_default();
    let of_type = |kind: &str| {
        addresses.iter().filter(|one| one.type_ == kind).find_map(|one| one.address.parse::<IpAddr>().ok())
    };
    let address =
        of_type("InternalIP").or_else(|| of_type("ExternalIP")).ok_or_else(|| missing("InternalIP"))?;
    let endpoints =
        status.daemon_endpoints.as_ref().and_then(|endpoints| endpoints.kubelet_endpoint.as_ref());
    let port = endpoints.and_then(|endpoint| u16::try_from(endpoint.port).ok()).filter(|port| *port != 0);
    Ok((address, port.ok_or_else(|| missing("kubelet port"))?))
}
