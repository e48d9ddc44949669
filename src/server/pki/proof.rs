//! Whether a request for a node's certificate comes from who has the node's key.
//!
//! A node whose client certificate has ended cannot show it in a handshake any more. It proves itself by the
//! old certificate and a signature over the new request by the old key: nothing has to be kept on the server,
//! nothing secret is in the request, and what is seen in it is good for this request only.

use base64::Engine;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::Authority;

/// Whether `certificate_pem` is one that the authority gave to this node, ended or not, and its key has
/// signed the request.
pub(super) fn holds(
    authority: &Authority,
    node: &str,
    csr_pem: &str,
    certificate_pem: &str,
    signature: &str,
) -> bool {
    check(authority, node, csr_pem, certificate_pem, signature).is_some()
}

fn check(
    authority: &Authority,
    node: &str,
    csr_pem: &str,
    certificate_pem: &str,
    signature: &str,
) -> Option<()> {
    let der = agent::keys::first_certificate(certificate_pem).ok()?;
    let (_, old) = X509Certificate::from_der(&der).ok()?;
    let (_, issuer) = X509Certificate::from_der(&authority.certificate_der).ok()?;
    verify(&issuer, old.tbs_certificate.as_ref(), &old.signature_value.data)?;
    let user = format!("system:node:{node}");
    let mut names = old.subject().iter_common_name().map(|name| name.as_str().ok());
    let mut groups = old.subject().iter_organization().map(|group| group.as_str().ok());
    if (names.next(), names.next()) != (Some(Some(&user)), None)
        || (groups.next(), groups.next()) != (Some(Some(api::identity::GROUP_NODES)), None)
    {
        return None;
    }
    let (_, request) = x509_parser::pem::parse_x509_pem(csr_pem.as_bytes()).ok()?;
    let signature = base64::engine::general_purpose::STANDARD.decode(signature).ok()?;
    verify(&old, &request.contents, &signature)
}

fn verify(signer: &X509Certificate<'_>, message: &[u8], signature: &[u8]) -> Option<()> {
    let key = &signer.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(message, signature).ok()
}
