//! Who is let in.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;

use super::sysctls::SysctlPatternError;
use super::*;

fn pod(name: &str, spec: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "spec": spec})).unwrap()
}

fn asking(cpu: &str) -> Pod {
    pod("p", json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}))
}

fn node() -> Node {
    serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"disk": "ssd"}}})).unwrap()
}

fn room() -> Resources {
    [("cpu", "2"), ("memory", "1Gi"), ("pods", "2")]
        .into_iter()
        .map(|(name, amount)| (name.to_string(), Quantity(amount.to_string())))
        .collect()
}

#[test]
fn there_must_be_room() {
    assert_eq!(fits(&asking("1500m"), &node(), &room(), &[]), Ok(()));
    let (reason, message) = fits(&asking("1500m"), &node(), &room(), &[&asking("1")]).unwrap_err();
    assert_eq!(reason, "OutOfcpu");
    assert_eq!(message, "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000");
    let nothing = pod("q", json!({"containers": [{"name": "c"}]}));
    let others = [&nothing, &nothing];
    assert_eq!(fits(&nothing, &node(), &room(), &others).unwrap_err().0, "OutOfpods");
}

#[test]
fn the_node_must_be_the_one_that_is_wanted() {
    for (label, is_wanted) in [("ssd", true), ("hdd", false)] {
        let choosy = pod("p", json!({"containers": [], "nodeSelector": {"disk": label}}));
        let outcome = fits(&choosy, &node(), &room(), &[]);
        assert_eq!(
            outcome.as_ref().err().map(|why| why.0.as_str()),
            if is_wanted { None } else { Some("NodeAffinity") }
        );
    }
}

#[test]
fn a_port_of_the_node_is_taken_once() {
    let taking = |ports: serde_json::Value| {
        pod("p", json!({"containers": [{"name": "a"}, {"name": "c", "ports": ports}]}))
    };
    let refused = |one: serde_json::Value, other: serde_json::Value| {
        fits(&taking(one), &node(), &room(), &[&taking(other)]).err().map(|(reason, _)| reason)
    };
    let port = |port: i32, more: serde_json::Value| {
        let mut port = json!({"containerPort": 80, "hostPort": port});
        port.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([port])
    };
    let clash = Some("NodePorts".to_string());
    assert_eq!(refused(port(80, json!({})), port(80, json!({}))), clash);
    assert_eq!(refused(port(80, json!({"protocol": "TCP"})), port(80, json!({"hostIP": "10.0.0.1"}))), clash);
    assert_eq!(refused(port(80, json!({})), port(81, json!({}))), None);
    assert_eq!(refused(port(80, json!({"protocol": "UDP"})), port(80, json!({}))), None);
    let (one, other) = (json!({"hostIP": "10.0.0.1"}), json!({"hostIP": "10.0.0.2"}));
    assert_eq!(refused(port(80, one), port(80, other)), None);
    assert_eq!(refused(json!([{"containerPort": 80}]), json!([{"containerPort": 80}])), None);
}

#[test]
fn the_nodes_own_ports_are_none_for_pods() {
    let own =
        |protocol, address: &str, owner| NodePort { protocol, address: address.parse().unwrap(), owner };
    let node_ports = [
        own("TCP", "0.0.0.0:6443", "API server"),
        own("TCP", "127.0.0.1:10249", "service proxy"),
        own("UDP", "10.43.0.10:53", "cluster DNS"),
    ];
    let (list, room) = (sysctls(&[]).unwrap(), room());
    let rules = Rules { allocatable: &room, sysctls: &list, apparmor: true, node_ports: &node_ports };
    let refused = |port: serde_json::Value, host_network: bool| {
        let spec = json!({"hostNetwork": host_network, "containers": [{"name": "c", "ports": [port]}]});
        admit(&pod("p", spec), &node(), &rules, &[]).err()
    };
    let (reason, message) = refused(json!({"containerPort": 80, "hostPort": 6443}), false).unwrap();
    assert_eq!(reason, "NodePorts");
    assert_eq!(
        message,
        "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports: TCP port 6443 is \
         that of the node's API server"
    );
    for (port, is_refused) in [
        (json!({"containerPort": 80, "hostPort": 6443, "hostIP": "192.0.2.1"}), true),
        (json!({"containerPort": 80, "hostPort": 6443, "protocol": "UDP"}), false),
        (json!({"containerPort": 6443}), false),
        (json!({"containerPort": 80, "hostPort": 10249}), true),
        (json!({"containerPort": 80, "hostPort": 10249, "hostIP": "192.0.2.1"}), false),
        (json!({"containerPort": 53, "hostPort": 53, "protocol": "UDP"}), true),
        (json!({"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"}), false),
        (json!({"containerPort": 53, "hostPort": 53}), false),
    ] {
        assert_eq!(refused(port.clone(), false).is_some(), is_refused, "{port}");
        // It asks the kernel for the port like any process.
        assert_eq!(refused(port.clone(), true), None, "{port}");
    }
}

