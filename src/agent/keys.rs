//! Keys, signing requests and certificates of a node, and TLS that follows them when they are renewed.
//!
//! Keys are ECDSA P-256 and never leave the machine. Certificates are asked for through the API's
//! CertificateSigningRequests, the same way whether the API is a function call or across the network.

mod request;
mod tls;

use std::path::{Path, PathBuf};

use base64::Engine;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, SigningKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

pub use request::{Ask, RequestError, obtain};
pub(crate) use tls::kubelet_server;
pub use tls::{CertificateSlot, TlsError, server_with_optional_client, server_with_required_client};

use crate::{Problem, files};

/// A certificate (chain) and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(..)")
    }
}

/// Why key material cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("key or request cannot be made")]
    Make(#[from] rcgen::Error),
    #[error("{0} is not a certificate")]
    Certificate(String),
}

/// When a certificate begins and ends, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: i64,
    pub not_after: i64,
}

impl Validity {
    /// When it is time for a new one: after four fifths of its life (the kubelet's habit: between 70 and 90
    /// %).
    pub(crate) fn renew_at(&self) -> i64 {
        self.not_before + (self.not_after - self.not_before) / 5 * 4
    }

    /// Whether it holds at a time.
    pub fn covers(&self, now: i64) -> bool {
        (self.not_before..self.not_after).contains(&now)
    }
}

/// Validity of the first certificate of a PEM text.
pub fn validity(pem: &str) -> Result<Validity, KeyError> {
    let der = first_certificate(pem)?;
    let wrong = |_| KeyError::Certificate("the PEM text".to_string());
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(wrong)?;
    let times = parsed.validity();
    Ok(Validity { not_before: times.not_before.timestamp(), not_after: times.not_after.timestamp() })
}

/// The first certificate of a PEM text.
pub fn first_certificate(pem: &str) -> Result<CertificateDer<'static>, KeyError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| KeyError::Certificate("the PEM text".to_string()))
}

/// A key and the request for a certificate of it, as PEM. `organization` is the group of a client
/// certificate.
pub fn request_for(
    key_pem: &str,
    common_name: &str,
    organization: Option<&str>,
    names: &[SanType],
) -> Result<String, KeyError> {
    let key = KeyPair::from_pem(key_pem)?;
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    params.subject_alt_names = names.to_vec();
    Ok(params.serialize_request(&key)?.pem()?)
}

/// The key's signature (base64) over a request (PEM), which shows that whoever makes the request has that key
/// too.
pub fn signature_over(key_pem: &str, request_pem: &str) -> Result<String, KeyError> {
    let wrong = || KeyError::Certificate("the request".to_string());
    let (_, pem) = x509_parser::pem::parse_x509_pem(request_pem.as_bytes()).map_err(|_| wrong())?;
    let signature = KeyPair::from_pem(key_pem)?.sign(&pem.contents)?;
    Ok(base64::engine::general_purpose::STANDARD.encode(signature))
}

/// A fresh key as PKCS#8 PEM.
pub fn new_key() -> Result<String, KeyError> {
    Ok(KeyPair::generate()?.serialize_pem())
}

/// Where a pair is kept: `NAME.crt` and `NAME.key`.
#[derive(Clone, Debug)]
pub struct PairFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl PairFiles {
    pub fn in_directory(folder: &Path, name: &str) -> Self {
        PairFiles { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) }
    }

    /// What is kept; none if it is not there, not whole, or the halves do not belong together: it can be made
    /// anew.
    pub fn load(&self) -> Result<Option<Pair>, Problem> {
        let (Some(certificate_pem), Some(key_pem)) =
            (files::read(&self.certificate)?, files::read(&self.key)?)
        else {
            return Ok(None);
        };
        let pair = Pair { certificate_pem, key_pem };
        match tls::certified(&pair) {
            Ok(_) => Ok(Some(pair)),
            Err(error) => {
                tracing::warn!(file = %self.certificate.display(), %error, "certificate is unusable and is made anew");
                Ok(None)
            }
        }
    }

    /// The key first: a certificate without its key is useless, the other way round it is asked for again.
    pub fn store(&self, pair: &Pair) -> Result<(), Problem> {
        files::write(&self.key, pair.key_pem.as_bytes(), 0o600)?;
        files::write(&self.certificate, pair.certificate_pem.as_bytes(), 0o600)
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests;
