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
    (name == "one" || name == "thief").then(|| Arc::new(serde_json::from_value(node).unwrap()))
}

/// An authority that knows one server's node and address, and takes "proof" for one.
struct Authority;

impl CertificateSigner for Authority {
    fn sign<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: &'a [String],
        _: Option<std::time::Duration>,
    ) -> client::BoxFuture<'a, Result<String, SigningError>> {
        Box::pin(async { Err(SigningError::refused("this signs nothing")) })
    }

    fn is_reserved(&self, node: &str, dns_names: &[String], addresses: &[IpAddr]) -> bool {
        let server: IpAddr = "10.0.0.5".parse().unwrap();
        node == "thief" && (addresses.contains(&server) || dns_names.iter().any(|name| name == "api.example"))
    }

    fn is_own_node(&self, node: &str) -> bool {
        node == "server"
    }

    fn is_proved(&self, _: &str, _: &str, certificate: &str, signature: &str) -> bool {
        (certificate, signature) == ("old", "proof")
    }
}

fn asked(request: &CertificateSigningRequest) -> Vec<&'static str> {
    recognize(request, &Known { node: &node, signer: &Authority })
        .iter()
        .map(|kind| kind.subresource)
        .collect()
}

#[test]
fn a_node_that_exists_is_for_who_has_its_key() {
    let of = |user: &str, name: &str, annotations: serde_json::Value| {
        let pem = pem(&format!("system:node:{name}"), "system:nodes", &[], &[]);
        let mut request = request(KUBELET_CLIENT, user, "system:bootstrappers", "client auth", pem);
        request.metadata.annotations = serde_json::from_value(annotations).unwrap();
        unproved(&request, &Known { node: &node, signer: &Authority })
    };
    let none = json!({});
    let token = "system:bootstrap:abcdef";
    assert_eq!(of(token, "fresh", none.clone()), None);
    assert_eq!(of(token, "one", none.clone()).as_deref(), Some("one"));
    assert_eq!(of(token, "server", none.clone()).as_deref(), Some("server"), "before it has registered");
    assert_eq!(of("system:node:two", "one", none.clone()).as_deref(), Some("one"));
    assert_eq!(of("system:node:one", "one", none), None, "it renews its own");
    let proof = |signature: &str| json!({PREVIOUS_CERTIFICATE: "old", PREVIOUS_KEY_SIGNATURE: signature});
    assert_eq!(of(token, "one", proof("proof")), None);
    assert_eq!(of(token, "one", proof("forged")).as_deref(), Some("one"));
}

#[test]
fn client_certificates_of_nodes() {
    let good = || pem("system:node:one", "system:nodes", &[], &[]);
    let ask = |user: &str, pem: String| asked(&request(KUBELET_CLIENT, user, "any", "client auth", pem));
    // Who may have it is authorization's to say: groups do not matter here.
    assert_eq!(ask("join", good()), ["nodeclient"]);
    assert_eq!(ask("system:node:one", good()), ["selfnodeclient", "nodeclient"]);
    assert_eq!(ask("system:node:two", good()), ["nodeclient"]);
    let none: [&str; 0] = [];
    assert_eq!(ask("join", pem("system:node:one", "system:masters", &[], &[])), none);
    assert_eq!(ask("join", pem("admin", "system:nodes", &[], &[])), none);
    assert_eq!(ask("join", pem("system:node:one", "system:nodes", &["x"], &[])), none);
    assert_eq!(asked(&request(KUBELET_CLIENT, "join", "any", "server auth", good())), none);
    assert_eq!(asked(&request(CLIENT, "join", "any", "client auth", good())), none, "another signer");
    assert_eq!(ask("join", "rubbish".to_string()), none);
}

#[test]
fn serving_certificates_name_only_the_node() {
    let is_recognized = |user: &str, dns: &[&str], addresses: &[&str]| {
        let pem = pem(user, "system:nodes", dns, addresses);
        asked(&request(KUBELET_SERVING, user, NODES, "server auth", pem)) == ["selfnodeserver"]
    };
    assert!(is_recognized("system:node:one", &["one"], &["10.0.0.5"]));
    assert!(!is_recognized("system:node:one", &["one", "kubernetes.default"], &["10.0.0.5"]));
    assert!(!is_recognized("system:node:one", &["one"], &["10.0.0.6"]));
    assert!(!is_recognized("system:node:one", &[], &[]));
    assert!(is_recognized("system:node:thief", &["thief"], &[]));
    assert!(
        !is_recognized("system:node:thief", &["thief"], &["10.0.0.5"]),
        "the API server's, whatever it reports"
    );
    assert!(!is_recognized("system:node:two", &["two"], &[]), "no such node");
}

#[test]
fn a_node_may_ask_for_its_networks_certificate_and_no_other_users() {
    let ask = |user: &str, name: &str, group: Option<&str>| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        asked(&request(CLIENT, user, NODES, "client auth", pem)) == ["nodenetwork"]
    };
    assert!(ask("system:node:one", "system:kube-proxy", None));
    assert!(!ask("system:node:one", "system:admin", None));
    assert!(!ask("system:node:one", "system:kube-proxy", Some("system:masters")));
    assert!(!ask("jane", "system:kube-proxy", None));
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
