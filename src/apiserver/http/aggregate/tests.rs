//! Which headers are handed on.

use super::*;

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
