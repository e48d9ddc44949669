//! Which provider writes and reads which value.

use super::*;

const ONE: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const TWO: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";
const SECRET: &[u8] = b"/registry/secrets/default/s";

fn transformers(rules: &str) -> Transformers {
    let text =
        format!("kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n{rules}");
    let configuration = Configuration::parse(text.as_bytes()).unwrap();
    let rules = Rules::new(&configuration, &Plugins::default()).unwrap();
    Transformers { file: Some(Arc::new(rules)), kept: None }
}

fn secrets(providers: &[String]) -> Transformers {
    transformers(&format!("- resources: [secrets]\n  providers: [{}]\n", providers.join(", ")))
}

fn provider(kind: &str, keys: &[(&str, &str)]) -> String {
    let keys: Vec<String> =
        keys.iter().map(|(name, secret)| format!("{{name: {name}, secret: {secret}}}")).collect();
    format!("{{{kind}: {{keys: [{}]}}}}", keys.join(", "))
}

fn identity() -> String {
    "{identity: {}}".to_string()
}

fn plain() -> Bytes {
    Bytes::from_static(br#"{"kind":"Secret"}"#)
}

#[test]
fn values_have_upstreams_prefixes_and_open_again() {
    for (kind, prefix) in [("secretbox", "secretbox:v1:"), ("aesgcm", "aesgcm:v1:"), ("aescbc", "aescbc:v1:")]
    {
        let transformers = secrets(&[provider(kind, &[("key1", ONE)]), identity()]);
        let stored = transformers.write(SECRET, &plain()).unwrap();
        assert!(stored.starts_with(format!("k8s:enc:{prefix}key1:").as_bytes()), "{stored:?}");
        let opened = transformers.read(SECRET, &stored).unwrap();
        assert_eq!((opened.value, opened.stale), (plain(), false));
        let unencrypted = transformers.read(SECRET, &plain()).unwrap();
        assert_eq!((unencrypted.value, unencrypted.stale), (plain(), true), "it is to be encrypted");
    }
}

#[test]
fn what_another_key_has_written_is_stale() {
    let old = secrets(&[provider("secretbox", &[("key1", ONE)])]);
    let stored = old.write(SECRET, &plain()).unwrap();
    for rotated in [
        secrets(&[provider("secretbox", &[("key2", TWO), ("key1", ONE)])]),
        secrets(&[provider("aesgcm", &[("key1", ONE)]), provider("secretbox", &[("key1", ONE)])]),
        secrets(&[provider("secretbox", &[("key1", TWO)]), provider("secretbox", &[("key1", ONE)])]),
        secrets(&[identity(), provider("secretbox", &[("key1", ONE)])]),
    ] {
        let opened = rotated.read(SECRET, &stored).unwrap();
        assert_eq!((opened.value, opened.stale), (plain(), true));
        let written = rotated.write(SECRET, &plain()).unwrap();
        assert!(!rotated.read(SECRET, &written).unwrap().stale);
    }
}

#[test]
fn what_cannot_be_read_says_why() {
    let stored = secrets(&[provider("secretbox", &[("key1", ONE)])]).write(SECRET, &plain()).unwrap();
    let fails = |transformers: Transformers, value: &Bytes| {
        transformers.read(SECRET, value).err().expect("it cannot be read").to_string()
    };
    let wrong_key = fails(secrets(&[provider("secretbox", &[("key1", TWO)])]), &stored);
    assert!(
        wrong_key.starts_with("k8s:enc:secretbox:v1:key1:: message authentication failed"),
        "{wrong_key}"
    );
    assert_eq!(
        fails(secrets(&[provider("secretbox", &[("key2", ONE)])]), &stored),
        "no matching key was found for the provided Secretbox transformer"
    );
    assert_eq!(fails(secrets(&[provider("aesgcm", &[("key1", ONE)])]), &stored), "no matching prefix found");
    // Without identity, nothing that is not encrypted is believed.
    assert_eq!(fails(secrets(&[provider("aesgcm", &[("key1", ONE)])]), &plain()), "no matching prefix found");
    let unexpected =
        fails(transformers("- {resources: [configmaps], providers: [{identity: {}}]}\n"), &stored);
    assert!(unexpected.starts_with("identity transformer tried to read encrypted data"), "{unexpected}");
}

#[test]
fn resources_are_known_by_where_they_are_stored() {
    for (key, resource) in [
        ("/registry/secrets/default/s", "secrets"),
        ("/registry/services/specs/default/s", "services"),
        ("/registry/services/endpoints/default/s", "endpoints"),
        ("/registry/minions/n", "nodes"),
        ("/registry/deployments/default/d", "deployments.apps"),
        ("/registry/events/default/e", "events"),
        ("/registry/bears.example/pandas/default/p", "pandas.bears.example"),
        (
            "/registry/apiextensions.k8s.io/customresourcedefinitions/d",
            "customresourcedefinitions.apiextensions.k8s.io",
        ),
    ] {
        assert_eq!(resource_of(key.as_bytes()).unwrap().to_string(), resource, "{key}");
    }
    for key in ["/registry/claims/nodeports/1", "/registry/encryption/configuration", "mine", "/registry/"] {
        assert_eq!(resource_of(key.as_bytes()), None, "{key}");
    }
}

#[test]
fn wildcards_take_what_no_rule_before_them_has() {
    let gcm = provider("aesgcm", &[("a", ONE)]);
    let transformers = transformers(&format!(
        "- {{resources: [events], providers: [{{identity: {{}}}}]}}
- {{resources: ['*.apps', '*.bears.example'], providers: [{}, {{identity: {{}}}}]}}
- {{resources: ['*.'], providers: [{gcm}, {{identity: {{}}}}]}}
- {{resources: ['*.*'], providers: [{}, {{identity: {{}}}}]}}
",
        provider("secretbox", &[("b", ONE)]),
        provider("aescbc", &[("c", ONE)]),
    ));
    for (key, prefix) in [
        ("/registry/events/default/e", "{"),
        ("/registry/deployments/default/d", "k8s:enc:secretbox:v1:b:"),
        ("/registry/bears.example/pandas/p", "k8s:enc:secretbox:v1:b:"),
        ("/registry/pods/default/p", "k8s:enc:aesgcm:v1:a:"),
        ("/registry/leases/default/l", "k8s:enc:aescbc:v1:c:"),
        ("/registry/claims/nodeports/1", "{"),
    ] {
        let stored = transformers.write(key.as_bytes(), &plain()).unwrap();
        assert!(stored.starts_with(prefix.as_bytes()), "{key} {stored:?}");
        assert_eq!(transformers.read(key.as_bytes(), &stored).unwrap().value, plain());
    }
}
