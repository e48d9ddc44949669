//! etcd's own command on our API. Needs the package `etcd-client`.

use std::process::Output;

use super::*;

async fn etcdctl(server: &Server, args: &[&str]) -> Output {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").arg(format!("--endpoints=http://{}", server.address)).args(args);
    tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .expect("etcdctl (package etcd-client)")
}

async fn ok(server: &Server, args: &[&str]) -> String {
    let output = etcdctl(server, args).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_a_kubernetes_course_work() {
    let server = plain().await;
    let node = types::Op::Put { key: "/registry/minions/node-1".into(), value: "{}".into(), lease: 0 };
    let pod = types::Op::Put { key: "/registry/pods/default/web".into(), value: "{}".into(), lease: 0 };
    for op in [node, pod] {
        server.store.txn(types::Txn { success: vec![op], ..Default::default() }).await.unwrap();
    }
    assert_eq!(ok(&server, &["get", "/registry/minions/node-1"]).await, "/registry/minions/node-1\n{}\n");
    let keys = ok(&server, &["get", "/", "--prefix", "--keys-only", "--limit=10"]).await;
    assert_eq!(keys, "/registry/minions/node-1\n\n/registry/pods/default/web\n\n");
    assert!(ok(&server, &["member", "list"]).await.contains("started, default"));
    let table = ok(&server, &["endpoint", "status", "-w", "table"]).await;
    assert!(table.contains("RAFT TERM") && table.contains("3.6.0"), "{table}");
    let health = etcdctl(&server, &["endpoint", "health"]).await;
    assert!(String::from_utf8_lossy(&[health.stdout, health.stderr].concat()).contains("is healthy"));
    let refused = etcdctl(&server, &["put", "/registry/x", "y"]).await;
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("permission denied"));
    assert_eq!(ok(&server, &["put", "mine", "1"]).await, "OK\n");
    assert_eq!(ok(&server, &["put", "mine", "2", "--prev-kv"]).await, "OK\nmine\n1\n");
    assert_eq!(ok(&server, &["get", "mine", "--rev=4", "--print-value-only"]).await, "1\n");
    assert_eq!(ok(&server, &["del", "mine"]).await, "1\n");
    assert!(ok(&server, &["endpoint", "hashkv"]).await.contains(&server.address));
    assert!(ok(&server, &["defrag"]).await.contains("Finished defragmenting"));
    assert_eq!(ok(&server, &["compaction", "5"]).await, "compacted revision 5\n");
    assert_eq!(ok(&server, &["alarm", "list"]).await, "");
    let unknown = etcdctl(&server, &["user", "list"]).await;
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(said.contains("Unimplemented") && said.contains("users and roles are not offered"), "{said}");
    // As at an etcd whose users are not switched on, a user that is given does not matter.
    assert_eq!(ok(&server, &["--user=root:x", "get", "mine"]).await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_and_transactions_work() {
    let server = plain().await;
    let granted = ok(&server, &["lease", "grant", "100"]).await;
    let id = granted.split(' ').nth(1).unwrap().to_string();
    assert!(granted.ends_with("granted with TTL(100s)\n"), "{granted}");
    ok(&server, &["put", "leased", "x", &format!("--lease={id}")]).await;
    assert!(ok(&server, &["lease", "keep-alive", "--once", &id]).await.contains("keepalived with TTL(100)"));
    assert!(ok(&server, &["lease", "timetolive", &id, "--keys"]).await.contains("attached keys([leased])"));
    assert!(ok(&server, &["lease", "list"]).await.contains(&id));
    assert!(ok(&server, &["lease", "revoke", &id]).await.contains("revoked"));
    assert_eq!(ok(&server, &["get", "leased"]).await, "");
    let missing = etcdctl(&server, &["lease", "revoke", "abc"]).await;
    assert!(String::from_utf8_lossy(&missing.stderr).contains("requested lease not found"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_prints_what_happens() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let server = plain().await;
    ok(&server, &["put", "watched/1", "a"]).await;
    let mut watch = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints=http://{}", server.address))
        .args(["watch", "--prefix", "watched/", "--rev=1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = watch.stdout.take().unwrap();
    ok(&server, &["put", "watched/2", "b"]).await;
    ok(&server, &["put", "other", "c"]).await;
    ok(&server, &["del", "watched/1"]).await;
    let lines = tokio::task::spawn_blocking(|| {
        BufReader::new(output).lines().take(9).map(Result::unwrap).collect::<Vec<_>>()
    });
    let lines = lines.await.unwrap();
    watch.kill().unwrap();
    watch.wait().unwrap();
    // A deletion has an empty value.
    let expected = ["PUT", "watched/1", "a", "PUT", "watched/2", "b", "DELETE", "watched/1", ""];
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_clients_with_a_certificate_are_served() {
    let mine = certificates();
    let other = certificates();
    let tls = Tls {
        certificate: mine.server.0.clone().into(),
        key: mine.server.1.clone().into(),
        client_ca: mine.ca.clone().into(),
    };
    let server = start(Some(tls), Options::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_string()
    };
    let ca = file("ca.crt", &mine.ca);
    let run = async |client: Option<&Certificates>, args: &[&str]| {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--dial-timeout=2s", "--command-timeout=2s", "--cacert", &ca]);
        command.arg(format!("--endpoints=https://{}", server.address));
        if let Some(client) = client {
            command.args(["--cert", &file("client.crt", &client.client.0)]);
            command.args(["--key", &file("client.key", &client.client.1)]);
        }
        command.args(args);
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("etcdctl")
    };
    assert!(!run(None, &["get", "a"]).await.status.success());
    assert!(!run(Some(&other), &["get", "a"]).await.status.success());
    let fine = run(Some(&mine), &["put", "a", "1"]).await;
    assert!(fine.status.success(), "{}", String::from_utf8_lossy(&fine.stderr));
    let fine = run(Some(&mine), &["endpoint", "status", "-w", "table"]).await;
    assert!(String::from_utf8_lossy(&fine.stdout).contains("3.6.0"), "{fine:?}");
}
