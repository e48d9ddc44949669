//! Tests of proxies: their URLs, what the environment exempts, and both protocols on the wire.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{Proxy, is_exempt};

#[test]
fn urls_name_the_protocol_the_place_and_the_user() {
    let proxy = Proxy::parse("http://me:p%40ss@proxy.example:3128").unwrap();
    assert_eq!(proxy.address(), ("proxy.example", 3128));
    assert_eq!(proxy.user, Some(("me".to_string(), "p@ss".to_string())));
    assert_eq!(Proxy::parse("socks5://[::1]").unwrap().address(), ("::1", 1080));
    assert_eq!(Proxy::parse("https://p").unwrap().tls_name(), Some("p"));
    let error = Proxy::parse("ftp://p").unwrap_err();
    assert_eq!(error.to_string(), "unsupported scheme \"ftp\", must be http, https, or socks5");
    assert!(Proxy::parse("http://").is_err());
    assert!(!format!("{proxy:?}").contains("p@ss"), "a password is not for logs");
}

#[test]
fn the_environment_exempts_loopback_and_what_it_lists() {
    for (authority, list, exempt) in [
        ("localhost:6443", "", true),
        ("127.0.0.1:6443", "", true),
        ("[::1]:6443", "", true),
        ("one.example:6443", "", false),
        ("one.example:6443", "*", true),
        ("one.example:6443", "example", true),
        ("one.example:6443", ".example", true),
        ("example:6443", ".example", false),
        ("example:6443", "example", true),
        ("badexample:6443", "example", false),
        ("one.example:6443", "one.example:443, x", false),
        ("one.example:6443", "x , one.example:6443", true),
        ("10.1.2.3:6443", "10.1.0.0/16", true),
        ("10.2.2.3:6443", "10.1.0.0/16", false),
        ("10.2.2.3:6443", "10.2.2.3", true),
        ("[fd00::1]:6443", "fd00::/8", true),
    ] {
        assert_eq!(is_exempt(authority, list), exempt, "{authority} {list}");
    }
}

#[tokio::test]
async fn an_http_proxy_is_asked_by_connect_and_what_follows_is_left() {
    let (mut near, mut far) = duplex(4096);
    let proxy = Proxy::parse("http://me:word@p:1").unwrap();
    let answered = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(far.read_u8().await.unwrap());
        }
        far.write_all(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nfirst").await.unwrap();
        String::from_utf8(head).unwrap()
    };
    let (opened, head) = tokio::join!(proxy.open(&mut near, "one.example", 6443), answered);
    opened.unwrap();
    assert_eq!(
        head,
        "CONNECT one.example:6443 HTTP/1.1\r\nHost: one.example:6443\r\nProxy-Authorization: Basic bWU6d29yZA==\r\n\r\n"
    );
    let mut first = [0; 5];
    near.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"first");

    far.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.unwrap();
    let error = proxy.open(&mut near, "one.example", 6443).await.unwrap_err();
    assert_eq!(error.to_string(), "Forbidden");
}

#[tokio::test]
async fn a_socks_proxy_resolves_names_and_checks_passwords() {
    let (mut near, mut far) = duplex(4096);
    let proxy = Proxy::parse("socks5://me:word@p").unwrap();
    let answered = async {
        let mut greeting = [0; 4];
        far.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting, [5, 2, 0, 2]);
        far.write_all(&[5, 2]).await.unwrap();
        let mut login = [0; 9];
        far.read_exact(&mut login).await.unwrap();
        assert_eq!(&login, b"\x01\x02me\x04word");
        far.write_all(&[1, 0]).await.unwrap();
        let mut request = [0; 9];
        far.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"\x05\x01\x00\x03\x02ab\x01\xbb");
        far.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    };
    let (opened, ()) = tokio::join!(proxy.open(&mut near, "ab", 443), answered);
    opened.unwrap();

    far.write_all(&[5, 0, 5, 5, 0, 1]).await.unwrap();
    let error = proxy.open(&mut near, "10.0.0.1", 443).await.unwrap_err();
    assert_eq!(error.to_string(), "socks connect: connection refused");
}
