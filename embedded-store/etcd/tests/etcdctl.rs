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
async fn what_is_not_offered_says_so() {
    let server = plain().await;
    let calls: [&[&str]; 8] = [
        &["member", "add", "x", "--peer-urls=http://127.0.0.1:1"],
        &["member", "remove", "1"],
        &["member", "update", "1", "--peer-urls=http://127.0.0.1:1"],
        &["member", "promote", "1"],
        &["move-leader", "1"],
        &["auth", "enable"],
        &["user", "get", "root"],
        &["role", "add", "r"],
    ];
    for call in calls {
        let refused = etcdctl(&server, call).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        let last = said.lines().last().unwrap_or_default();
        assert!(!refused.status.success() && last.contains("Unimplemented desc = "), "{call:?}: {said}");
        assert!(!last.ends_with("desc = "), "{call:?} gives a reason: {said}");
    }
}

/// etcdctl with something typed in.
async fn typed(server: &Server, args: &[&str], input: &'static str) -> String {
    use std::io::Write;
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").arg(format!("--endpoints=http://{}", server.address)).args(args);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let run = move || {
        let mut child = command.spawn().expect("etcdctl (package etcd-client)");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success(), "{args:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_typed_and_answers_sorted() {
    let server = plain().await;
    for (key, value) in [("k/a", "3"), ("k/c", "1"), ("k/b", "2")] {
        ok(&server, &["put", key, value]).await;
    }
    let took =
        typed(&server, &["txn"], "value(\"k/a\") = \"3\"\n\nput k/d 4\nget k/d\n\nput k/e 5\n\n").await;
    assert_eq!(took, "SUCCESS\n\nOK\n\nk/d\n4\n");
    let took = typed(&server, &["txn"], "mod(\"k/a\") > \"9\"\n\nput k/x 1\n\ndel k/d\nget k/d\n\n").await;
    assert_eq!(took, "FAILURE\n\n1\n\n");
    let sorted = ["get", "k/", "--prefix", "--print-value-only", "--sort-by=VALUE", "--order=DESCEND"];
    assert_eq!(ok(&server, &sorted).await, "3\n2\n1\n");
    let changed = ["get", "k/", "--prefix", "--keys-only", "--sort-by=MODIFY", "--order=ASCEND"];
    assert_eq!(ok(&server, &changed).await, "k/a\n\nk/c\n\nk/b\n\n");
    let future = etcdctl(&server, &["get", "k/a", "--rev=999"]).await;
    assert!(String::from_utf8_lossy(&future.stderr).contains("mvcc: required revision is a future revision"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_exclude_and_elections_have_one_winner() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let server = plain().await;
    let start = |args: &[&str]| {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints=http://{}", server.address)).args(args);
        command.stdout(Stdio::piped()).spawn().expect("etcdctl (package etcd-client)")
    };
    for (verb, first, second) in
        [("lock", vec!["it"], vec!["it"]), ("elect", vec!["it", "one"], vec!["it", "two"])]
    {
        let mut holder = start(&[&[verb], &first[..]].concat());
        let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        let key = tokio::task::spawn_blocking(move || lines.next().unwrap().unwrap()).await.unwrap();
        assert!(key.starts_with("it/"), "{key}");
        let mut other = start(&[&[verb], &second[..]].concat());
        // It is in line: its key is there, behind the holder's.
        let in_line = async {
            while server.store.range(&prefix("it/")).unwrap().count < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), in_line).await.expect("it waits in line");
        assert!(other.try_wait().unwrap().is_none());
        // The holder goes as one does that is asked to, and gives its lease back.
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(holder.id().cast_signed()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
        let next = tokio::task::spawn_blocking(move || lines.next().unwrap().unwrap()).await.unwrap();
        assert!(next.starts_with("it/") && next != key, "{next} after {key}");
        other.kill().unwrap();
        for child in [&mut holder, &mut other] {
            child.wait().unwrap();
        }
        for lease in server.store.leases() {
            server.store.revoke(lease).await.unwrap();
        }
    }
}

fn prefix(prefix: &str) -> types::RangeRequest {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().unwrap() += 1;
    types::RangeRequest { key: prefix.to_string().into(), range_end: Some(end.into()), ..Default::default() }
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
        // Who is let in is waited for, however busy the machine is.
        let limit = if client.is_some_and(|client| client.ca == mine.ca) { "60s" } else { "2s" };
        let limits = [format!("--dial-timeout={limit}"), format!("--command-timeout={limit}")];
        command.env("ETCDCTL_API", "3").args(limits).args(["--cacert", &ca]);
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
