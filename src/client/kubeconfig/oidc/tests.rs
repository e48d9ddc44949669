//! Tests of the OIDC provider: which tokens are still good, renewal over HTTP, and what is written back.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Oidc, is_valid};
use crate::https::CredentialSource;
use crate::kubeconfig::{Loaded, Places};

fn token(seconds: i64) -> String {
    let expiry = Timestamp::now().as_second() + seconds;
    format!("h.{}.s", URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{expiry}}}")))
}

#[test]
fn a_token_is_used_until_shortly_before_it_expires() {
    assert!(is_valid(&token(60)).unwrap());
    assert!(!is_valid(&token(5)).unwrap());
    assert!(!is_valid(&format!("h.{}.s", URL_SAFE_NO_PAD.encode("{\"exp\":1.5}"))).unwrap());
    assert_eq!(is_valid("a.b").unwrap_err().to_string(), "ID Token is not a valid JWT");
}

/// Answers one request on each connection.
async fn answer(listener: &TcpListener, body: &str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    let head_end = loop {
        request.push(stream.read_u8().await.unwrap());
        if request.ends_with(b"\r\n\r\n") {
            break request.len();
        }
    };
    let head = String::from_utf8_lossy(&request).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    request.resize(head_end + length.unwrap_or(0), 0);
    stream.read_exact(&mut request[head_end..]).await.unwrap();
    let text =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    String::from_utf8(request).unwrap()
}

#[tokio::test]
async fn an_expired_token_is_renewed_and_written_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    let provider = format!(
        "{{name: oidc, config: {{idp-issuer-url: 'http://{place}/realm', client-id: me, client-secret: s, id-token: '{}', refresh-token: old}}}}",
        token(-5)
    );
    std::fs::write(&path, format!("users:\n- name: u\n  user: {{auth-provider: {provider}}}\n")).unwrap();
    let places = Places { explicit: Some(path), variable: None, home: None, system: PathBuf::new() };
    let loaded = Loaded::load(&places).unwrap();
    let of_user = loaded.merged.user("u").unwrap().auth_provider.clone().unwrap();
    let oidc = Oidc::new("u", &of_user, Some(loaded)).unwrap();
    let fresh = token(3600);
    let served = async {
        let metadata = format!("{{\"token_endpoint\":\"http://{place}/token\"}}");
        let first = answer(&listener, &metadata).await;
        let renewed = format!("{{\"id_token\":\"{fresh}\",\"refresh_token\":\"new\"}}");
        (first, answer(&listener, &renewed).await)
    };
    let (credential, (first, second)) = tokio::join!(oidc.current(), served);
    assert_eq!(credential.unwrap().token.as_ref(), Some(&fresh));
    assert!(first.starts_with("GET /realm/.well-known/openid-configuration "), "{first}");
    assert!(second.starts_with("POST /token "), "{second}");
    assert!(second.ends_with("grant_type=refresh_token&refresh_token=old"), "{second}");
    assert!(second.to_lowercase().contains("authorization: basic bwu6cw=="), "{second}");
    // The second time nobody is asked.
    assert_eq!(oidc.current().await.unwrap().token.as_ref(), Some(&fresh));
    let again = Loaded::load(&places).unwrap();
    let config = again.merged.user("u").unwrap().auth_provider.clone().unwrap()["config"].clone();
    assert_eq!(config["refresh-token"], "new");
    assert_eq!(config["id-token"], fresh.as_str());
    assert_eq!(config["client-secret"], "s");
}
