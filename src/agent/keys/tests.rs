//! Key material on disk and in requests.

use super::*;

fn self_signed() -> Pair {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
    Pair { certificate_pem: params.self_signed(&key).unwrap().pem(), key_pem: key.serialize_pem() }
}

#[test]
fn a_pair_is_kept_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let place = PairFiles::in_directory(folder.path(), "x");
    assert_eq!(place.load().unwrap(), None);
    let pair = self_signed();
    place.store(&pair).unwrap();
    assert_eq!(place.load().unwrap(), Some(pair));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&place.key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn halves_that_do_not_belong_together_count_as_missing() {
    let folder = tempfile::tempdir().unwrap();
    let place = PairFiles::in_directory(folder.path(), "x");
    let torn = Pair { key_pem: self_signed().key_pem, ..self_signed() };
    place.store(&torn).unwrap();
    assert_eq!(place.load().unwrap(), None);
    std::fs::write(&place.certificate, "-----BEGIN CERT").unwrap();
    assert_eq!(place.load().unwrap(), None);
}

#[test]
fn renewal_is_due_after_four_fifths() {
    assert_eq!(Validity { not_before: 100, not_after: 200 }.renew_at(), 180);
}

#[test]
fn requests_carry_subject_and_names() {
    let key = new_key().unwrap();
    let names = [SanType::IpAddress("192.0.2.1".parse().unwrap())];
    let pem = request_for(&key, "system:node:a", Some("system:nodes"), &names).unwrap();
    let parsed = rcgen::CertificateSigningRequestParams::from_pem(&pem).unwrap().params;
    assert_eq!(parsed.subject_alt_names, names);
    assert_eq!(parsed.distinguished_name.get(&DnType::CommonName), Some(&"system:node:a".into()));
}
