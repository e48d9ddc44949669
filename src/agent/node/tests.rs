//! What a node's certificate serves.

use super::*;

#[test]
fn a_certificate_serves_its_own_name_and_address_only() {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["one".to_string(), "192.0.2.1".to_string()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let pair = Pair { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() };
    let serves = |name: &str, address: &str, authority: Option<&CertificateDer<'_>>| {
        super::serves(&pair, name, address.parse().unwrap(), authority)
    };
    assert!(serves("one", "192.0.2.1", None));
    assert!(!serves("two", "192.0.2.1", None));
    assert!(!serves("one", "192.0.2.2", None));
    // Signed by itself, so it is of its own authority; a certificate of an earlier authority is asked for
    // anew.
    assert!(serves("one", "192.0.2.1", Some(certificate.der())));
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "another authority");
    let other = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    assert!(!serves("one", "192.0.2.1", Some(other.der())));
}
