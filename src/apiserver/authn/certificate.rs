//! Identity of a client certificate: the common name is the user, organizations are the groups.
//!
//! The chain and its key usage are checked in the TLS handshake. So are its dates, but a connection may
//! outlive them: they are kept beside the identity and looked at again for every request.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::Identity;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The owner of a verified certificate, and when it is good.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub identity: Arc<Identity>,
    /// Seconds since 1970: from, and up to and including. The shortest of the chain.
    not_before: i64,
    not_after: i64,
}

impl Certificate {
    /// One that is always good: for callers in the process.
    pub(crate) fn lasting(identity: Identity) -> Self {
        Certificate { identity: Arc::new(identity), not_before: i64::MIN, not_after: i64::MAX }
    }

    /// How long it is still good; none if it is not.
    pub(crate) fn remaining(&self, now: SystemTime) -> Option<Duration> {
        let now =
            i64::try_from(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
        let good = (self.not_before..=self.not_after).contains(&now);
        good.then(|| Duration::from_secs(self.not_after.abs_diff(now).saturating_add(1)))
    }

    /// None for what is no certificate or has no common name.
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let mut certificate = Certificate {
            identity: Arc::new(identity(chain.first()?)?),
            not_before: i64::MIN,
            not_after: i64::MAX,
        };
        for one in chain {
            let (_, parsed) = X509Certificate::from_der(one).ok()?;
            let validity = parsed.validity();
            certificate.not_before = certificate.not_before.max(validity.not_before.timestamp());
            certificate.not_after = certificate.not_after.min(validity.not_after.timestamp());
        }
        Some(certificate)
    }
}

fn identity(leaf: &[u8]) -> Option<Identity> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok().filter(|name| !name.is_empty())?;
    let mut identity = Identity::user(name, []);
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    identity.groups.splice(0..0, groups.map(str::to_string));
    let digest: String = Sha256::digest(leaf).iter().map(|byte| format!("{byte:02x}")).collect();
    identity
        .extra
        .insert("authentication.kubernetes.io/credential-id".into(), vec![format!("X509SHA256={digest}")]);
    Some(identity)
}
