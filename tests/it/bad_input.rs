//! Mistakes: each is one line that says what, why and what to do, and a status that is not 0.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use minik8s_tests::{Cluster, binary, run};

/// Runs the binary with the arguments, which must fail, and gives the one line it says.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let outcome = run(Command::new(binary()).args(arguments), "");
    let said = outcome.clone().failed();
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("minik8s")).collect();
    assert_eq!(lines.len(), 1, "{outcome}");
    lines[0].to_string()
}

#[test]
fn unknown_words_are_named_with_what_was_meant() {
    assert!(refused(&["serve"]).contains("unknown command \"serve\""));
    let flag = refused(&["server", "--disable-agnet"]);
    assert!(flag.contains("unknown flag --disable-agnet; did you mean --disable-agent?"), "{flag}");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    fs::write(&config, "cluster-cdir: 10.0.0.0/16\n").unwrap();
    let key = refused(&["server", "--config", config.to_str().unwrap()]);
    assert!(key.contains("there is no setting \"cluster-cdir\"; did you mean cluster-cidr?"), "{key}");
    let url = refused(&["agent", "--server", "192.0.2.1", "--token", "x"]);
    assert!(url.contains("give --server https://HOST:PORT"), "{url}");
    let level = refused(&["server", "--log", "kublet=debug"]);
    assert!(level.contains("did you mean kubelet?"), "{level}");
}

#[test]
fn impossible_values_are_refused_before_anything_happens() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    for (flag, value, why) in [
        ("--cluster-cidr", "10.42.0.0", "--cluster-cidr"),
        ("--cluster-cidr", "fd00::/48", "IPv4"),
        ("--service-cidr", "10.42.0.0/20", "overlap"),
        ("--write-kubeconfig-mode", "rw", "octal"),
        ("--node-name", "Not_A_Name", "node's name"),
        ("--node-taint", "x:Never", "effect"),
        ("--disable", "schedular", "did you mean scheduler?"),
    ] {
        let said = refused(&["server", "--disable-agent", "--data-dir", data, flag, value]);
        assert!(said.contains(why), "{flag}: {said}");
    }
    assert!(!fs::exists(data).unwrap(), "nothing is made");
}

#[test]
fn a_taken_port_is_said_so() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "server",
        "--disable-agent",
        "--bind-address",
        "127.0.0.1",
        "--https-listen-port",
        &port,
        "--data-dir",
    ];
    let said = refused(&[&arguments[..], &[folder.path().to_str().unwrap()]].concat());
    assert!(
        said.contains(&format!("cannot listen on 127.0.0.1:{port}")) && said.contains("--https-listen-port"),
        "{said}"
    );
}

#[test]
fn a_data_directory_serves_one() {
    let cluster = Cluster::control_plane();
    let data = cluster.data_dir();
    let said = refused(&[
        "server",
        "--disable-agent",
        "--https-listen-port",
        "0",
        "--data-dir",
        data.to_str().unwrap(),
    ]);
    let pid = cluster.pid().unwrap();
    assert!(said.contains(&format!("another minik8s runs on it (process {pid})")), "{said}");
}

#[test]
fn a_half_written_authority_is_not_replaced() {
    let mut cluster = Cluster::control_plane();
    cluster.stop();
    let key = cluster.data_dir().join("server/tls/server-ca.key");
    let whole = fs::read(&key).unwrap();
    fs::write(&key, &whole[..40]).unwrap();
    let data = cluster.data_dir();
    let said = refused(&[
        "server",
        "--disable-agent",
        "--https-listen-port",
        "0",
        "--data-dir",
        data.to_str().unwrap(),
    ]);
    assert!(said.contains("cannot use the authority") && said.contains("restore"), "{said}");
    fs::write(&key, whole).unwrap();
    cluster.start();
}

#[test]
fn a_node_needs_root_containerd_and_a_route() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("minik8s");
    fs::copy(binary(), &copy).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), mode).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).arg("server");
    let said = run(&mut command, "").failed();
    assert!(said.contains("cannot run a node: this is not root"), "{said}");

    let network = minik8s_tests::Network::new();
    run(network.command(0, "ip".as_ref()).args(["route", "delete", "default"]), "").ok();
    let data = folder.path().join("data");
    let said = run(
        network.command(0, &binary()).args(["server", "--https-listen-port", "0", "--data-dir"]).arg(&data),
        "",
    );
    let said = said.failed();
    assert!(said.contains("there is no default route"), "{said}");

    // A machine whose containerd is too old: a stand-in that says so, found first.
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let old = bin.join("containerd");
    fs::write(&old, "#!/bin/sh\necho containerd example/containerd 1.4.13 abc\n").unwrap();
    fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = network.command(0, &binary());
    command
        .args([
            "server",
            "--https-listen-port",
            "0",
            "--kubelet-port",
            "0",
            "--node-ip",
            "192.168.77.1",
            "--data-dir",
        ])
        .arg(&data);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let said = run(command.env("PATH", path), "").failed();
    assert!(said.contains("containerd 1.4 is too old"), "{said}");
    run(Command::new(binary()).args(["uninstall", "--data-dir"]).arg(&data), "").ok();
}

#[test]
fn an_agent_with_a_wrong_token_says_so() {
    let cluster = Cluster::control_plane();
    let kubeconfig = fs::read_to_string(cluster.kubeconfig()).unwrap();
    let url = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("server: ")).unwrap();
    let hash = "0".repeat(64);
    let folder = tempfile::tempdir().unwrap();
    let join = |token: &str| {
        let mut command =
            cluster.minik8s(&["agent", "--server", url, "--token", token, "--node-name", "x", "--data-dir"]);
        run(command.arg(folder.path().join("data")), "").failed()
    };
    assert!(join("K10short::server:x").contains("64 hexadecimal digits"));
    let other = join(&format!("K10{hash}::server:x"));
    assert!(other.contains("does not have the hash that the token demands"), "{other}");
    let unknown = join("wrong");
    assert!(unknown.contains("the server does not accept the token"), "{unknown}");
}

#[test]
fn only_an_instance_can_be_uninstalled() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("precious"), "x").unwrap();
    let said = refused(&["uninstall", "--data-dir", folder.path().to_str().unwrap()]);
    assert!(said.contains("it is not a data directory of minik8s"), "{said}");
    assert!(folder.path().join("precious").exists());
}
