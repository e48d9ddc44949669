//! The form of tokens and of their Secrets.

use super::*;

#[test]
fn random_tokens_are_of_the_form_and_differ() {
    let tokens: Vec<String> = (0..100).map(|_| random()).collect();
    for token in &tokens {
        let (id, secret) = token.split_once('.').unwrap();
        assert!(is_part(id, 6) && is_part(secret, 16), "{token}");
    }
    assert_eq!(tokens.iter().collect::<std::collections::BTreeSet<_>>().len(), 100);
}

#[test]
fn a_secret_holds_what_kubeadm_expects() {
    let now: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
    let made = secret("abcdef.0123456789abcdef", Some(3600), "for ci", &[], now).unwrap();
    assert_eq!(made.metadata.name.as_deref(), Some("bootstrap-token-abcdef"));
    assert_eq!(made.type_.as_deref(), Some(TYPE));
    let data = made.string_data.unwrap();
    assert_eq!(data["token-id"], "abcdef");
    assert_eq!(data["token-secret"], "0123456789abcdef");
    assert_eq!(data["expiration"], "2026-01-01T01:00:00Z");
    assert_eq!(data["usage-bootstrap-authentication"], "true");
    assert_eq!(data["auth-extra-groups"], DEFAULT_GROUP);
    assert_eq!(data["description"], "for ci");
    let endless = secret("abcdef.0123456789abcdef", None, "", &[], now).unwrap().string_data.unwrap();
    assert!(!endless.contains_key("expiration") && !endless.contains_key("description"));
}

#[test]
fn what_is_no_token_or_brings_other_groups_is_refused() {
    let now = Timestamp::UNIX_EPOCH;
    for wrong in ["", "abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123", "abcde.0123456789abcdef0"] {
        assert!(secret(wrong, None, "", &[], now).is_err(), "{wrong}");
    }
    let masters = ["system:masters".to_string()];
    let refused = secret("abcdef.0123456789abcdef", None, "", &masters, now).unwrap_err().to_string();
    assert!(refused.contains("system:bootstrappers:"), "{refused}");
    assert!(secret("abcdef.0123456789abcdef", Some(i64::MAX), "", &[], now).is_err());
}