fn sysctls(patterns: &[&str]) -> Result<SysctlAllowlist, SysctlPatternError> {
    let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
    SysctlAllowlist::new(&patterns, "6.1.0-18-amd64")
}

/// Reason and message of a refusal of a pod with one sysctl.
fn refused(list: &SysctlAllowlist, name: &str, more: serde_json::Value) -> Option<String> {
    let mut spec = json!({"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let room = room();
    let rules = Rules { allocatable: &room, sysctls: list, apparmor: true, node_ports: &[] };
    let (reason, message) = admit(&pod("p", spec), &node(), &rules, &[]).err()?;
    assert_eq!(reason, "SysctlForbidden");
    Some(message)
}

#[test]
fn only_safe_sysctls_may_be_set_unless_others_are_allowed() {
    let safe = sysctls(&[]).unwrap();
    let none = || json!({});
    for name in ["kernel.shm_rmid_forced", "net.ipv4.tcp_rmem", "net/ipv4/tcp_syncookies"] {
        assert_eq!(refused(&safe, name, none()), None, "{name}");
    }
    for name in ["kernel.msgmax", "net.core.somaxconn", "kernel.core_pattern", "vm.swappiness"] {
        let message = format!("forbidden sysctl: {name:?} not allowlisted");
        assert_eq!(refused(&safe, name, none()), Some(message));
    }
    let more = sysctls(&["kernel.msg*", "net.core.somaxconn"]).unwrap();
    assert_eq!(refused(&more, "kernel.msgmax", none()), None);
    assert_eq!(refused(&more, "net.core.somaxconn", none()), None);
    assert!(refused(&more, "net.core.somaxconn2", none()).is_some());
    let message = "forbidden sysctl: \"net.core.somaxconn\" not allowed with host Net enabled";
    assert_eq!(refused(&more, "net.core.somaxconn", json!({"hostNetwork": true})).unwrap(), message);
    let message = "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host IPC enabled";
    assert_eq!(refused(&more, "kernel.shm_rmid_forced", json!({"hostIPC": true})).unwrap(), message);
    let old = SysctlAllowlist::new(&[], "4.4.0").unwrap();
    assert!(refused(&old, "net.ipv4.tcp_rmem", none()).is_some());
    assert_eq!(refused(&old, "net.ipv4.ip_local_reserved_ports", none()), None);
}

#[test]
fn patterns_of_sysctls_are_checked() {
    for good in ["net.ipv4.*", "net/ipv4/*", "kernel.sem", "fs.mqueue.msg_*", "net.a-b.c"] {
        assert!(sysctls(&[good]).is_ok(), "{good}");
    }
    for bad in ["", "net.", ".net", "net.a*.b", "net.*a", "Net.a", "net.a_", "net..a", "net.ä"] {
        assert_eq!(sysctls(&[bad]), Err(SysctlPatternError::Form(bad.to_string())));
    }
    assert!(matches!(sysctls(&[&format!("net.{}", "a".repeat(250))]), Err(SysctlPatternError::Form(_))));
    for (elsewhere, named) in [("vm.swappiness", "vm.swappiness"), ("*", ""), ("kernel.*", "kernel.")] {
        assert_eq!(sysctls(&[elsewhere]), Err(SysctlPatternError::NotNamespaced(named.to_string())));
    }
}

#[test]
fn apparmor_must_be_there_if_a_profile_is_demanded() {
    let judge = |spec: serde_json::Value, apparmor: bool| {
        let (list, room) = (sysctls(&[]).unwrap(), room());
        let rules = Rules { allocatable: &room, sysctls: &list, apparmor, node_ports: &[] };
        admit(&pod("p", spec), &node(), &rules, &[]).err()
    };
    let of_pod = |profile: serde_json::Value| json!({"containers": [{"name": "c"}], "securityContext": {"appArmorProfile": profile}});
    let of_container = json!({"containers": [
        {"name": "c", "securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "x"}}}
    ]});
    let refusal =
        ("AppArmor".to_string(), "Cannot enforce AppArmor: AppArmor is not enabled on the host".to_string());
    assert_eq!(judge(of_pod(json!({"type": "RuntimeDefault"})), false), Some(refusal.clone()));
    assert_eq!(judge(of_container.clone(), false), Some(refusal.clone()));
    assert_eq!(judge(of_pod(json!({"type": "Unconfined"})), false), None);
    assert_eq!(judge(json!({"containers": [{"name": "c"}]}), false), None);
    assert_eq!(judge(of_container, true), None);
    let empty = judge(of_pod(json!({"type": "Localhost", "localhostProfile": " "})), true).unwrap();
    assert!(empty.1.contains("invalid empty AppArmor profile name"), "{empty:?}");
    let mut annotated = pod("p", json!({"containers": [{"name": "c"}]}));
    let key = "container.apparmor.security.beta.kubernetes.io/c".to_string();
    annotated.metadata.annotations = Some([(key, "runtime/default".to_string())].into());
    assert_eq!(apparmor::admit(&annotated, false), Err(refusal));
}
