//! What is accepted, and what is said of the rest.

use super::*;

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn configuration(resources: &str) -> String {
    format!("kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n{resources}")
}

fn refusal(text: &str) -> String {
    Configuration::parse(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_configuration_of_every_provider_is_read() {
    let text = configuration(&format!(
        "- resources: [secrets, configmaps, pandas.awesome.bears.example]
  providers:
  - secretbox: {{keys: [{{name: a, secret: {KEY}}}]}}
  - aescbc: {{keys: [{{name: a, secret: {KEY}}}, {{name: b, secret: MDEyMzQ1Njc4OTAxMjM0NQ==}}]}}
  - aesgcm: {{keys: [{{name: a, secret: {KEY}}}]}}
  - kms: {{apiVersion: v2, name: plugin, endpoint: 'unix:///run/kms.sock', timeout: 5s}}
  - identity: {{}}
- resources: ['*.apps']
  providers: [{{identity: {{}}}}]
- resources: ['*.*']
  providers: [{{identity: {{}}}}]
"
    ));
    let read = Configuration::parse(text.as_bytes()).unwrap();
    assert_eq!(read.resources.len(), 3);
    let kms = read.resources[0].providers[3].kms.as_ref().unwrap();
    assert_eq!((kms.socket(), kms.timeout()), (Some("/run/kms.sock"), Some(Duration::from_secs(5))));
    assert!(!format!("{read:?}").contains(KEY), "keys are not printed");
}

#[test]
fn what_is_wrong_is_said_in_upstreams_words() {
    let rule = |resources: &str, providers: &str| {
        configuration(&format!("- resources: [{resources}]\n  providers: [{providers}]\n"))
    };
    let key = |secret: &str| format!("{{secretbox: {{keys: [{{name: a, secret: '{secret}'}}]}}}}");
    let identity = "{identity: {}}";
    for (text, expected) in [
        (String::new(), "the encryption configuration is empty"),
        (configuration("  []\n"), "resources: Required value: at least one resources is required"),
        ("kind: Pod\napiVersion: v1\n".into(), "no kind \"Pod\" is registered for version \"v1\""),
        (rule("secrets", "{identity: {}, what: {}}"), "unknown field `what`"),
        (rule("secrets", ""), "resources[0].providers: Required value: at least one resources[0].providers"),
        (rule("", identity), "resources[0].resources: Required value"),
        (rule("Secrets", identity), "resource name should not contain capital letters"),
        (rule("'*'", identity), "use '*.' to encrypt all the resources from core API group"),
        (rule("events.events.k8s.io", identity), "Use 'events' instead in the config file"),
        (rule("a.extensions", identity), "'extensions' group has been removed"),
        (rule("'secrets.*'", identity), "encrypting the same resource across groups is not supported"),
        (rule("secrets, secrets", identity), "the same resource cannot be specified multiple times"),
        (rule("secrets, '*.'", identity), "using overlapping resources such as 'secrets' and '*.'"),
        (rule("secrets, '*.*'", identity), "using overlapping resources such as 'secrets' and '*.'"),
        (rule("secrets", "{}"), "provider does not contain any of the expected providers"),
        (
            rule("secrets", &format!("{{identity: {{}}, aesgcm: {{keys: [{{name: a, secret: {KEY}}}]}}}}")),
            "more than one provider specified in a single element",
        ),
        (rule("secrets", "{aescbc: {keys: []}}"), "at least one keys is required"),
        (
            rule("secrets", "{aescbc: {keys: [{secret: MDEyMzQ1Njc4OTAxMjM0NQ==}]}}"),
            "resources[0].providers[0].aescbc.keys[0].name: Required value: name is a mandatory field for a key",
        ),
        (rule("secrets", &key("")), "secret is a mandatory field for a key"),
        (
            rule("secrets", &key("c2hvcnQ=")),
            "secret is not of the expected length, got 5, expected one of [32]",
        ),
        (rule("secrets", &key("not base64!")), "\"REDACTED\": secrets must be base64 encoded"),
        (
            rule("secrets", "{kms: {apiVersion: v2, name: 'a:b', endpoint: 'unix:///a'}}"),
            "invalid KMS provider name a:b, must not contain ':'",
        ),
        (
            rule("secrets", "{kms: {apiVersion: v2, name: a, endpoint: 'http://a'}}"),
            "unsupported scheme \"http\" for KMS provider, only unix is supported",
        ),
        (
            rule("secrets", "{kms: {apiVersion: v2, name: a, endpoint: 'unix:///a', cachesize: 3}}"),
            "cachesize is not supported in v2",
        ),
        (
            rule("secrets", "{kms: {apiVersion: v2, name: a, endpoint: 'unix:///a', timeout: -1s}}"),
            "timeout should be a positive value",
        ),
        (
            rule("secrets", "{kms: {apiVersion: v3, name: a, endpoint: 'unix:///a'}}"),
            "only v1 and v2 are supported",
        ),
        (
            rule("secrets", "{kms: {name: old, endpoint: 'unix:///a'}}"),
            "KMSv1 is deprecated and not supported: the KMS provider \"old\"",
        ),
    ] {
        let said = refusal(&text);
        assert!(said.contains(expected), "{text}\n{said}");
    }
    let masked = configuration(
        "- {resources: ['*.*'], providers: [{identity: {}}]}\n- {resources: [secrets], providers: [{identity: {}}]}\n",
    );
    assert_eq!(refusal(&masked), "resource \"secrets\" is masked by earlier rule \"*.*\"");
}

#[test]
fn no_refusal_prints_a_key() {
    let text =
        configuration(&format!("- resources: [secrets]\n  providers: [{{aesgcm: {{keys: {KEY}}}}}]\n"));
    let said = refusal(&text);
    assert!(!said.contains(KEY), "{said}");
}
