//! Snapshots, judged by etcd's own tools and by a real etcd started from one.

use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use super::*;
use crate::proof::rounds;
use crate::types::{Leases, Op, RangeRequest, Store, Txn};
use crate::{Config, EmbeddedStore};

fn open(dir: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(Config { min_free_bytes: 0, ..Config::new(dir) }).unwrap().0
}

fn put(key: &str, value: Vec<u8>, lease: i64) -> Op {
    Op::Put { key: key.to_string().into(), value: value.into(), lease }
}

async fn run(store: &EmbeddedStore, ops: Vec<Op>) {
    store.txn(Txn { success: ops, ..Txn::default() }).await.unwrap();
}

/// A store with small and large values, several keys in one revision, a lease, and a deleted key.
fn filled(dir: &Path) -> Arc<EmbeddedStore> {
    let store = open(dir);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        store.grant(77, 600).await.unwrap();
        for number in 0..2000 {
            run(&store, vec![put(&format!("/registry/pods/default/pod-{number:05}"), vec![b'x'; 300], 0)])
                .await;
        }
        run(&store, vec![put("a", vec![1], 0), put("b", vec![2], 77), put("c", vec![3], 0)]).await;
        run(&store, vec![put("large", vec![b'L'; 1_000_000], 0)]).await;
        run(&store, vec![Op::Delete { key: "c".into(), range_end: None }]).await;
    });
    store
}

fn etcdctl(args: &[&str]) -> Output {
    Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(args)
        .output()
        .expect("etcdctl (package etcd-client)")
}

fn all(store: &EmbeddedStore) -> Vec<KeyValue> {
    let request = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Some(Bytes::from_static(b"\0")),
        ..RangeRequest::default()
    };
    store.range(&request).unwrap().kvs
}

#[test]
fn etcdctl_and_we_agree_about_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("store"));
    let file = dir.path().join("snapshot.db");
    let ours = store.save_snapshot(&file, &[("ca", Bytes::from_static(b"sealed"))]).unwrap();
    let output = etcdctl(&["snapshot", "status", file.to_str().unwrap(), "-w", "json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let expected = format!(
        "{{\"hash\":{},\"revision\":{},\"totalKey\":{},\"totalSize\":{}}}\n",
        ours.hash, ours.revision, ours.total_keys, ours.total_size
    );
    assert_eq!(text, expected);
    assert_eq!(extras(&file).unwrap(), [("ca".to_string(), Bytes::from_static(b"sealed"))]);
}

#[test]
fn a_restored_store_has_the_same_keys_and_later_revisions() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("store"));
    let file = dir.path().join("snapshot.db");
    store.save_snapshot(&file, &[]).unwrap();
    let target = dir.path().join("new");
    let revision = restore(&file, &target).unwrap();
    assert_eq!(revision, store.revision() + REVISION_BUMP);
    let restored = open(&target);
    assert_eq!(all(&restored), all(&store));
    assert_eq!(restored.revision(), revision);
    assert_ne!(restored.identity(), store.identity());
    assert_eq!(restored.lease(77).unwrap().keys, ["b"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(run(&restored, vec![put("a", vec![9], 0)]));
    assert_eq!(restored.revision(), revision + 1);
    assert!(matches!(restore(&file, &target), Err(SnapshotError::NotEmpty { .. })));
}

#[test]
fn damage_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("store"));
    let file = dir.path().join("snapshot.db");
    store.save_snapshot(&file, &[]).unwrap();
    let whole = fs::read(&file).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let e = restore(&file, &dir.path().join("new")).unwrap_err();
        assert!(matches!(e, SnapshotError::Damaged { .. }), "{e}");
    };
    for at in (0..whole.len()).step_by(whole.len() / rounds(10, 200)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        refused(&bytes);
    }
    refused(&whole[..whole.len() - 32]);
    refused(&whole[..whole.len() / 2]);
    refused(&[]);
    // Walking a database without a hash must not panic whatever is in it.
    for at in (0..whole.len() - 32).step_by(rounds(9973, 97)) {
        let mut bytes = whole[..whole.len() - 32].to_vec();
        bytes[at] ^= 0xff;
        let _ = bolt::walk(&bytes, |_| (), |_| ());
    }
}

