//! Keys that the cluster keeps: on, over and off while it runs.

use std::sync::Arc;

use api::WatchOptions;
use api::kinds::SECRET;
use embedded_store::{MemoryStore, Store};
use serde_json::json;

use super::*;
use crate::testing::{Harness, config};
use crate::{EncryptionStatus, Origin};

const HERE: Option<&str> = Some("default");

async fn over(store: Arc<MemoryStore>, key: [u8; 32]) -> Harness {
    let mut config = config();
    config.encryption = Arc::new(Encryption::new(None, Some(key)).unwrap());
    Harness::over(store, config).await
}

fn raw(store: &MemoryStore, key: &str) -> String {
    let request = RangeRequest { key: key.to_string().into(), ..RangeRequest::default() };
    let value = store.range(&request).unwrap().kvs.pop().unwrap().value;
    String::from_utf8_lossy(&value).into_owned()
}

async fn create(harness: &Harness, name: &str) {
    let body = json!({ "metadata": { "name": name }, "stringData": { "a": "plain" } });
    harness.create(&SECRET, HERE, body).await;
}

#[tokio::test]
async fn encryption_is_turned_on_over_and_off_while_requests_go_on() {
    let store = Arc::new(MemoryStore::new());
    let harness = over(store.clone(), [7; 32]).await;
    for at in 0..200 {
        create(&harness, &format!("s{at:03}")).await;
    }
    let server = &harness.server;
    assert_eq!(server.encryption_status(), EncryptionStatus::default());
    assert!(matches!(server.rotate_encryption_key().await, Err(ChangeError::Disabled)));
    let mut events = harness.watch(&SECRET, &WatchOptions::default()).await;
    for _ in 0..200 {
        events.next().await;
    }

    server.enable_encryption().await.unwrap();
    assert!(matches!(server.enable_encryption().await, Err(ChangeError::Enabled)));
    let status = server.encryption_status();
    assert_eq!((status.origin, status.enabled, status.stale), (Origin::Cluster, true, 200));
    assert!(matches!(server.rotate_encryption_key().await, Err(ChangeError::Stale { left: 200 })));
    // Readers and writers meanwhile.
    let (rewritten, ()) = tokio::join!(server.reencrypt(), async {
        for at in 0..200 {
            let name = format!("s{at:03}");
            assert_eq!(harness.get(&SECRET, HERE, &name).await.unwrap()["data"]["a"], "cGxhaW4=");
            create(&harness, &format!("t{at:03}")).await;
        }
    });
    assert_eq!(rewritten.unwrap(), 200);
    let status = server.encryption_status();
    assert_eq!((status.stale, status.encrypted, status.keys), (0, 400, vec!["key1".to_string()]));
    // Each object is seen once more, in whatever order.
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..400 {
        seen.push(events.next().await);
    }
    seen.sort();
    assert_eq!(seen.iter().filter(|event| event.starts_with("MODIFIED s")).count(), 200);
    assert_eq!(seen.iter().filter(|event| event.starts_with("ADDED t")).count(), 200);

    server.rotate_encryption_key().await.unwrap();
    create(&harness, "fresh").await;
    assert!(raw(&store, "/registry/secrets/default/fresh").starts_with("k8s:enc:secretbox:v1:key2:"));
    assert!(raw(&store, "/registry/secrets/default/s000").starts_with("k8s:enc:secretbox:v1:key1:"));
    assert_eq!(server.reencrypt().await.unwrap(), 400);
    server.rotate_encryption_key().await.unwrap();
    assert_eq!(server.reencrypt().await.unwrap(), 401);
    assert_eq!(server.encryption_status().keys, ["key3", "key2"]);

    server.disable_encryption().await.unwrap();
    assert_eq!(server.reencrypt().await.unwrap(), 401);
    let status = server.encryption_status();
    assert_eq!((status.enabled, status.encrypted, status.stale), (false, 0, 0));
    assert!(raw(&store, "/registry/secrets/default/s000").starts_with('{'));
    harness.stop().await;
}

#[tokio::test]
async fn servers_that_share_a_store_learn_of_a_key_before_its_values() {
    let store = Arc::new(MemoryStore::new());
    let (one, other) = (over(store.clone(), [7; 32]).await, over(store.clone(), [7; 32]).await);
    one.server.enable_encryption().await.unwrap();
    create(&one, "s").await;
    assert_eq!(other.get(&SECRET, HERE, "s").await.unwrap()["data"]["a"], "cGxhaW4=");
    create(&other, "t").await;
    assert!(raw(&store, "/registry/secrets/default/t").starts_with("k8s:enc:secretbox:v1:key1:"));
    one.server.rotate_encryption_key().await.unwrap();
    create(&one, "u").await;
    assert_eq!(other.get(&SECRET, HERE, "u").await.unwrap()["data"]["a"], "cGxhaW4=");
    // What is kept is sealed.
    let kept = raw(&store, KEPT);
    assert!(kept.starts_with("mk8s-encryption-1:") && !kept.contains("secretbox"), "{kept}");
    other.stop().await;
    one.stop().await;

    // A server with another key does not start, and says what is missing.
    let mut config = config();
    config.encryption = Arc::new(Encryption::new(None, Some([8; 32])).unwrap());
    let supervisor = supervisor::Supervisor::new();
    let refused = crate::ApiServer::start(config, store, &supervisor.stage("API server")).await;
    let crate::StartError::Encryption(error) = refused.err().expect("it does not start") else {
        panic!("another reason")
    };
    assert!(error.to_string().contains("copy DATA/server/encryption-key"), "{error}");
}
