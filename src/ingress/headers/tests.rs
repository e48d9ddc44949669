//! What is refused, dropped and said anew.

use http::{HeaderMap, HeaderValue, Method, Request, Version};

use super::{Origin, Refusal, authority, check, drop_between_neighbours, host_of, outward, upgrade};

fn request(uri: &str, headers: &[(&'static str, &'static str)]) -> Request<()> {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

#[test]
fn a_request_has_one_host() {
    let host = |uri: &str, headers: &[(&'static str, &'static str)]| {
        authority(&request(uri, headers)).map(|it| it.map(|it| host_of(&it)))
    };
    assert_eq!(host("/", &[("host", "A.example.com.:80")]), Ok(Some("a.example.com".into())));
    assert_eq!(host("/", &[("host", "[::1]:80")]), Ok(Some("[::1]".into())));
    // The target wins.
    assert_eq!(host("http://b.io/", &[("host", "a.io")]), Ok(Some("b.io".into())));
    assert_eq!(host("/", &[]), Err(Refusal::BadRequest("missing required Host header")));
    assert!(host("/", &[("host", "a.io"), ("host", "b.io")]).is_err());
    assert!(host("/", &[("host", "a.io/x")]).is_err() && host("/", &[("host", "u@a.io")]).is_err());
    assert_eq!(host("/", &[("host", "")]), Ok(None));
    let mut old = request("/", &[]);
    *old.version_mut() = Version::HTTP_10;
    assert_eq!(authority(&old), Ok(None));
}

#[test]
fn what_two_programs_could_read_differently_is_refused() {
    let checked =
        |headers: &[(&'static str, &'static str)]| check(&Method::POST, request("/", headers).headers());
    assert_eq!(checked(&[("transfer-encoding", "chunked")]), Ok(()));
    assert!(checked(&[("transfer-encoding", "gzip, chunked")]).is_err());
    assert!(checked(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]).is_err());
    assert!(check(&Method::CONNECT, &HeaderMap::new()).is_err());
}

#[test]
fn upgrades_pass_but_that_to_http2() {
    let asked =
        |headers: &[(&'static str, &'static str)]| upgrade(Version::HTTP_11, request("/", headers).headers());
    let websocket = Some(HeaderValue::from_static("websocket"));
    assert_eq!(asked(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]), websocket);
    assert_eq!(asked(&[("upgrade", "websocket")]), None);
    assert_eq!(asked(&[("connection", "upgrade"), ("upgrade", "h2c")]), None);
    assert_eq!(asked(&[("connection", "upgrade"), ("upgrade", "websocket, H2C")]), None);
    let both = [("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "x")];
    assert_eq!(asked(&both), None);
}

const ORIGIN: Origin =
    Origin { address: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), secure: true, port: 443 };

#[test]
fn the_backend_is_told_where_a_request_came_from_and_nothing_else_about_it() {
    let mut headers = request(
        "/",
        &[
            ("host", "a.io"),
            ("connection", "x-secret, x-forwarded-for, close"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("te", "trailers, deflate"),
            ("transfer-encoding", "chunked"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-prefix", "/x"),
            ("x_forwarded_proto", "https"),
            ("x_real_ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
            ("expect", "100-continue"),
            ("http2-settings", "AA"),
            ("proxy-authorization", "x"),
            ("x_own", "kept"),
            ("cookie", "kept"),
        ],
    )
    .headers()
    .clone();
    let authority = "a.io:8443".parse().unwrap();
    outward(&mut headers, Some(&authority), ORIGIN, None);
    let mut left: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    left.sort();
    assert_eq!(
        left,
        [
            "cookie: kept",
            "host: a.io:8443",
            "te: trailers",
            "x-forwarded-for: 192.0.2.7",
            "x-forwarded-host: a.io:8443",
            "x-forwarded-port: 443",
            "x-forwarded-proto: https",
            "x-real-ip: 192.0.2.7",
            "x_own: kept",
        ]
    );
}

#[test]
fn an_upgrade_is_asked_for_anew() {
    let mut headers = HeaderMap::new();
    outward(&mut headers, None, ORIGIN, Some(HeaderValue::from_static("websocket")));
    assert_eq!(
        (&headers["upgrade"], &headers["connection"]),
        (&"websocket".parse().unwrap(), &"upgrade".parse().unwrap())
    );
}

#[test]
fn answers_keep_the_length_of_their_body() {
    let mut headers = request(
        "/",
        &[("connection", "close, x-y"), ("x-y", "1"), ("content-length", "3"), ("keep-alive", "x")],
    )
    .headers()
    .clone();
    drop_between_neighbours(&mut headers);
    assert_eq!(headers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["content-length"]);
}
