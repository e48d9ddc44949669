//! Which certificate is shown to whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rustls::sign::CertifiedKey;

use super::{SECRET_TYPE, Shown, certified, self_made, wanted};
use crate::facts::{IngressFacts, Name, Rule, Tls};

fn secret(kind: &str, certificate: &str, key: &str) -> Secret {
    let data = [("tls.crt", certificate), ("tls.key", key)];
    let data = data.map(|(name, text)| (name.to_string(), ByteString(text.as_bytes().to_vec())));
    Secret { type_: Some(kind.to_string()), data: Some(BTreeMap::from(data)), ..Secret::default() }
}

fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["a.io".to_string()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn secrets_are_checked_before_they_are_used() {
    let (certificate, key) = pair();
    assert!(certified(&secret(SECRET_TYPE, &certificate, &key)).is_ok());
    let why = |secret: Secret| crate::chain(&certified(&secret).unwrap_err());
    assert!(why(secret("Opaque", &certificate, &key)).contains("not of the type"));
    assert!(why(secret(SECRET_TYPE, "", &key)).contains("no tls.crt"));
    assert!(why(secret(SECRET_TYPE, &certificate, "x")).contains("tls.key is not PEM"));
    assert!(why(secret(SECRET_TYPE, &certificate, &pair().1)).contains("does not fit"));
    assert!(why(Secret { type_: Some(SECRET_TYPE.to_string()), ..Secret::default() }).contains("no tls.crt"));
}

fn ingress(place: &str, rules: &[&str], tls: &[(&[&str], &str)]) -> IngressFacts {
    let (namespace, name) = place.split_once('/').unwrap();
    IngressFacts {
        namespace: namespace.to_string(),
        name: name.to_string(),
        uid: place.to_string(),
        created: None,
        rules: rules.iter().map(|host| Rule { host: host.to_string(), paths: Vec::new() }).collect(),
        default: None,
        tls: tls
            .iter()
            .map(|(hosts, secret)| Tls {
                hosts: hosts.iter().map(|host| host.to_string()).collect(),
                secret: Some(secret.to_string()),
            })
            .collect(),
        redirects: true,
        response_timeout: None,
    }
}

fn of(wanted: &super::Wanted, host: &str) -> Vec<String> {
    wanted.get(host).into_iter().flatten().map(|(namespace, name)| format!("{namespace}/{name}")).collect()
}

#[test]
fn a_host_has_certificates_of_its_own_namespace_only() {
    let (wanted, faults) = wanted(&[
        ingress("a/web", &["shop.io"], &[]),
        ingress("a/tls", &["shop.io"], &[(&["shop.io", "*.w.io"], "one")]),
        ingress("a/more", &[], &[(&["shop.io"], "two")]),
        ingress("b/thief", &[], &[(&["shop.io", "x.w.io", "own.io"], "bad")]),
        ingress("b/rules", &["b.io"], &[(&[], "rules")]),
    ]);
    assert_eq!(of(&wanted, "shop.io"), ["a/one", "a/two"]);
    assert_eq!(of(&wanted, "x.w.io"), [""; 0]);
    assert_eq!(
        (of(&wanted, "own.io"), of(&wanted, "b.io")),
        (vec!["b/bad".to_string()], vec!["b/rules".to_string()])
    );
    let told: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    assert_eq!(
        told,
        [
            "TLS of host \"shop.io\" is left out: Ingress a/web has the host",
            "TLS of host \"x.w.io\" is left out: Ingress a/tls has the host",
        ]
    );
}

#[test]
fn the_name_that_is_asked_for_chooses() {
    let made = || self_made().unwrap();
    let all: Vec<Arc<CertifiedKey>> = (0..3).map(|_| made()).collect();
    let (wanted, _) = wanted(&[
        ingress("a/exact", &[], &[(&["x.w.io"], "missing"), (&["x.w.io"], "0")]),
        ingress("a/wild", &[], &[(&["*.w.io"], "1")]),
    ]);
    let of = |name: &Name| name.1.parse::<usize>().ok().map(|at| all[at].clone());
    let shown = Shown::new(&wanted, of, &all[2]);
    let is = |name: Option<&str>, at: usize| Arc::ptr_eq(shown.of(name), &all[at]);
    // A secret that is not there leaves the next one its turn.
    assert!(is(Some("x.w.io"), 0) && is(Some("X.W.io."), 0));
    assert!(is(Some("y.w.io"), 1) && is(Some("a.y.w.io"), 2) && is(Some("w.io"), 2) && is(None, 2));
}
