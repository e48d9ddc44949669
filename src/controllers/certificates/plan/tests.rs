//! Tests of approval and signing rules, with real requests.

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use serde_json::json;

use super::*;

fn pem(common_name: &str, organization: &str, dns: &[&str], addresses: &[&str]) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.distinguished_name.push(DnType::OrganizationName, organization);
    for name in dns {
        params.subject_alt_names.push(SanType::DnsName((*name).try_into().unwrap()));
    }
    for address in addresses {
        params.subject_alt_names.push(SanType::IpAddress(address.parse().unwrap()));
    }
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

fn request(signer: &str, user: &str, group: &str, purpose: &str, pem: String) -> CertificateSigningRequest {
    let mut request: CertificateSigningRequest = serde_json::from_value(json!({
        "metadata": {"name": "csr", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "request": "", "signerName": signer, "username": user, "groups": [group, "system:authenticated"],
            "usages": ["digital signature", purpose],
        },
    }))
    .unwrap();
    request.spec.request.0 = pem.into_bytes();
    request
}

fn node(name: &str) -> Option<Arc<Node>> {
    let node = json!({"metadata": {"name": name}, "status": {"addresses": [
        {"type": "InternalIP", "address": "10.0.0.5"}, {"type": "Hostname", "address": name},
    ]}});
    (name == "one").then(|| Arc::new(serde_json::from_value(node).unwrap()))
}

fn granted(request: &CertificateSigningRequest) -> bool {
    approval(request, node) != Approval::Leave
}

#[test]
fn client_certificates_of_nodes() {
    let good = || pem("system:node:one", "system:nodes", &[], &[]);
    let ask = |user: &str, group: &str, pem: String| {
        granted(&request(KUBELET_CLIENT, user, group, "client auth", pem))
    };
    assert!(ask("join", BOOTSTRAPPERS, good()));
    assert!(ask("system:node:one", NODES, good()));
    assert!(!ask("system:node:two", NODES, good()), "another node");
    assert!(!ask("jane", "system:masters", good()));
    assert!(!ask("join", BOOTSTRAPPERS, pem("system:node:one", "system:masters", &[], &[])));
    assert!(!ask("join", BOOTSTRAPPERS, pem("admin", "system:nodes", &[], &[])));
    assert!(!ask("join", BOOTSTRAPPERS, pem("system:node:one", "system:nodes", &["x"], &[])));
    assert!(!granted(&request(KUBELET_CLIENT, "join", BOOTSTRAPPERS, "server auth", good())));
    assert!(!granted(&request(CLIENT, "join", BOOTSTRAPPERS, "client auth", good())), "another signer");
    assert!(!ask("join", BOOTSTRAPPERS, "rubbish".to_string()));
}

#[test]
fn serving_certificates_name_only_the_node() {
    let ask = |user: &str, dns: &[&str], addresses: &[&str]| {
        let pem = pem(user, "system:nodes", dns, addresses);
        granted(&request(KUBELET_SERVING, user, NODES, "server auth", pem))
    };
    assert!(ask("system:node:one", &["one"], &["10.0.0.5"]));
    assert!(!ask("system:node:one", &["one", "kubernetes.default"], &["10.0.0.5"]));
    assert!(!ask("system:node:one", &["one"], &["10.0.0.6"]));
    assert!(!ask("system:node:one", &[], &[]));
    assert!(!ask("system:node:two", &["two"], &[]), "no such node");
}

#[test]
fn what_is_signed() {
    let good = pem("system:node:one", "system:nodes", &[], &[]);
    let sign = |signer: &str, purpose: &str, pem: &str| {
        may_sign(&request(signer, "x", "y", purpose, pem.to_string()))
    };
    assert_eq!(sign(KUBELET_CLIENT, "client auth", &good).unwrap().as_deref(), Some(good.as_str()));
    assert_eq!(sign("example.com/own", "client auth", &good), Ok(None));
    assert!(sign(KUBELET_CLIENT, "server auth", &good).is_err());
    assert!(sign(KUBELET_SERVING, "server auth", &good).is_err(), "no names");
    let user = pem("jane", "devs", &[], &[]);
    assert!(sign(CLIENT, "client auth", &user).unwrap().is_some());
    assert!(sign(KUBELET_CLIENT, "client auth", &user).is_err());
    assert!(sign(LEGACY, "server auth", &user).unwrap().is_some());
}

#[test]
fn old_requests_are_forgotten() {
    let mut request = request(CLIENT, "x", "y", "client auth", String::new());
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    assert_eq!(expiry(&request), Some(at("2026-01-02T00:00:00Z")));
    let status = request.status.get_or_insert_default();
    status.conditions = Some(vec![condition("Denied", "", "", at("2026-01-01T05:00:00Z"))]);
    assert_eq!(expiry(&request), Some(at("2026-01-01T06:00:00Z")));
    assert_eq!(state(&request), State::Settled);
}
