//! Making, keeping, renewing and signing certificates.

use std::time::Duration;

use super::authority::DAY;
use super::*;

const NOW: i64 = 1_800_000_000;

fn names(extra: &[&str]) -> ServingNames {
    let extra: Vec<String> = extra.iter().map(|name| name.to_string()).collect();
    ServingNames::new(
        &["192.0.2.1".parse().unwrap(), "10.43.0.1".parse().unwrap()],
        "host",
        "cluster.local",
        &extra,
    )
    .unwrap()
}

fn serving(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("serving-kube-apiserver.crt")).unwrap()
}

#[test]
fn a_second_start_finds_what_the_first_has_made() {
    let folder = tempfile::tempdir().unwrap();
    let (first, clients) = Pki::open(folder.path(), names(&[]), NOW).unwrap();
    let certificate = serving(folder.path());
    let (second, again) = Pki::open(folder.path(), names(&[]), NOW + 30 * DAY).unwrap();
    assert_eq!(first.server_ca.certificate_pem, second.server_ca.certificate_pem);
    assert_eq!(first.kubelet_ca.certificate_pem, second.kubelet_ca.certificate_pem);
    assert_eq!(first.service_account_key_pem, second.service_account_key_pem);
    assert_eq!(certificate, serving(folder.path()));
    assert_eq!(clients.admin, again.admin);
}

#[test]
fn the_serving_certificate_follows_names_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let (pki, _) = Pki::open(folder.path(), names(&[]), NOW).unwrap();
    let first = serving(folder.path());
    Pki::open(folder.path(), names(&["api.example"]), NOW).unwrap();
    let renamed = serving(folder.path());
    assert_ne!(first, renamed);
    // While running, 90 days before the end.
    pki.renew(NOW + 276 * DAY).unwrap();
    assert_ne!(renamed, serving(folder.path()));
}

#[test]
fn half_an_authority_is_not_replaced_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    Pki::open(folder.path(), names(&[]), NOW).unwrap();
    std::fs::remove_file(folder.path().join("server-ca.key")).unwrap();
    let refused = Pki::open(folder.path(), names(&[]), NOW).err().unwrap().to_string();
    assert!(refused.contains("its key is missing; restore"), "{refused}");
    std::fs::write(folder.path().join("server-ca.key"), "-----BEGIN PRI").unwrap();
    let refused = Pki::open(folder.path(), names(&[]), NOW).err().unwrap().to_string();
    assert!(refused.starts_with("cannot use the authority") && !refused.contains('\n'), "{refused}");
}

#[test]
fn a_half_written_leaf_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    Pki::open(folder.path(), names(&[]), NOW).unwrap();
    std::fs::write(folder.path().join("client-admin.crt"), "-----BEGIN CERT").unwrap();
    Pki::open(folder.path(), names(&[]), NOW).unwrap();
    assert!(
        std::fs::read_to_string(folder.path().join("client-admin.crt")).unwrap().contains("END CERTIFICATE")
    );
}

fn signer(folder: &Path) -> Signer {
    let (pki, _) = Pki::open(folder, names(&["api.example", "198.51.100.7"]), NOW).unwrap();
    let kubernetes_ip = "10.43.0.1".parse().unwrap();
    Signer { pki: Arc::new(pki), kubernetes_ip, own_node: Some("own".to_string()) }
}

#[test]
fn the_administrators_certificate_is_short_lived_and_a_longer_one_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (pki, clients) = Pki::open(folder.path(), names(&[]), NOW).unwrap();
    let validity = keys::validity(&clients.admin.certificate_pem).unwrap();
    assert_eq!(validity.not_after, NOW + ADMIN_LIFE);
    assert_eq!(validity.not_before, NOW - 30 * DAY, "a clock that is set back finds it good");
    let later = pki.renew(NOW + 46 * DAY).unwrap();
    assert_ne!(later.admin, clients.admin, "renewed at half its life");
    assert_eq!(later.kubelet_client, clients.kubelet_client);
    // As earlier versions made it.
    let long = pki.administrator(365 * DAY, NOW).unwrap();
    PairFiles::in_directory(folder.path(), "client-admin").store(&long).unwrap();
    let replaced = pki.renew(NOW).unwrap().admin;
    assert_eq!(keys::validity(&replaced.certificate_pem).unwrap().not_after, NOW + ADMIN_LIFE);
}

