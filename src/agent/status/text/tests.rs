//! The report as people read it.

use super::super::report::{Certificate, Cluster, Dns, Finding};
use super::*;

#[test]
fn what_wants_attention_comes_first() {
    let report = Report {
        version: "v1".into(),
        state: State::Degraded,
        role: Some("server".into()),
        data_dir: "/data".into(),
        problems: vec![Finding::new("etcd's API is off", "127.0.0.1:2379 is taken", "choose another")],
        etcd: Some(Etcd { url: None, off: Some("127.0.0.1:2379 is taken".into()) }),
        ..Report::default()
    };
    let text = all(&report);
    let wanted = "minik8s server: running, 1 thing to attend to\n  version       v1\n  data          /data\n\n\
                  Attention\n  - etcd's API is off: 127.0.0.1:2379 is taken; choose another\n\n\
                  etcd's API\n  off           127.0.0.1:2379 is taken\n";
    assert_eq!(text, wanted);
}

/// A server as it mostly is.
fn healthy() -> Report {
    let pods = [("Running".to_string(), 12), ("Succeeded".to_string(), 3)].into();
    Report {
        version: "v1".into(),
        state: State::Running,
        role: Some("server".into()),
        data_dir: "/data".into(),
        pid: Some(7),
        uptime_seconds: Some(90),
        api: Some(Api {
            url: "https://127.0.0.1:6443".into(),
            advertised: Some("192.0.2.1:6443".into()),
            ready: true,
            kubeconfig: Some("/etc/minik8s/minik8s.yaml".into()),
            checks: [("etcd".to_string(), true)].into(),
        }),
        cluster: Some(Cluster { nodes: 2, nodes_ready: 2, pods }),
        store: Some(Store {
            keys: 300,
            size_in_use: 1 << 20,
            quota: 2 << 30,
            free_on_disk: 40 << 30,
            ..Store::default()
        }),
        snapshots: Some(Snapshots {
            folder: "/data/server/snapshots".into(),
            next: Some("noon".into()),
            ..Snapshots::default()
        }),
        node: Some(Node {
            name: "one".into(),
            ready: true,
            addresses: vec!["192.0.2.1".into()],
            dns: Some(Dns { address: [10, 43, 0, 10].into(), answers: true }),
            ..Node::default()
        }),
        certificates: vec![Certificate {
            file: "server/tls/a.crt".into(),
            days_left: 364,
            ..Certificate::default()
        }],
        components: ["kubelet", "kube-controller-manager"]
            .map(|name| Component { name: name.into(), ..Component::default() })
            .into(),
        ..Report::default()
    }
}

#[test]
fn a_healthy_server_takes_ten_lines() {
    let text = brief(&healthy());
    assert_eq!(text.lines().count(), 10, "{text}");
    assert!(text.starts_with("minik8s server: running\n"), "{text}");
    for wanted in [
        "  API        https://192.0.2.1:6443, kubeconfig /etc/minik8s/minik8s.yaml\n",
        "  nodes      2 of 2 Ready\n",
        "  pods       12 Running, 3 Succeeded\n",
        "  DNS        10.43.0.10 answers\n",
        "  snapshots  0 in /data/server/snapshots, none yet, the next at noon\n",
    ] {
        assert!(text.contains(wanted), "{wanted}{text}");
    }
    let text = all(&healthy());
    assert!(text.contains("server/tls/a.crt") && text.contains("[+]etcd ok"), "{text}");
    assert!(
        text.contains("  kubelet                  0 tasks\n  kube-controller-manager  0 tasks\n"),
        "{text}"
    );
}

#[test]
fn what_is_wrong_is_the_second_line() {
    let problems = vec![Finding::new("178 of 200 pods find no node", "Insufficient cpu", "add a node")];
    let text = brief(&Report { state: State::Degraded, problems, ..healthy() });
    let second = "  - 178 of 200 pods find no node: Insufficient cpu; add a node";
    assert_eq!(text.lines().nth(1), Some(second), "{text}");
}

#[test]
fn amounts_are_short() {
    assert_eq!(size(1536), "1.5 KiB");
    assert_eq!(size(96 << 20), "96.0 MiB");
    assert_eq!(duration(59), "59 s");
    assert_eq!(duration(3 * 3600 + 120), "3 h 2 min");
    assert_eq!(duration(200_000), "2 d 7 h");
}
