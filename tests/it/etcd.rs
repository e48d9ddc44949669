//! etcd's API in front of the store, as courses and operators use it: Debian's `etcdctl` is the judge.

use std::path::Path;

use minik8s_tests::{Cluster, Options, Outcome, run};

fn with_etcd(more: &[&str]) -> Cluster {
    let flags = [&["--etcd-listen", "127.0.0.1:0"], more].concat();
    Cluster::start_with(Options { node: false, flags: flags.iter().map(|flag| flag.to_string()).collect() })
}

/// The URL that the newest start of the server logged.
fn url(cluster: &Cluster) -> String {
    let log = cluster.log();
    let line = log.lines().rfind(|line| line.contains("etcd's API is served")).expect("the API is served");
    line.split_once("url=").expect("the line has the URL").1.trim().to_string()
}

fn etcdctl(cluster: &Cluster, arguments: &[&str]) -> Outcome {
    let keys = cluster.data_dir().join("server/tls/etcd");
    let mut command = cluster.command(Path::new("/usr/bin/etcdctl"));
    command.env("ETCDCTL_API", "3").arg("--endpoints").arg(url(cluster)).args(arguments);
    for (flag, file) in [("--cacert", "ca.crt"), ("--cert", "client.crt"), ("--key", "client.key")] {
        command.arg(flag).arg(keys.join(file));
    }
    run(&mut command, "")
}

#[test]
fn objects_are_found_under_upstreams_keys() {
    let cluster = with_etcd(&[]);
    cluster.kubectl(&["create", "service", "clusterip", "web", "--tcp=80"]).ok();
    let keys = etcdctl(&cluster, &["get", "/", "--prefix", "--keys-only"]).ok();
    let expected = ["/registry/namespaces/default", "/registry/services/specs/default/web"];
    for key in expected {
        assert!(keys.lines().any(|line| line == key), "{key} is missing in {keys}");
    }
    let value =
        etcdctl(&cluster, &["get", "/registry/services/specs/default/web", "--print-value-only"]).json();
    assert_eq!(value["spec"], cluster.get("service", "web")["spec"]);
    assert!(etcdctl(&cluster, &["member", "list"]).ok().contains("started"));
    etcdctl(&cluster, &["endpoint", "health"]).ok();
    etcdctl(&cluster, &["endpoint", "status", "-w", "table"]).ok();
}

#[test]
fn own_keys_are_the_users_and_the_clusters_are_the_api_servers() {
    let mut cluster = with_etcd(&[]);
    etcdctl(&cluster, &["put", "mine", "kept"]).ok();
    let refused = etcdctl(&cluster, &["put", "/registry/configmaps/default/x", "{}"]).failed();
    assert!(refused.contains("PermissionDenied"), "{refused}");
    cluster.kill();
    cluster.start();
    assert_eq!(etcdctl(&cluster, &["get", "mine", "--print-value-only"]).ok().trim(), "kept");
}

#[test]
fn the_clusters_keys_can_be_written_if_a_flag_says_so() {
    let cluster = with_etcd(&["--etcd-write-registry"]);
    let object = r#"{"kind":"ConfigMap","apiVersion":"v1","data":{"a":"b"},"metadata":{"name":"x","namespace":"default","uid":"1"}}"#;
    etcdctl(&cluster, &["put", "/registry/configmaps/default/x", object]).ok();
    assert_eq!(cluster.get("configmap", "x")["data"]["a"], "b");
}

#[test]
fn kubernetes_certificates_do_not_open_the_store() {
    let cluster = with_etcd(&[]);
    let (tls, etcd) = (cluster.data_dir().join("server/tls"), cluster.data_dir().join("server/tls/etcd"));
    let mut command = cluster.command(Path::new("/usr/bin/etcdctl"));
    command.env("ETCDCTL_API", "3").args(["--dial-timeout=2s", "--command-timeout=3s", "--endpoints"]);
    command.arg(url(&cluster)).arg("--cacert").arg(etcd.join("ca.crt"));
    command.arg("--cert").arg(tls.join("client-admin.crt")).arg("--key").arg(tls.join("client-admin.key"));
    run(command.args(["get", "/", "--prefix", "--keys-only"]), "").failed();
}

#[test]
fn a_taken_port_is_an_error_only_if_it_was_asked_for() {
    let cluster = with_etcd(&[]);
    let address = url(&cluster).replace("https://", "");
    let other = cluster.folder().join("other");
    let flags = ["server", "--disable-agent", "--https-listen-port", "0", "--etcd-listen", &address];
    let message = run(cluster.minik8s(&flags).arg("--data-dir").arg(other), "").failed();
    assert!(message.contains(&address) && message.contains("choose another with --etcd-listen"), "{message}");
}
