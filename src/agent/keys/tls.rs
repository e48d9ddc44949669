//! TLS servers whose certificate can be replaced while they run.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::crypto::ring;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::Pair;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("not a PEM certificate or key")]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error("certificate and key cannot be used")]
    Use(#[from] rustls::Error),
    #[error("clients cannot be verified")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The certificate a server shows from now on. Empty at first where it has still to be asked for: handshakes
/// fail until then.
#[derive(Debug, Default)]
pub struct CertificateSlot(ArcSwapOption<CertifiedKey>);

impl CertificateSlot {
    pub fn replace(&self, pair: &Pair) -> Result<(), TlsError> {
        self.0.store(Some(Arc::new(certified(pair)?)));
        Ok(())
    }
}

impl ResolvesServerCert for CertificateSlot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// Checks that certificate and key can be used and belong together.
pub(super) fn certified(pair: &Pair) -> Result<CertifiedKey, TlsError> {
    let chain =
        CertificateDer::pem_slice_iter(pair.certificate_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes())?;
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
    certified.keys_match()?;
    Ok(certified)
}

fn verifier_of(ca: &CertificateDer<'_>, optional: bool) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone().into_owned())?;
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
    Ok(if optional { builder.allow_unauthenticated() } else { builder }.build()?)
}

fn server(
    verifier: Arc<dyn ClientCertVerifier>,
    slot: Arc<CertificateSlot>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(slot);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// For the API server: a client may show a certificate of this CA, or none.
pub fn server_with_optional_client(
    ca: &CertificateDer<'_>,
    slot: Arc<CertificateSlot>,
) -> Result<ServerConfig, TlsError> {
    server(verifier_of(ca, true)?, slot)
}

/// For etcd's API: every client shows a certificate of this CA.
pub fn server_with_required_client(
    ca: &CertificateDer<'_>,
    slot: Arc<CertificateSlot>,
) -> Result<ServerConfig, TlsError> {
    server(verifier_of(ca, false)?, slot)
}

/// For a kubelet: of certificates, only one of this CA with the given common name gets in. Who shows none
/// has to show a token.
pub(crate) fn kubelet_server(
    ca: &CertificateDer<'_>,
    only: &'static str,
    slot: Arc<CertificateSlot>,
) -> Result<ServerConfig, TlsError> {
    let mut config = server(Arc::new(OneClient { inner: verifier_of(ca, true)?, only }), slot)?;
    // The kubelet speaks HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Every user and node has a certificate of the same CA: the name tells the API server from them.
#[derive(Debug)]
struct OneClient {
    inner: Arc<dyn ClientCertVerifier>,
    only: &'static str,
}

impl ClientCertVerifier for OneClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let refused =
            || rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure);
        let (_, parsed) = x509_parser::parse_x509_certificate(end_entity).map_err(|_| refused())?;
        let mut names = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        match (names.next(), names.next()) {
            (Some(name), None) if name == self.only => Ok(verified),
            _ => Err(refused()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
