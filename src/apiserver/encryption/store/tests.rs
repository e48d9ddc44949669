//! A whole API server over an encrypted store: what lies in the store, what clients see of it, and what they
//! see when it cannot be read.

use api::kinds::{CONFIG_MAP, SECRET};
use api::{ListOptions, ResourceVersionMatch, UpdateOptions, WatchOptions};
use client::ObjectRef;
use embedded_store::MemoryStore;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Harness, config};

const ONE: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const TWO: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";
const HERE: Option<&str> = Some("default");

fn file(keys: &[(&str, &str)]) -> String {
    let keys: Vec<String> =
        keys.iter().map(|(name, secret)| format!("{{name: {name}, secret: {secret}}}")).collect();
    format!(
        "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [secrets]\n  \
         providers: [{{secretbox: {{keys: [{}]}}}}, {{identity: {{}}}}]\n",
        keys.join(", ")
    )
}

async fn over(store: Arc<MemoryStore>, keys: &[(&str, &str)]) -> Harness {
    let mut config = config();
    let text = file(keys);
    let text = (!keys.is_empty()).then_some(text.as_bytes());
    config.encryption = Arc::new(Encryption::new(text, Some([7; 32])).unwrap());
    Harness::over(store, config).await
}

fn secret(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "stringData": { "password": "correct horse" } })
}

fn raw(store: &MemoryStore, key: &str) -> Vec<u8> {
    let request = RangeRequest { key: key.to_string().into(), ..RangeRequest::default() };
    store.range(&request).unwrap().kvs.pop().unwrap().value.to_vec()
}

#[tokio::test]
async fn secrets_are_encrypted_in_the_store_and_nowhere_else() {
    let store = Arc::new(MemoryStore::new());
    let harness = over(store.clone(), &[("key1", ONE)]).await;
    let mut events = harness.watch(&SECRET, &WatchOptions::default()).await;
    let created = harness.create(&SECRET, HERE, secret("s")).await;
    harness.config_map("c").await;
    assert!(raw(&store, "/registry/secrets/default/s").starts_with(b"k8s:enc:secretbox:v1:key1:"));
    assert!(raw(&store, "/registry/configmaps/default/c").starts_with(b"{"));

    assert_eq!(events.next().await, "ADDED s");
    let password = "Y29ycmVjdCBob3JzZQ==";
    assert_eq!(harness.get(&SECRET, HERE, "s").await.unwrap()["data"]["password"], password);
    harness
        .try_patch(&SECRET, ObjectRef::new(HERE, "s"), json!({ "data": { "more": "YQ==" } }))
        .await
        .unwrap();
    assert_eq!(events.next().await, "MODIFIED s");
    // History is decrypted, too.
    let exact = ListOptions {
        resource_version: Some(created.resource_version().to_string()),
        resource_version_match: Some(ResourceVersionMatch::Exact),
        ..ListOptions::default()
    };
    let list = harness.api.list(&SECRET, HERE, &exact).await.unwrap();
    assert_eq!(list.items[0].tree().unwrap()["data"], json!({ "password": password }));
    harness.stop().await;

    // Another server over the same store, with another first key: reads go on, the next write uses it.
    let harness = over(store.clone(), &[("key2", TWO), ("key1", ONE)]).await;
    let object = harness.get(&SECRET, HERE, "s").await.unwrap();
    assert_eq!(object["data"]["password"], password);
    let same =
        harness.api.update(&SECRET, ObjectRef::new(HERE, "s"), object, &UpdateOptions::default()).await;
    same.unwrap();
    assert!(raw(&store, "/registry/secrets/default/s").starts_with(b"k8s:enc:secretbox:v1:key2:"));
    // Once it is as it should be, what changes nothing is no write.
    let before = store.revision();
    let object = harness.get(&SECRET, HERE, "s").await.unwrap();
    harness.api.update(&SECRET, ObjectRef::new(HERE, "s"), object, &UpdateOptions::default()).await.unwrap();
    assert_eq!(store.revision(), before);
    harness.stop().await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_named_and_comes_back_with_its_key() {
    let store = Arc::new(MemoryStore::new());
    let harness = over(store.clone(), &[("key1", ONE)]).await;
    harness.create(&SECRET, HERE, secret("s")).await;
    harness.stop().await;

    let harness = over(store.clone(), &[("key2", TWO)]).await;
    let said = "Internal error occurred: unable to transform key \"/registry/secrets/default/s\": no matching key \
                was found for the provided Secretbox transformer";
    let get = harness.get(&SECRET, HERE, "s").await.unwrap_err();
    assert_eq!((get.code(), get.message()), (500, said));
    let list = harness.api.list(&SECRET, HERE, &ListOptions::default()).await.unwrap_err();
    assert_eq!(list.message(), said);
    let patched =
        harness.try_patch(&SECRET, ObjectRef::new(HERE, "s"), json!({ "data": {} })).await.unwrap_err();
    assert_eq!(patched, [said]);
    assert_eq!(harness.delete(&SECRET, HERE, "s").await.unwrap_err().message(), said);
    // Everything else goes on.
    harness.create(&SECRET, HERE, secret("t")).await;
    harness.create(&CONFIG_MAP, HERE, json!({ "metadata": { "name": "c" } })).await;
    assert_eq!(harness.server.encryption_status().unreadable.len(), 1);

    let mut events = harness
        .watch(&SECRET, &WatchOptions { send_initial_events: Some(false), ..WatchOptions::default() })
        .await;
    let encryption = harness.server.registry.config.encryption.clone();
    assert!(encryption.reload(file(&[("key2", TWO), ("key1", ONE)]).as_bytes()).unwrap());
    assert_eq!(events.next().await, "ADDED s", "watches learn of it");
    assert_eq!(harness.get(&SECRET, HERE, "s").await.unwrap()["metadata"]["name"], "s");
    assert!(raw(&store, "/registry/secrets/default/s").starts_with(b"k8s:enc:secretbox:v1:key2:"));
    harness.stop().await;
}

#[tokio::test]
async fn a_file_that_is_wrong_changes_nothing() {
    let store = Arc::new(MemoryStore::new());
    let harness = over(store.clone(), &[("key1", ONE)]).await;
    let encryption = harness.server.registry.config.encryption.clone();
    assert!(!encryption.reload(file(&[("key1", ONE)]).as_bytes()).unwrap(), "it is the same");
    encryption.reload(b"kind: Nonsense").unwrap_err();
    harness.create(&SECRET, HERE, secret("s")).await;
    assert!(raw(&store, "/registry/secrets/default/s").starts_with(b"k8s:enc:secretbox:v1:key1:"));
    let mut metrics = String::new();
    encryption.render_metrics(&mut metrics);
    for line in [
        "apiserver_encryption_config_controller_automatic_reloads_total{status=\"failure\"} 1",
        "apiserver_storage_transformation_operations_total{resource=\"secrets\",status=\"OK\",\
         transformation_type=\"to_storage\",transformer_prefix=\"k8s:enc:secretbox:v1:\"} 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    harness.stop().await;
}