#[test]
fn an_older_data_directory_is_given_an_authority_for_kubelets_and_trusts_their_old_certificates_for_a_while()
{
    let folder = tempfile::tempdir().unwrap();
    let (fresh, _) = Pki::open(folder.path(), names(&[]), NOW).unwrap();
    assert_eq!(fresh.kubelet_roots(NOW), fresh.kubelet_ca.certificate_pem, "nothing to wait for");
    for file in ["kubelet-ca.crt", "kubelet-ca.key"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    let (upgraded, _) = Pki::open(folder.path(), names(&[]), NOW + 100 * DAY).unwrap();
    assert_ne!(upgraded.kubelet_ca.certificate_pem, upgraded.server_ca.certificate_pem);
    assert_eq!(upgraded.server_ca.certificate_pem, fresh.server_ca.certificate_pem);
    let both = upgraded.kubelet_ca.certificate_pem.clone() + &upgraded.server_ca.certificate_pem;
    assert_eq!(upgraded.kubelet_roots(NOW + 464 * DAY), both);
    assert_eq!(upgraded.kubelet_roots(NOW + 466 * DAY), upgraded.kubelet_ca.certificate_pem);
}

#[test]
fn a_kubelets_certificate_is_of_its_own_authority() {
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let san = [SanType::IpAddress("192.0.2.9".parse().unwrap())];
    let key = keys::new_key().unwrap();
    let csr = keys::request_for(&key, "system:node:a", Some("system:nodes"), &san).unwrap();
    let pem =
        signer.signed(&csr, SERVING, &usages(&["digital signature", "server auth"]), None, NOW).unwrap();
    let der = keys::first_certificate(&pem).unwrap();
    let verify = |authority: &Authority| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.certificate_der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let now = rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(NOW as u64 + 60));
        let name = rustls::pki_types::ServerName::try_from("192.0.2.9").unwrap();
        rustls::client::danger::ServerCertVerifier::verify_server_cert(&*verifier, &der, &[], &name, &[], now)
            .is_ok()
    };
    assert!(verify(&signer.pki.kubelet_ca));
    assert!(!verify(&signer.pki.server_ca), "no client of the API server may take it for one");
}

#[test]
fn names_and_addresses_of_the_server_are_for_its_own_node_only() {
    use controllers::CertificateSigner;
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let server = usages(&["digital signature", "server auth"]);
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let address = |text: &str| SanType::IpAddress(text.parse().unwrap());
    let sign = |node: &str, san: SanType| {
        let key = keys::new_key().unwrap();
        let csr =
            keys::request_for(&key, &format!("system:node:{node}"), Some("system:nodes"), &[san]).unwrap();
        signer.signed(&csr, SERVING, &server, None, NOW)
    };
    for shared in
        [address("192.0.2.1"), address("198.51.100.7"), dns("host"), dns("HOST"), dns("api.example")]
    {
        let refused = sign("a", shared.clone()).unwrap_err().to_string();
        assert!(refused.contains("the API server's"), "{refused}");
        sign("own", shared).unwrap();
    }
    for never in [dns("kubernetes.default.svc"), address("::1"), address("0.0.0.0"), dns("*.example")] {
        sign("own", never).unwrap_err();
    }
    assert!(signer.is_reserved("a", &["host".to_string()], &[]));
    assert!(signer.is_reserved("a", &[], &["::ffff:192.0.2.1".parse().unwrap()]));
    assert!(!signer.is_reserved("own", &["host".to_string()], &["192.0.2.1".parse().unwrap()]));
    assert!(!signer.is_reserved("a", &["a".to_string()], &["192.0.2.9".parse().unwrap()]));
}

