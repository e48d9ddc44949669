//! TLS between servers. Both sides show certificates of the servers' authority: the one that the API is
//! served with, and one that says that its holder is a server. Nobody else has that authority's key.

use std::sync::Arc;

use agent::Problem;
use agent::keys::{self, Pair, server_with_required_client};
use agent::problem::chain;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use super::{GROUP_PROTOCOL, JOIN_PROTOCOL};
use crate::pki::{DAY, Pki, Purpose, Subject};

/// Every serving certificate is for this name, whatever address the server has.
pub(super) const SERVER_NAME: &str = "kubernetes.default.svc";
const COMMON_NAME: &str = "system:minik8s:server";
/// One is made for every connection: no file, and nothing to renew.
const LIFE: i64 = 30 * DAY;

fn failed(error: &dyn std::error::Error) -> Problem {
    Problem::new("set up TLS between servers", chain(error), "check the files in DATA/server/tls")
}

/// For those that show a server's certificate.
pub(super) fn server(pki: &Pki) -> Result<ServerConfig, Problem> {
    let tls = server_with_required_client(&pki.server_ca.certificate_der, pki.serving.clone());
    let mut tls = tls.map_err(|error| failed(&error))?;
    tls.alpn_protocols = vec![GROUP_PROTOCOL.to_vec()];
    Ok(tls)
}

/// For those that have the server's token only.
pub(super) fn join_server(pki: &Pki) -> Result<ServerConfig, Problem> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder =
        builder.with_protocol_versions(&[&rustls::version::TLS13]).map_err(|error| failed(&error))?;
    let mut tls = builder.with_no_client_auth().with_cert_resolver(pki.serving.clone());
    tls.alpn_protocols = vec![JOIN_PROTOCOL.to_vec()];
    Ok(tls)
}

/// This server as a client of another one.
pub(super) fn client(pki: &Pki) -> Result<ClientConfig, Problem> {
    let subject = Subject {
        common_name: COMMON_NAME,
        organization: None,
        names: &[],
        purpose: Purpose::Client,
        life: LIFE,
    };
    let Pair { certificate_pem, key_pem } =
        pki.server_ca.issue(&subject, keys::now()).map_err(|error| failed(&error))?;
    let mut roots = RootCertStore::empty();
    roots.add(pki.server_ca.certificate_der.clone()).map_err(|error| failed(&error))?;
    let certificate = keys::first_certificate(&certificate_pem).map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| failed(&error))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| failed(&error))?;
    let tls = builder.with_root_certificates(roots).with_client_auth_cert(vec![certificate], key);
    let mut tls = tls.map_err(|error| failed(&error))?;
    tls.alpn_protocols = vec![GROUP_PROTOCOL.to_vec()];
    Ok(tls)
}

/// A machine that has the token only. It learns from the sealed keys, not from the certificate, whom it
/// talks to.
pub(super) fn join_client() -> Result<ClientConfig, Problem> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder =
        builder.with_protocol_versions(&[&rustls::version::TLS13]).map_err(|error| failed(&error))?;
    let verifier = Arc::new(AnyCertificate(provider));
    let mut tls = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    tls.alpn_protocols = vec![JOIN_PROTOCOL.to_vec()];
    Ok(tls)
}

/// Takes every certificate whose key the other side has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
