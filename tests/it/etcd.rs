//! etcd's API in front of the store, as courses and operators use it: Debian's `etcdctl` is the judge.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use minik8s_tests::{Cluster, CommandOutcome, Options, run};

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

fn etcdctl_command(cluster: &Cluster, arguments: &[&str]) -> Command {
    let keys = cluster.data_dir().join("server/tls/etcd");
    let mut command = cluster.command(Path::new("/usr/bin/etcdctl"));
    command.env("ETCDCTL_API", "3").arg("--endpoints").arg(url(cluster)).args(arguments);
    for (flag, file) in [("--cacert", "ca.crt"), ("--cert", "client.crt"), ("--key", "client.key")] {
        command.arg(flag).arg(keys.join(file));
    }
    command
}

fn etcdctl(cluster: &Cluster, arguments: &[&str]) -> CommandOutcome {
    run(&mut etcdctl_command(cluster, arguments), "")
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

#[test]
fn metrics_are_where_an_operator_looks() {
    let cluster = with_etcd(&[]);
    etcdctl(&cluster, &["put", "mine", "x"]).ok();
    let of_the_api = cluster.kubectl(&["get", "--raw", "/metrics"]).ok();
    let keys = cluster.data_dir().join("server/tls/etcd");
    let mut curl = cluster.command(Path::new("/usr/bin/curl"));
    curl.args(["--silent", "--show-error", "--fail"]);
    for (flag, file) in [("--cacert", "ca.crt"), ("--cert", "client.crt"), ("--key", "client.key")] {
        curl.arg(flag).arg(keys.join(file));
    }
    let of_etcd = run(curl.arg(format!("{}/metrics", url(&cluster))), "").ok();
    for name in [
        "etcd_disk_wal_fsync_duration_seconds_count",
        "etcd_disk_backend_commit_duration_seconds_count",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_debugging_mvcc_watcher_total",
        "etcd_debugging_mvcc_current_revision",
    ] {
        for metrics in [&of_the_api, &of_etcd] {
            assert!(metrics.lines().any(|line| line.starts_with(name)), "{name} is missing: {metrics}");
        }
    }
    assert!(of_the_api.contains("apiserver_request_total"));
}

/// A minute of writes, with etcd's own limits for a small cluster.
#[test]
fn etcdctl_finds_our_speed_sufficient() {
    if std::env::var_os("MINIK8S_LONG").is_none_or(|long| long != "1") {
        return;
    }
    let cluster = with_etcd(&[]);
    let said = etcdctl(&cluster, &["check", "perf"]).ok();
    assert_eq!(said.matches("PASS").count(), 4, "{said}");
}

/// A watch of etcdctl's; gone when dropped.
struct Watch(Child);

impl Watch {
    fn start(cluster: &Cluster, key: &str, revision: &str) -> Self {
        let from = format!("--rev={revision}");
        let mut command = etcdctl_command(cluster, &["watch", key, &from, "--write-out=fields"]);
        Watch(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("etcdctl"))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn resident_mebibytes(cluster: &Cluster) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

#[test]
fn a_client_that_never_reads_its_watch_costs_nothing_and_harms_nobody() {
    const VALUES: usize = 120;
    let cluster = with_etcd(&[]);
    let value = "x".repeat(1_400_000);
    let write = || {
        for _ in 0..VALUES {
            run(&mut etcdctl_command(&cluster, &["put", "mine/large"]), &value).ok();
        }
    };
    // As much as the history holds at most, so that what is measured is the watch.
    write();
    let before = resident_mebibytes(&cluster);
    // Both are there once they have told of a change that they begin with.
    let put = etcdctl(&cluster, &["put", "mine/large", "small", "--write-out=json"]).json();
    let revision = put["header"]["revision"].to_string();
    let watch = || Watch::start(&cluster, "mine/large", &revision);
    let (mut asleep, mut awake) = (watch(), watch());
    let mut first = [String::new(), String::new()];
    let mut asleep_out = BufReader::new(asleep.0.stdout.take().unwrap());
    let mut awake_out = BufReader::new(awake.0.stdout.take().unwrap());
    asleep_out.read_line(&mut first[0]).unwrap();
    awake_out.read_line(&mut first[1]).unwrap();
    asleep.signal(Signal::SIGSTOP);
    let reader = std::thread::spawn(move || {
        let events = awake_out.lines().map(Result::unwrap).filter(|line| line.starts_with("\"Value\""));
        events.take(VALUES + 1).map(|line| line.len()).sum::<usize>()
    });
    write();
    let read = reader.join().unwrap();
    assert!(read > VALUES * 1_400_000, "the other one is told of everything: {read} bytes");
    let after = resident_mebibytes(&cluster);
    assert!(after < before + 80, "{before} MiB before, {after} MiB after 160 MiB that nobody read");
    // When it looks at last, what it missed is gone, and it is told so as etcd does.
    asleep.signal(Signal::SIGCONT);
    let mut said = String::new();
    std::io::copy(&mut asleep_out, &mut std::io::sink()).unwrap();
    asleep.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("required revision has been compacted"), "{said}");
}
