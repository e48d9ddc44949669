//! What paths of other servers name.

use super::*;

#[test]
fn paths_name_resources_as_everywhere() {
    // Without a resource it is discovery.
    assert_eq!(named("apis/g/v1"), None);
    let path = "apis/g/v1/namespaces/ns/flunders/f/status";
    let expected =
        Named { namespace: Some("ns"), resource: "flunders", name: Some("f"), subresource: Some("status") };
    assert_eq!(named(path), Some(expected));
    let flunders = Named { resource: "flunders", ..Named::default() };
    assert_eq!(named("apis/g/v1/flunders"), Some(flunders));
    let namespaces = Named { resource: "namespaces", name: Some("ns"), ..Named::default() };
    assert_eq!(named("apis/g/v1/namespaces/ns"), Some(namespaces));
    assert_eq!(named("openapi/v3/apis/g/v1"), None);
}

#[test]
fn odd_paths_are_no_paths() {
    for path in ["apis/g/v1//secrets", "apis/g/v1/../x", "apis/g/v1/a%2Fb", "apis/g/v1/%2e%2e/x"] {
        assert!(!is_plain(path).unwrap(), "{path}");
    }
    assert!(is_plain("apis/g/v1/namespaces/ns/flunders").unwrap());
}

#[test]
fn verbs_follow_from_methods() {
    let verb = |method: Method, path: &str, watches| super::verb(&method, &named(path).unwrap(), watches);
    assert_eq!(verb(Method::GET, "apis/g/v1/flunders", false), "list");
    assert_eq!(verb(Method::GET, "apis/g/v1/flunders", true), "watch");
    assert_eq!(verb(Method::GET, "apis/g/v1/flunders/f", false), "get");
    assert_eq!(verb(Method::DELETE, "apis/g/v1/flunders", false), "deletecollection");
    assert_eq!(verb(Method::DELETE, "apis/g/v1/flunders/f", false), "delete");
    assert_eq!(verb(Method::POST, "apis/g/v1/flunders", false), "create");
}
