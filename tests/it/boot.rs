//! Start, readiness and what every cluster has from the first moment.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use minik8s_tests::{Cluster, Options, eventually};

#[test]
fn a_fresh_server_is_ready_and_has_what_every_cluster_has() {
    let cluster = Cluster::control_plane();
    let health = cluster.kubectl(&["get", "--raw", "/readyz?verbose"]).ok();
    assert!(health.contains("readyz check passed"), "{health}");
    let version = cluster.kubectl(&["get", "--raw", "/version"]).json();
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.36.2+minik8s"), "{version}");
    let namespaces = cluster.kubectl(&["get", "ns", "-o", "name"]).ok();
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        assert!(namespaces.contains(&format!("namespace/{name}")), "{namespaces}");
    }
    let service = cluster.get("service", "kubernetes");
    assert_eq!(service["spec"]["clusterIP"], "10.43.0.1");
    eventually("service account and root CA in every namespace", Duration::from_secs(20), || {
        for namespace in ["default", "kube-system"] {
            for what in [["serviceaccount", "default"], ["configmap", "kube-root-ca.crt"]] {
                let outcome = cluster.kubectl(&["get", what[0], what[1], "-n", namespace]);
                if !outcome.success {
                    return Err(outcome.to_string());
                }
            }
        }
        Ok(())
    });
    let mode = std::fs::metadata(cluster.kubeconfig()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_restart_keeps_objects_and_identities() {
    let mut cluster = Cluster::control_plane();
    cluster.kubectl(&["create", "configmap", "kept", "--from-literal=a=b"]).ok();
    let before = cluster.get("configmap", "kept");
    let token = std::fs::read_to_string(cluster.data_dir().join("server/token")).unwrap();
    cluster.stop();
    cluster.start();
    assert_eq!(cluster.get("configmap", "kept"), before);
    assert_eq!(std::fs::read_to_string(cluster.data_dir().join("server/token")).unwrap(), token);
    cluster.kill();
    cluster.start();
    assert_eq!(cluster.get("configmap", "kept"), before);
}

#[test]
fn flags_reach_what_they_are_for() {
    let flags =
        ["--service-cidr", "10.96.0.0/16", "--tls-san", "api.example", "--write-kubeconfig-mode", "644"];
    let flags = flags.map(str::to_string).to_vec();
    let cluster = Cluster::start_with(Options { node: false, flags });
    assert_eq!(cluster.get("service", "kubernetes")["spec"]["clusterIP"], "10.96.0.1");
    let mode = std::fs::metadata(cluster.kubeconfig()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let named = cluster.kubectl(&["--tls-server-name", "api.example", "get", "--raw", "/readyz"]);
    assert_eq!(named.ok(), "ok");
    let unnamed =
        cluster.kubectl(&["--tls-server-name", "other.example", "get", "--raw", "/readyz"]).failed();
    assert!(unnamed.contains("certificate"), "{unnamed}");
}