#[test]
fn an_ended_certificate_and_its_key_prove_a_node() {
    use base64::Engine;
    use controllers::CertificateSigner;
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let client = usages(&["digital signature", "client auth"]);
    let request = |key: &str, node: &str| {
        keys::request_for(key, &format!("system:node:{node}"), Some("system:nodes"), &[]).unwrap()
    };
    let old_key = keys::new_key().unwrap();
    let brief = Some(Duration::from_secs(600));
    let old =
        signer.signed(&request(&old_key, "a"), KUBELET_CLIENT, &client, brief, NOW - 400 * DAY).unwrap();
    let csr = request(&keys::new_key().unwrap(), "a");
    let signature = keys::signature_over(&old_key, &csr).unwrap();
    assert!(signer.is_proved("a", &csr, &old, &signature));
    assert!(!signer.is_proved("b", &csr, &old, &signature), "another node's");
    let other = request(&keys::new_key().unwrap(), "a");
    assert!(!signer.is_proved("a", &other, &old, &signature), "another request");
    let stranger = keys::new_key().unwrap();
    assert!(!signer.is_proved("a", &csr, &old, &keys::signature_over(&stranger, &csr).unwrap()));
    // A certificate that somebody made himself.
    let elsewhere = tempfile::tempdir().unwrap();
    let forger = self::signer(elsewhere.path());
    let forged = forger.signed(&request(&old_key, "a"), KUBELET_CLIENT, &client, brief, NOW).unwrap();
    assert!(!signer.is_proved("a", &csr, &forged, &signature));
    // A user's of the same name has not the group, and rubbish proves nothing.
    let user = keys::request_for(&old_key, "system:node:a", Some("dev"), &[]).unwrap();
    let user = signer.signed(&user, CLIENT, &client, None, NOW).unwrap();
    assert!(!signer.is_proved("a", &csr, &user, &signature));
    let rubbish = base64::engine::general_purpose::STANDARD.encode("rubbish");
    assert!(!signer.is_proved("a", &csr, &old, &rubbish) && !signer.is_proved("a", "x", "y", "z"));
}

fn usages(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

#[test]
fn what_can_be_no_nodes_name_is_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let key = keys::new_key().unwrap();
    let san = [SanType::IpAddress("192.0.2.9".parse().unwrap())];
    // The second would be taken for the server's own node if the prefix were taken off more than once.
    for name in ["", "system:node:own", "A", "a/b", "a b", "-a", "a..b", &"a".repeat(254)] {
        let user = format!("system:node:{name}");
        let sign = |signer_name: &str, names: &[SanType], usage: &str| {
            let csr = keys::request_for(&key, &user, Some("system:nodes"), names).unwrap();
            signer
                .signed(&csr, signer_name, &usages(&["digital signature", usage]), None, NOW)
                .unwrap_err()
                .to_string()
        };
        for refused in [sign(SERVING, &san, "server auth"), sign(KUBELET_CLIENT, &[], "client auth")] {
            assert!(refused.ends_with("is no DNS subdomain"), "{name}: {refused}");
        }
    }
}

#[test]
fn a_kubelets_request_is_signed_for_as_long_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let csr =
        keys::request_for(&keys::new_key().unwrap(), "system:node:a", Some("system:nodes"), &[]).unwrap();
    let usages = usages(&["digital signature", "client auth"]);
    let pem = signer.signed(&csr, KUBELET_CLIENT, &usages, Some(Duration::from_secs(3600)), NOW).unwrap();
    let validity = keys::validity(&pem).unwrap();
    assert_eq!((validity.not_before, validity.not_after), (NOW - 300, NOW + 3600));
    let day = Some(Duration::from_secs(24 * 3600));
    let long = signer.signed(&csr, KUBELET_CLIENT, &usages, day, NOW).unwrap();
    let validity = keys::validity(&long).unwrap();
    assert_eq!(validity.not_after - validity.not_before, 24 * 3600);
    let der = keys::first_certificate(&pem).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert_eq!(parsed.subject().to_string(), "O=system:nodes, CN=system:node:a");
    let purposes = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.client_auth && !purposes.server_auth);
    assert!(!parsed.is_ca());
}

