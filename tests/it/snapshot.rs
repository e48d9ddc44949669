//! Snapshots as an operator takes and uses them: the cluster that comes back is the one that was saved.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use minik8s_tests::{Cluster, CommandOutcome, Options, run};

fn snapshot(cluster: &Cluster, data_dir: &Path, arguments: &[&str]) -> CommandOutcome {
    let mut command = cluster.minik8s(&["snapshot"]);
    run(command.args(arguments).arg("--data-dir").arg(data_dir), "")
}

/// Saves one and returns its path.
fn save(cluster: &Cluster, more: &[&str]) -> PathBuf {
    let said = snapshot(cluster, &cluster.data_dir(), &[&["save"], more].concat()).ok();
    PathBuf::from(said.lines().next().unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_restored_cluster_is_the_saved_one_to_its_users() {
    let mut cluster = Cluster::control_plane();
    cluster.kubectl(&["create", "configmap", "kept", "--from-literal=a=b"]).ok();
    let before = cluster.get("configmap", "kept");
    let file = save(&cluster, &[]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "it holds every secret");
    cluster.kubectl(&["delete", "configmap", "kept"]).ok();
    cluster.kubectl(&["create", "configmap", "later"]).ok();
    let authority = fs::read(cluster.data_dir().join("server/tls/server-ca.crt")).unwrap();
    let read = |name: &str| fs::read_to_string(cluster.data_dir().join("server").join(name)).unwrap();
    let (key, token, agents) = (read("seal-key"), read("token"), read("agent-token"));
    // Rotated afterwards: what was sealed before is opened by the key of that time.
    let fresh = snapshot(&cluster, &cluster.data_dir(), &["rotate-key"]).ok();
    assert_eq!(read("seal-key"), format!("{fresh}{key}"));
    let sealed_anew = save(&cluster, &[]);
    cluster.stop();
    fs::rename(cluster.data_dir(), cluster.folder().join("old")).unwrap();
    let file = cluster.folder().join("old").join(file.strip_prefix(cluster.data_dir()).unwrap());

    let old = |file: &Path| cluster.folder().join("old").join(file.strip_prefix(cluster.data_dir()).unwrap());
    let with = |file: &Path, flag: &str, secret: &str| {
        snapshot(&cluster, &cluster.data_dir(), &["restore", text(file), flag, secret.trim()])
    };
    let refused = with(&file, "--token", &token).failed();
    assert!(
        refused.contains("was not sealed with this secret"),
        "the token opens old snapshots only: {refused}"
    );
    assert!(
        with(&old(&sealed_anew), "--seal-key", &key).failed().contains("was not sealed with this secret")
    );
    with(&file, "--seal-key", &key).ok();
    let read = |name: &str| fs::read_to_string(cluster.data_dir().join("server").join(name)).unwrap();
    assert_eq!((read("seal-key"), read("token"), read("agent-token")), (key, token, agents));
    cluster.start();
    assert_eq!(cluster.get("configmap", "kept"), before);
    assert!(!cluster.kubectl(&["get", "configmap", "later"]).success);
    assert_eq!(fs::read(cluster.data_dir().join("server/tls/server-ca.crt")).unwrap(), authority);
    cluster.kubectl(&["create", "configmap", "new"]).ok();
    let version = |object: &serde_json::Value| {
        object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap()
    };
    let new = cluster.get("configmap", "new");
    assert!(version(&new) > version(&before) + 1_000_000, "no cache can go back in time: {new}");
}

#[test]
fn restoring_needs_the_secret_and_an_empty_place() {
    let cluster = Cluster::control_plane();
    let passphrase = cluster.folder().join("passphrase");
    fs::write(&passphrase, "correct horse\n").unwrap();
    let file = cluster.folder().join("mine.db");
    save(&cluster, &[text(&file), "--passphrase-file", text(&passphrase)]);
    let target = cluster.folder().join("restored");
    let restore = |more: &[&str]| snapshot(&cluster, &target, &[&["restore", text(&file)], more].concat());
    assert!(restore(&[]).failed().contains("no secret is given"));
    assert!(restore(&["--token", "wrong"]).failed().contains("was not sealed with this secret"));
    assert!(!target.join("server").exists(), "nothing is written before everything is checked");
    restore(&["--passphrase-file", text(&passphrase)]).ok();
    assert!(restore(&["--passphrase-file", text(&passphrase)]).failed().contains("a store is there"));

    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let other = cluster.folder().join("other");
    let damaged = snapshot(&cluster, &other, &["restore", text(&file)]).failed();
    assert!(damaged.contains("SHA-256"), "{damaged}");
}

#[test]
fn etcds_tools_read_ours_and_ours_read_etcds() {
    let cluster = Cluster::start_with(Options {
        node: false,
        flags: ["--etcd-listen", "127.0.0.1:0"].map(str::to_string).to_vec(),
    });
    let ours = save(&cluster, &[]);
    let etcdctl = |arguments: &[&str]| {
        run(cluster.command(Path::new("/usr/bin/etcdctl")).env("ETCDCTL_API", "3").args(arguments), "")
    };
    for format in ["table", "simple"] {
        let theirs = etcdctl(&["snapshot", "status", text(&ours), "-w", format]).ok();
        let own = snapshot(&cluster, &cluster.data_dir(), &["status", text(&ours), "-w", format]).ok();
        assert_eq!(own, theirs);
    }
    let log = cluster.log();
    let line = log.lines().rfind(|line| line.contains("etcd's API is served")).unwrap();
    let url = line.split_once("url=").unwrap().1.trim();
    let keys = cluster.data_dir().join("server/tls/etcd");
    let theirs = cluster.folder().join("theirs.db");
    etcdctl(&[
        "--endpoints",
        url,
        "--cacert",
        text(&keys.join("ca.crt")),
        "--cert",
        text(&keys.join("client.crt")),
        "--key",
        text(&keys.join("client.key")),
        "snapshot",
        "save",
        text(&theirs),
    ])
    .ok();
    let target = cluster.folder().join("from-etcdctl");
    let said = snapshot(&cluster, &target, &["restore", text(&theirs)]).ok();
    assert!(said.contains("no keys of a cluster"), "{said}");
}

#[test]
fn snapshots_are_listed_pruned_and_deleted() {
    let cluster = Cluster::control_plane();
    let saved: Vec<PathBuf> = (0..3).map(|_| save(&cluster, &[])).collect();
    let run = |arguments: &[&str]| snapshot(&cluster, &cluster.data_dir(), arguments);
    let list = run(&["list"]).ok();
    for path in &saved {
        assert!(list.contains(path.file_name().unwrap().to_str().unwrap()), "{list}");
    }
    run(&["prune", "--keep", "1"]).ok();
    assert!(!saved[0].exists() && !saved[1].exists() && saved[2].exists());
    run(&["delete", saved[2].file_name().unwrap().to_str().unwrap()]).ok();
    assert!(!saved[2].exists());
    run(&["delete", "../token"]).failed();
}

#[test]
fn saving_without_a_server_says_so() {
    let cluster = Cluster::prepare(Options { node: false, flags: Vec::new() });
    let said = snapshot(&cluster, &cluster.data_dir(), &["save"]).failed();
    assert!(said.starts_with("minik8s snapshot: cannot reach the server"), "{said}");
}