#[test]
fn a_real_etcd_starts_from_a_snapshot_and_we_from_one_of_its() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("store"));
    let file = dir.path().join("snapshot.db");
    store.save_snapshot(&file, &[]).unwrap();
    let data = dir.path().join("etcd");
    let restored =
        etcdctl(&["snapshot", "restore", file.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    // Ports that are free now; nothing else on this machine asks for them by number.
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (client, peer) = (format!("http://127.0.0.1:{}", free()), format!("http://127.0.0.1:{}", free()));
    let mut etcd = Command::new("etcd")
        .args(["--data-dir", data.to_str().unwrap()])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd (package etcd-server)");
    let ask = |args: &[&str]| {
        let endpoint = format!("--endpoints={client}");
        let mut with = vec!["--dial-timeout=20s", "--command-timeout=30s", endpoint.as_str()];
        with.extend_from_slice(args);
        String::from_utf8_lossy(&etcdctl(&with).stdout).into_owned()
    };
    let pod = ask(&["get", "/registry/pods/default/pod-01234", "--print-value-only"]);
    let keys = ask(&["get", "", "--prefix", "--keys-only"]);
    let large = ask(&["get", "large", "--print-value-only"]);
    // And the way back: history, a deletion and all.
    ask(&["put", "a", "etcd was here"]);
    ask(&["del", "/registry/pods/default/pod-00000"]);
    let back = dir.path().join("back.db");
    ask(&["snapshot", "save", back.to_str().unwrap()]);
    etcd.kill().unwrap();
    etcd.wait().unwrap();
    assert_eq!(pod, "x".repeat(300) + "\n");
    assert_eq!(keys.lines().filter(|line| !line.is_empty()).count(), all(&store).len());
    assert_eq!(large.len(), 1_000_001);
    let target = dir.path().join("returned");
    restore(&back, &target).unwrap();
    let value = |kvs: Vec<KeyValue>| -> Vec<(Bytes, Bytes)> {
        kvs.into_iter().map(|kv| (kv.key, kv.value)).collect()
    };
    let mut expected = value(all(&store));
    expected.retain(|(key, _)| key != "/registry/pods/default/pod-00000");
    expected.iter_mut().filter(|(key, _)| key == "a").for_each(|(_, value)| *value = "etcd was here".into());
    assert_eq!(value(all(&open(&target))), expected);
}

#[test]
fn an_etcd_snapshot_restores_here() {
    // Taken through the API as etcdctl does it, which is the same stream that etcd sends.
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("store"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let file = dir.path().join("snapshot.db");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let serve =
            crate::etcd::serve(Arc::clone(&store), listener, None, crate::etcd::Options::default(), stopped);
        let path = file.to_str().unwrap().to_string();
        let save = async {
            let endpoint = format!("--endpoints=http://{address}");
            let output =
                tokio::task::spawn_blocking(move || etcdctl(&[&endpoint, "snapshot", "save", &path]))
                    .await
                    .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            drop(stop);
        };
        let (served, ()) = tokio::join!(serve, save);
        served.unwrap();
    });
    let target = dir.path().join("new");
    restore(&file, &target).unwrap();
    assert_eq!(all(&open(&target)), all(&store));
}

#[test]
fn only_the_secret_opens_what_is_sealed() {
    let sealed = seal(b"token", "ca.key", b"private").unwrap();
    assert_eq!(unseal(b"token", "ca.key", &sealed).unwrap(), b"private");
    assert_eq!(unseal(b"other", "ca.key", &sealed), Err(SealError::Wrong));
    assert_eq!(unseal(b"token", "other.key", &sealed), Err(SealError::Wrong));
    let mut changed = sealed.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(unseal(b"token", "ca.key", &changed), Err(SealError::Wrong));
    assert_eq!(unseal(b"token", "ca.key", &sealed[..20]), Err(SealError::Wrong));
}
