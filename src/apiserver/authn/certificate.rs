//! Identity of a client certificate: the common name is the user, organizations are the groups.
//!
//! The chain, its dates and its key usage are checked in the TLS handshake already.

use api::Identity;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

/// None for what is no certificate or has no common name.
pub(super) fn identity(leaf: &[u8]) -> Option<Identity> {
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
