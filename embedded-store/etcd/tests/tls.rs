//! Mutual TLS of a server under test, from PEM.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Mutual TLS: clients without a certificate of the CA are refused.
pub(super) struct Tls {
    /// The server's certificate chain and key, PEM.
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
    /// CA of the clients' certificates, PEM.
    pub(super) client_ca: Vec<u8>,
}

impl Tls {
    pub(super) fn server_config(&self) -> rustls::ServerConfig {
        let certificates = CertificateDer::pem_slice_iter(&self.certificate).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(&self.key).unwrap();
        let mut roots = RootCertStore::empty();
        for ca in CertificateDer::pem_slice_iter(&self.client_ca) {
            roots.add(ca.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}
