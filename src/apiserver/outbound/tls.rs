//! Whom to trust: the authorities of a bundle, or the system's.
//!
//! A server may show a certificate that is its own authority: operators make such ones and put them into the
//! bundle, and Go accepts that. rustls does not use an authority's certificate as a server's, so one that is
//! itself in the bundle is accepted if its names and its time are right.

use std::sync::Arc;

use bytes::Bytes;
use client::https::system_authorities;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The certificate and key that are shown to a server, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClientIdentity {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

/// Which servers are trusted, and who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// Authorities as PEM; none for the system's.
    pub(crate) authorities: Option<Bytes>,
    /// Whatever the server shows is accepted.
    pub(crate) anybody: bool,
    pub(crate) identity: Option<ClientIdentity>,
}

impl Trust {
    pub(crate) fn in_authorities(authorities: Option<Bytes>) -> Self {
        Trust { authorities, ..Trust::default() }
    }

    /// How connections to such servers are secured.
    pub(crate) fn tls_config(&self) -> Result<ClientConfig, TrustError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::of(self, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TrustError::Setup(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let Some(identity) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let wrong = |error: &dyn std::fmt::Display| TrustError::Identity(error.to_string());
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes()).collect();
        let key =
            PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|error| wrong(&error))?;
        let chain = chain.map_err(|error| wrong(&error))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| wrong(&error))
    }

    pub(super) fn key(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update([u8::from(self.anybody), u8::from(self.authorities.is_some())]);
        hash.update(self.authorities.as_deref().unwrap_or_default());
        if let Some(identity) = &self.identity {
            hash.update(&identity.certificate_pem);
            hash.update(&identity.key_pem);
        }
        hash.finalize().into()
    }
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("unable to load root certificates: unable to parse bytes as PEM block")]
    NoAuthority,
    #[error("no caBundle is given and the system has no bundle of authorities")]
    NoSystemBundle,
    #[error("the client certificate cannot be used: {0}")]
    Identity(String),
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// None where anybody is accepted.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// Those that the bundle names.
    named: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn of(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Self, TrustError> {
        if trust.anybody {
            return Ok(Verifier { provider: provider.clone(), authorities: None, named: Vec::new() });
        }
        let (pem, missing) = match &trust.authorities {
            Some(pem) => (pem.to_vec(), TrustError::NoAuthority),
            None => (system_authorities().ok_or(TrustError::NoSystemBundle)?, TrustError::NoSystemBundle),
        };
        let all: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(all.iter().cloned());
        if roots.is_empty() {
            return Err(missing);
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| TrustError::Setup(error.to_string()))?;
        let named = if trust.authorities.is_some() { all } else { Vec::new() };
        Ok(Verifier { provider: provider.clone(), authorities: Some(verifier), named })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        if self.named.iter().any(|named| named == end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            let valid = X509Certificate::from_der(end_entity).is_ok_and(|(_, certificate)| {
                let validity = certificate.validity();
                (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&seconds)
            });
            let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
            return if valid { Ok(ServerCertVerified::assertion()) } else { Err(expired) };
        }
        authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
