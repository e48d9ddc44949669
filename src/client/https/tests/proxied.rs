//! Tests of the way to a server through a proxy, and of credentials that a source renews.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;

use super::*;
use crate::BoxFuture;
use crate::https::{Credential, CredentialError, CredentialSource, Proxy};

/// Makes connections for whoever asks by CONNECT; counts them.
#[expect(clippy::disallowed_methods, reason = "the test's proxy ends with the test's runtime")]
async fn proxy(count: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(near.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let target = head.split(' ').nth(1).unwrap();
                let mut far = TcpStream::connect(target).await.unwrap();
                near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_server_is_reached_and_verified_through_a_proxy() {
    let server = Fixture::start(&["h2", "http/1.1"], |_| whole(200, ONE)).await;
    let count = Arc::new(AtomicUsize::new(0));
    let mut config = server.config();
    config.proxy = Some(Proxy::parse(&format!("http://{}", proxy(count.clone()).await)).unwrap());
    let api = HttpsApi::new(config).unwrap();
    let object = api.get(&CONFIG_MAP, ObjectRef::new(Some("n"), "a")).await.unwrap();
    assert_eq!(object.name(), "a");
    assert_eq!(count.load(Ordering::SeqCst), 1);

    let mut nowhere = server.config();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    nowhere.proxy = Some(Proxy::parse(&format!("socks5://{closed}")).unwrap());
    let error = HttpsApi::new(nowhere).unwrap().get(&CONFIG_MAP, ObjectRef::new(Some("n"), "a")).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains(&format!("proxyconnect tcp: {closed}")), "{error}");
}

/// Gives `t1`, `t2`, … each until it is refused.
#[derive(Debug, Default)]
struct Renewed {
    number: AtomicUsize,
    kept: Mutex<Option<Arc<Credential>>>,
}

impl CredentialSource for Renewed {
    fn current(&self) -> BoxFuture<'_, Result<Arc<Credential>, CredentialError>> {
        Box::pin(async {
            let mut kept = self.kept.lock().unwrap();
            let make = || {
                let number = self.number.fetch_add(1, Ordering::SeqCst) + 1;
                Arc::new(Credential { token: Some(format!("t{number}")), certificate: None })
            };
            Ok(kept.get_or_insert_with(make).clone())
        })
    }

    fn refused(&self, _credential: &Arc<Credential>) {
        *self.kept.lock().unwrap() = None;
    }
}

#[tokio::test]
async fn what_a_server_refuses_is_renewed_for_the_next_request() {
    let server = Fixture::start(&["h2"], |seen| match seen.authorization.as_str() {
        "Bearer t2" => whole(200, ONE),
        _ => whole(401, "{}"),
    })
    .await;
    let mut config = server.config();
    config.token = Token::Source(Arc::new(Renewed::default()));
    config.headers = ["a", "b"].map(|group| ("Impersonate-Group".to_string(), group.to_string())).to_vec();
    let api = HttpsApi::new(config).unwrap();
    let at = ObjectRef::new(Some("n"), "a");
    assert_eq!(api.get(&CONFIG_MAP, at).await.unwrap_err().code(), 401);
    assert_eq!(api.get(&CONFIG_MAP, at).await.unwrap().name(), "a");
    assert_eq!(api.get(&CONFIG_MAP, at).await.unwrap().name(), "a");
}

#[tokio::test]
async fn a_password_is_sent_as_basic_authentication() {
    let server = Fixture::start(&["h2"], |seen| match seen.authorization.as_str() {
        "Basic bWU6d29yZA==" => whole(200, ONE),
        other => panic!("{other}"),
    })
    .await;
    let mut config = server.config();
    config.token = Token::Basic("me".to_string(), "word".to_string());
    let api = HttpsApi::new(config).unwrap();
    assert_eq!(api.get(&CONFIG_MAP, ObjectRef::new(Some("n"), "a")).await.unwrap().name(), "a");
}
