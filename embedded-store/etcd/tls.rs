//! Mutual TLS of the etcd API, from PEM.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::front::ServeError;

/// Mutual TLS: clients without a certificate of the CA are refused.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The server's certificate chain and key, PEM.
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    /// CA of the clients' certificates, PEM.
    pub client_ca: Vec<u8>,
}

impl Tls {
    /// A configuration for [`serve`](super::serve); callers that renew their certificate while they run bring
    /// one of their own.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, ServeError> {
        let bad = |what: &str, e: &dyn std::fmt::Display| ServeError::Tls(format!("{what}: {e}"));
        let certificates = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| bad("certificate", &e))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|e| bad("key", &e))?;
        let mut roots = RootCertStore::empty();
        for ca in CertificateDer::pem_slice_iter(&self.client_ca) {
            roots.add(ca.map_err(|e| bad("client CA", &e))?).map_err(|e| bad("client CA", &e))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|e| bad("client CA", &e))?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| bad("versions", &e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates, key)
            .map_err(|e| bad("certificate", &e))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}
