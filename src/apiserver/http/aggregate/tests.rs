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

#[test]
fn no_caller_passes_for_another() {
    let mut given = HeaderMap::new();
    for name in [
        "x-remote-user",
        "x-remote-group",
        "authorization",
        "impersonate-user",
        "connection",
        "accept",
        "x_remote_user",
        "x-remote_group",
        "impersonate_user",
        "transfer_encoding",
    ] {
        given.insert(HeaderName::from_static(name), http::HeaderValue::from_static("x"));
    }
    let mut passed = HeaderMap::new();
    pass_headers(&given, &mut passed);
    assert_eq!(passed.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
}

#[test]
fn a_token_among_protocols_is_the_clients_own() {
    let mut headers = HeaderMap::new();
    let token = "base64url.bearer.authorization.k8s.io.c2VjcmV0";
    headers.insert("sec-websocket-protocol", format!("{token}, v5.channel.k8s.io").parse().unwrap());
    headers.append("sec-websocket-protocol", "v4.channel.k8s.io".parse().unwrap());
    headers::strip_token(&mut headers);
    let left: Vec<_> = headers.get_all("sec-websocket-protocol").iter().collect();
    assert_eq!(left, ["v5.channel.k8s.io, v4.channel.k8s.io"]);
    headers.insert("sec-websocket-protocol", token.parse().unwrap());
    headers::strip_token(&mut headers);
    assert!(headers.is_empty());
}
