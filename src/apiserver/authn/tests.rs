//! Keys, claims and tokens. What depends on other objects is tested with real caches in the registry's tests.

use jiff::Timestamp;

use super::jwt::{Claims, Keys, Private, Reference};
use super::service_account::Refused;
use super::*;
use crate::ServiceAccountKeys;

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn keys() -> Keys {
    let random = ring::rand::SystemRandom::new();
    let der = ring::signature::EcdsaKeyPair::generate_pkcs8(
        &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        &random,
    )
    .unwrap();
    Keys::new(&ServiceAccountKeys {
        issuer: "https://kubernetes.default.svc.cluster.local".into(),
        audiences: vec![],
        private_key_pem: pem("PRIVATE KEY", der.as_ref()),
        public_keys_pem: vec![],
        extend_expiration: true,
    })
    .unwrap()
}

fn claims() -> Claims {
    Claims {
        aud: vec!["api".into()],
        exp: 2000,
        iat: 1000,
        iss: "me".into(),
        jti: "1".into(),
        nbf: 1000,
        sub: "system:serviceaccount:default:builder".into(),
        kubernetes: Private {
            namespace: "default".into(),
            serviceaccount: Reference { name: "builder".into(), uid: "u".into() },
            ..Private::default()
        },
    }
}

#[test]
fn a_signed_token_verifies_until_it_is_touched() {
    let keys = keys();
    let token = keys.sign(&claims()).unwrap();
    assert_eq!(*keys.verify(&token).unwrap(), claims());
    assert_eq!(*keys.verify(&token).unwrap(), claims(), "from memory");
    let mut forged = token.clone().into_bytes();
    let middle = token.find('.').unwrap() + 10;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    assert_eq!(keys.verify(std::str::from_utf8(&forged).unwrap()).unwrap_err(), Refused::Signature);
    assert_eq!(super::tests::keys().verify(&token).unwrap_err(), Refused::Signature, "another cluster's key");
    for garbage in ["", "a", "a.b", "a.b.c", "é.é.é"] {
        assert_eq!(keys.verify(garbage).unwrap_err(), Refused::Malformed, "{garbage}");
    }
}

#[test]
fn a_token_cannot_choose_its_algorithm() {
    use base64::Engine as _;
    let keys = keys();
    let token = keys.sign(&claims()).unwrap();
    let payload = token.split('.').nth(1).unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    assert_eq!(keys.verify(&format!("{header}.{payload}.")).unwrap_err(), Refused::Signature);
}

#[test]
fn claims_are_checked_against_issuer_audience_and_time() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let audiences = ["api".to_string()];
    let check = |second| claims().check("me", &audiences, at(second));
    assert_eq!(check(1500), Ok(()));
    assert_eq!(check(2060), Ok(()), "within the leeway");
    assert_eq!(check(2061), Err(Refused::Expired));
    assert_eq!(check(939), Err(Refused::NotYetValid));
    assert_eq!(claims().check("you", &audiences, at(1500)), Err(Refused::Issuer));
    assert_eq!(claims().check("me", &["other".to_string()], at(1500)), Err(Refused::Audience));
}

#[test]
fn audiences_may_be_one_string() {
    let mut value = serde_json::to_value(claims()).unwrap();
    value["aud"] = "api".into();
    assert_eq!(serde_json::from_value::<Claims>(value).unwrap(), claims());
}

#[test]
fn join_tokens_lose_their_pin_and_show_their_public_half() {
    assert_eq!(secret_part("K10abc::secret"), "secret");
    assert_eq!(secret_part("K10abc::server:secret"), "secret");
    assert_eq!(secret_part("a::b"), "a::b");
    assert_eq!(bootstrap_id("abcdef.0123456789abcdef"), "abcdef");
    assert_eq!(bootstrap_id("my-secret"), "minik8s");
}

#[test]
fn the_key_set_names_the_signing_key() {
    let keys = keys();
    let set = keys.jwks();
    assert_eq!(set["keys"][0]["crv"], "P-256");
    assert_eq!(set["keys"].as_array().unwrap().len(), 1);
    assert_eq!(set["keys"][0]["x"].as_str().unwrap().len(), 43);
}