#[test]
fn requests_that_their_signer_does_not_allow_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let key = keys::new_key().unwrap();
    let san = [SanType::IpAddress("192.0.2.9".parse().unwrap())];
    let node =
        |names: &[SanType]| keys::request_for(&key, "system:node:a", Some("system:nodes"), names).unwrap();
    let user = |group: &str| keys::request_for(&key, "jane", Some(group), &[]).unwrap();
    let client = usages(&["digital signature", "client auth"]);
    let server = usages(&["digital signature", "server auth"]);
    for (csr, name, usages, why) in [
        (user("dev"), KUBELET_CLIENT, &client, "common name"),
        (node(&san), KUBELET_CLIENT, &client, "subjectAltNames"),
        (node(&[]), KUBELET_CLIENT, &server, "usages"),
        (node(&[]), SERVING, &server, "subjectAltNames"),
        (node(&san), SERVING, &client, "usages"),
        (user("system:masters"), CLIENT, &client, "system:masters"),
        (user("dev"), CLIENT, &server, "usages"),
        (user("dev"), "example.com/mine", &client, "not signed here"),
        ("garbage".to_string(), CLIENT, &client, "parse"),
    ] {
        let refused = signer.signed(&csr, name, usages, None, NOW).unwrap_err().to_string();
        assert!(refused.contains(why), "{name}: {refused}");
    }
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let address = |text: &str| SanType::IpAddress(text.parse().unwrap());
    for stolen in [
        dns("kubernetes"),
        dns("Kubernetes.Default.svc"),
        dns("localhost"),
        address("127.0.0.1"),
        address("10.43.0.1"),
    ] {
        let refused = signer.signed(&node(&[stolen]), SERVING, &server, None, NOW).unwrap_err().to_string();
        assert!(refused.contains("the API server's"), "{refused}");
    }
    signer.signed(&node(&san), SERVING, &server, None, NOW).unwrap();
    signer.signed(&user("dev"), CLIENT, &client, None, NOW).unwrap();
}

#[test]
fn every_group_of_a_request_is_in_its_certificate() {
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    // Our own library cannot write such a request either.
    let key = folder.path().join("key").display().to_string();
    let made = Command::new("openssl")
        .args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            &key,
        ])
        .args(["-subj", "/CN=jane/O=dev/O=ops/O=qa"])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let csr = String::from_utf8(made.stdout).unwrap();
    let client = usages(&["digital signature", "client auth"]);
    let pem = signer.signed(&csr, CLIENT, &client, None, NOW).unwrap();
    let der = keys::first_certificate(&pem).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert_eq!(parsed.subject().to_string(), "CN=jane, O=dev, O=ops, O=qa");
    assert!(parsed.extended_key_usage().unwrap().unwrap().value.client_auth);
    // The signature is good.
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signer.pki.client_ca.certificate_der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let now = rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(NOW as u64 + 60));
    verifier.verify_client_cert(&der, &[], now).unwrap();
}

#[test]
fn the_kubeconfig_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let (pki, clients) = Pki::open(folder.path(), names(&[]), NOW).unwrap();
    let text = kubeconfig("https://127.0.0.1:6443", &pki.server_ca.certificate_pem, &clients.admin);
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, &text).unwrap();
    for line in ["server: https://127.0.0.1:6443", "current-context: minik8s"] {
        assert!(text.contains(line), "{text}");
    }
}
