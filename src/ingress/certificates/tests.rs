//! Which certificate is shown to whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rustls::sign::CertifiedKey;

use super::{FOLLOWED, OF_NAMESPACE, SECRET_TYPE, Shown, certified, self_made, wanted};
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
                secrets: secret.split(' ').map(str::to_string).collect(),
            })
            .collect(),
        redirects: true,
        response_timeout: None,
    }
}

fn of(wanted: &super::Wanted, host: &str) -> Vec<String> {
    let lists = wanted.hosts.get(host).into_iter().flatten();
    lists
        .flat_map(|list| &wanted.lists[*list])
        .map(|(namespace, name)| format!("{namespace}/{name}"))
        .collect()
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

/// Many entries of TLS for many hosts are no product of both, neither here nor when certificates are chosen.
#[test]
fn what_is_kept_is_as_large_as_the_ingress() {
    let rules: Vec<String> = (0..5_000).map(|at| format!("h{at}.io")).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let secrets: Vec<String> = (0..5_000).map(|at| format!("s{at}")).collect();
    let all = ingress("a/all", &rules, &[(&[], &secrets.join(" "))]);
    let mut each = ingress("a/each", &[], &[]);
    each.tls =
        secrets.iter().map(|it| Tls { hosts: vec!["e.io".into()], secrets: vec![it.clone()] }).collect();
    let mut foreign = ingress("b/foreign", &[], &[]);
    foreign.tls = each.tls.clone();
    let (wanted, faults) = wanted(&[all, each, foreign]);
    assert_eq!(wanted.hosts.len(), 5_001);
    let lists: usize = wanted.hosts.values().map(Vec::len).sum();
    let names: usize = wanted.lists.iter().map(Vec::len).sum();
    assert!(lists <= 10_001 && names <= 10_001, "{lists} lists, {names} names");
    assert_eq!(
        faults.iter().filter(|fault| fault.reason == "HostConflict").count(),
        1,
        "one host is told once"
    );
    let asked = std::cell::Cell::new(0);
    let none = |_: &Name| {
        asked.set(asked.get() + 1);
        None
    };
    let shown = Shown::new(&wanted, none, &self_made().unwrap());
    assert!(shown.by_host.is_empty() && asked.get() <= names, "{} looks", asked.get());
}

#[test]
fn secrets_that_are_followed_are_bounded_by_namespace_and_in_all() {
    let of = |place: &str, count: usize| {
        let names: Vec<String> = (0..count).map(|at| format!("s{at}")).collect();
        ingress(place, &["*.io"], &[(&[], &names.join(" "))])
    };
    let mut all = vec![of("a/first", 60), of("a/second", OF_NAMESPACE + 7), of("b/other", 1)];
    all[2].rules[0].host = "b.org".into();
    let (few, faults) = wanted(&all);
    assert_eq!(few.secrets().len(), OF_NAMESPACE + 1, "the other namespace has its own places");
    let told: Vec<_> =
        faults.iter().map(|it| (it.ingress.1.as_str(), it.reason, it.message.as_str())).collect();
    let message = "7 secrets for TLS are left out: 100 of a namespace and 500 in all are followed, those of the \
                   oldest ingresses first";
    assert_eq!(told, [("second", "TooManySecrets", message)]);
    let all: Vec<_> = (0..6)
        .map(|at| {
            let mut one = of(&format!("n{at}/i"), OF_NAMESPACE);
            one.rules[0].host = format!("n{at}.io");
            one
        })
        .collect();
    let (many, faults) = wanted(&all);
    assert_eq!(many.secrets().len(), FOLLOWED);
    assert_eq!(faults.iter().map(|it| it.ingress.0.as_str()).collect::<Vec<_>>(), ["n5"]);
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
