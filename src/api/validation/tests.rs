//! Names and metadata against upstream's messages.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::*;

fn meta(value: serde_json::Value) -> ObjectMeta {
    serde_json::from_value(value).unwrap()
}

fn printed(faults: Faults) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn names_have_upstreams_rules() {
    let subdomain = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let cases: &[(&str, Vec<String>, &[&str])] = &[
        ("plain", name_is_dns_subdomain("web-0.x", false), &[]),
        ("upper", name_is_dns_subdomain("Web", false), &[subdomain]),
        ("two dots", name_is_dns_subdomain("a..b", false), &[subdomain]),
        ("prefix", name_is_dns_subdomain("web-", true), &[]),
        ("not a prefix", name_is_dns_subdomain("web-", false), &[subdomain]),
        ("only a dash", name_is_dns_subdomain("-", true), &[subdomain]),
        ("label with dots", name_is_dns_label("a.b", false), &["must not contain dots"]),
        ("label", name_is_dns_label("a_b", false), &[label]),
        ("label length", name_is_dns_label(&"a".repeat(64), false), &["must be no more than 63 bytes"]),
        ("path", name_is_path_segment("system:a", false), &[]),
        ("path slash", name_is_path_segment("a/b", false), &["may not contain '/'"]),
        ("path dot", name_is_path_segment("..", false), &["may not be '..'"]),
        ("key", config_map_key("..a"), &["must not start with '..'"]),
        ("port digits", port_name("80"), &["must contain at least one letter (a-z)"]),
        (
            "env",
            env_var_name("a=b"),
            &[
                "a valid environment variable name must consist only of printable ASCII characters other than '='",
            ],
        ),
        ("non-ASCII prefix", name_is_dns_subdomain("é-", true), &[]),
    ];
    for (what, found, want) in cases {
        assert_eq!(found, want, "{what}");
    }
    assert_eq!(dns1035_label("1a").len(), 1);
    for name in ["_tcp.example.com", "a_b", "_a"] {
        assert_eq!(dns1123_subdomain_with_underscore(name), [""; 0], "{name}");
    }
    for name in ["__a", "_", "a_", "a..b", "A", "_-a", ""] {
        assert_eq!(dns1123_subdomain_with_underscore(name).len(), 1, "{name}");
    }
    assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
}

#[test]
fn qualified_names_name_the_faulty_part() {
    assert!(qualified_name("example.com/a_B.c").is_empty());
    let name = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    assert_eq!(qualified_name("-a"), [name]);
    assert_eq!(qualified_name("x/"), ["name part must be non-empty", name]);
    assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"]);
    assert!(qualified_name("a/b/c")[0].starts_with("a qualified name must consist of"));
    assert!(qualified_name("a/b/c")[0].ends_with("(e.g. 'example.com/MyName')"));
}

#[test]
fn metadata_of_a_new_object() {
    let good = meta(
        json!({"name": "a", "namespace": "b", "labels": {"k": "v"}, "annotations": {"Example.com/x": "y"}}),
    );
    assert_eq!(printed(validate_object_meta(&good, true, name_is_dns_subdomain, true)), [""; 0]);

    let bad = meta(json!({
        "namespace": "x",
        "labels": {"k": "v v"},
        "finalizers": ["mine"],
        "ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "", "controller": true},
            {"apiVersion": "v1", "kind": "Pod", "name": "b", "uid": "1", "controller": true},
        ],
    }));
    let faults = printed(validate_object_meta(&bad, false, name_is_dns_subdomain, true));
    assert_eq!(faults[0], "metadata.name: Required value: name or generateName is required");
    assert_eq!(faults[1], "metadata.namespace: Forbidden: not allowed on this type");
    assert!(
        faults[2]
            .starts_with("metadata.labels: Invalid value: \"v v\": a valid label must be an empty string")
    );
    assert_eq!(faults[3], "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty");
    assert!(faults[4].ends_with(
        "Only one reference can have Controller set to true. Found \"true\" in references for a and b"
    ));
    assert_eq!(
        faults[5],
        "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified"
    );
    assert_eq!(faults.len(), 6);
}

#[test]
fn annotations_are_bounded_together() {
    let half = "x".repeat(128 * 1024);
    let large = meta(json!({"name": "a", "annotations": {"a": half, "b": half}}));
    let faults = printed(validate_object_meta(&large, false, name_is_dns_subdomain, false));
    assert_eq!(faults, ["metadata.annotations: Too long: may not be more than 262144 bytes"]);
}

#[test]
fn metadata_updates_keep_what_is_fixed() {
    let old = meta(json!({"name": "a", "uid": "1", "resourceVersion": "5", "generation": 2,
        "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}));
    assert_eq!(printed(validate_object_meta_update(&old, &old, false)), [""; 0]);
    let new = meta(json!({"name": "b", "uid": "1", "generation": 1,
        "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y", "x/z"]}));
    assert_eq!(
        printed(validate_object_meta_update(&new, &old, false)),
        [
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x/z\"}",
            "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
            "metadata.generation: Invalid value: 1: must not be decremented",
            "metadata.name: Invalid value: \"b\": field is immutable",
        ]
    );
}
