//! TLS set-up: trust, and a client certificate that can change while running.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::HttpsConfig;

/// A client certificate (chain) and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    pub certificate_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientCertificate(..)")
    }
}

/// Why certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate authority data has no usable certificate")]
    NoAuthority,
    #[error("no certificate authority is given and the system has no bundle; set certificate-authority")]
    NoSystemBundle,
    #[error("the client certificate is not PEM: {0}")]
    Certificate(String),
    #[error("the client key is not a PEM private key: {0}")]
    Key(String),
    #[error("the client certificate and its key cannot be used: {0}")]
    Pair(rustls::Error),
    #[error("{0:?} is not a name that a server certificate can be verified for")]
    ServerName(String),
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// Where Linux distributions keep the bundle of public authorities.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The public authorities that the system trusts, as PEM; none if it has no bundle of them.
pub fn system_authorities() -> Option<Vec<u8>> {
    SYSTEM_BUNDLES.iter().find_map(|path| std::fs::read(path).ok())
}

/// The certificate that new connections present; none means they present nothing.
#[derive(Debug)]
pub(super) struct CertificateSlot(RwLock<Option<Arc<CertifiedKey>>>);

impl CertificateSlot {
    pub(super) fn new(certificate: Option<&ClientCertificate>) -> Result<Self, TlsError> {
        Ok(CertificateSlot(RwLock::new(certificate.map(certified).transpose()?)))
    }

    pub(super) fn replace(&self, certificate: &ClientCertificate) -> Result<(), TlsError> {
        *self.0.write() = Some(certified(certificate)?);
        Ok(())
    }
}

impl ResolvesClientCert for CertificateSlot {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.read().clone()
    }

    fn has_certs(&self) -> bool {
        self.0.read().is_some()
    }
}

fn certified(pair: &ClientCertificate) -> Result<Arc<CertifiedKey>, TlsError> {
    let wrong = |error: rustls_pki_types::pem::Error| TlsError::Certificate(error.to_string());
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&pair.certificate_pem).collect::<Result<_, _>>().map_err(wrong)?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("it holds no certificate".to_string()));
    }
    let key =
        PrivateKeyDer::from_pem_slice(&pair.key_pem).map_err(|error| TlsError::Key(error.to_string()))?;
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(TlsError::Pair)?;
    Ok(Arc::new(certified))
}

pub(super) fn client_config(
    config: &HttpsConfig,
    certificate: Arc<CertificateSlot>,
) -> Result<ClientConfig, TlsError> {
    let verifier: Arc<dyn ServerCertVerifier> = if config.insecure_skip_tls_verify {
        Arc::new(NoVerification(ring::default_provider()))
    } else {
        trusting(roots(config.ca_pem.as_deref(), config.server.starts_with("http://"))?)?
    };
    let mut tls = with_verifier(verifier, certificate)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

pub(super) fn with_verifier(
    verifier: Arc<dyn ServerCertVerifier>,
    certificate: Arc<CertificateSlot>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(error.to_string()))?;
    let mut tls =
        builder.dangerous().with_custom_certificate_verifier(verifier).with_client_cert_resolver(certificate);
    // A resumed session would go on with the identity of the session's first connection.
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(tls)
}

pub(super) fn trusting(roots: RootCertStore) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    if roots.is_empty() {
        // A plain-http server: the verifier is never asked.
        return Ok(Arc::new(NoVerification(ring::default_provider())));
    }
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
            .build()
            .map_err(|error| TlsError::Setup(error.to_string()))?;
    Ok(verifier)
}

/// The authorities of a PEM file, or the system's. Certificates of the bundle that do not parse are passed
/// over.
pub(super) fn roots(ca_pem: Option<&[u8]>, plain: bool) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if plain {
        return Ok(roots);
    }
    let given = ca_pem.is_some();
    let pem = match ca_pem {
        Some(pem) => pem.to_vec(),
        None => system_authorities().ok_or(TlsError::NoSystemBundle)?,
    };
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    match (roots.is_empty(), given) {
        (true, true) => Err(TlsError::NoAuthority),
        (true, false) => Err(TlsError::NoSystemBundle),
        (false, _) => Ok(roots),
    }
}

pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_string()).map_err(|_| TlsError::ServerName(host.to_string()))
}

/// Accepts any server certificate (`insecure-skip-tls-verify`); the handshake's signatures are still checked.
#[derive(Debug)]
struct NoVerification(CryptoProvider);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
