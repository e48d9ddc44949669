//! Several servers of one cluster: they join, replace each other, come back, and refuse who does not belong.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use minik8s_tests::{Network, binary, eventually, run};
use nix::sys::signal::Signal;

mod agents;
mod checker;
mod etcd;
mod faults;
mod lost;
mod machines;

use machines::{LIMIT, Server, Servers};

fn names(outcome: &str) -> usize {
    outcome.split_whitespace().filter(|name| name.starts_with("written-")).count()
}

#[test]
fn one_server_becomes_three_without_a_restart() {
    let mut servers = Servers::one();
    let pid = servers.servers[0].process.as_ref().map(Child::id);
    servers.servers[0].created("before");
    assert!(servers.servers[0].members().is_empty());
    servers.join();
    servers.join();
    assert_eq!(servers.servers[0].process.as_ref().map(Child::id), pid, "it was not restarted");
    for server in &servers.servers {
        assert_eq!(server.members().len(), 3, "{}", server.name);
        server.kubectl(&["get", "configmap", "before"], "").ok();
    }
    // Who writes through one reads it there at once, and through the others as well.
    for (number, server) in servers.servers.iter().enumerate() {
        let name = format!("by-{number}");
        server.created(&name);
        for other in &servers.servers {
            other.kubectl(&["get", "configmap", &name], "").ok();
        }
    }
    // They have the same keys: a token of one is good with all.
    let token = servers.servers[1].kubectl(&["create", "token", "default", "-n", "kube-system"], "").ok();
    for server in &servers.servers {
        let file = server.folder.path().join("token.yaml");
        let kubeconfig = fs::read_to_string(server.data_dir().join("server/kubeconfig.yaml")).unwrap();
        let user = kubeconfig.find("users:").expect("users");
        let with_token =
            format!("{}users:\n- name: minik8s\n  user: {{token: {}}}\n", &kubeconfig[..user], token.trim());
        fs::write(&file, with_token).unwrap();
        let who = server.kubectl(&["auth", "whoami", "--kubeconfig", &file.display().to_string()], "");
        assert!(who.ok().contains("system:serviceaccount:kube-system:default"));
    }
    let endpoints = ["get", "endpoints", "kubernetes", "-o", "jsonpath={.subsets[0].addresses[*].ip}"];
    eventually("all are endpoints of the API", LIMIT, || {
        let found = servers.servers[2].kubectl(&endpoints, "").stdout;
        if found.split_whitespace().count() == 3 { Ok(()) } else { Err(found) }
    });
}

#[test]
fn the_leader_is_killed_while_others_write() {
    let mut servers = Servers::three();
    let leader = servers.leader(0);
    let writer = (leader + 1) % 3;
    let stop = Arc::new(AtomicBool::new(false));
    let (network, folder, done) =
        (servers.network.clone(), servers.servers[writer].folder.path().to_path_buf(), stop.clone());
    let writing = std::thread::spawn(move || write(&network, &folder, &done));
    let written = |servers: &Servers| {
        let listed = servers.servers[writer].kubectl(&["get", "configmaps", "-o", "name"], "").stdout;
        names(&listed.replace("configmap/", ""))
    };
    eventually("it is written", LIMIT, || if written(&servers) >= 5 { Ok(()) } else { Err("not yet") });
    servers.servers[leader].signal(Signal::SIGKILL);
    let killed = Instant::now();
    let before = written(&servers);
    eventually("writes go on", LIMIT, || {
        let now = written(&servers);
        if now >= before + 5 { Ok(()) } else { Err(format!("{now} of {before}")) }
    });
    eprintln!("writes went on {:?} after the leader was killed", killed.elapsed());
    servers.servers[leader].spawn();
    servers.servers[leader].wait();
    stop.store(true, Ordering::Release);
    let acknowledged = writing.join().expect("the writer");
    assert!(acknowledged.len() >= 10, "{acknowledged:?}");
    for server in &servers.servers {
        let listed = server.kubectl(&["get", "configmaps", "-o", "name"], "").ok();
        for name in &acknowledged {
            let line = format!("configmap/{name}");
            assert!(listed.lines().any(|known| known == line), "{} has lost {name}", server.name);
        }
    }
}

/// Creates objects one after the other; returns those that were acknowledged.
fn write(network: &Network, folder: &Path, stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let name = format!("written-{number}");
        let mut command = network.limited_command(0, &binary());
        let config = folder.join("data/server/kubeconfig.yaml");
        command.args(["kubectl", "create", "configmap", &name]).env("HOME", folder).env("KUBECONFIG", config);
        if run(&mut command, "").success {
            acknowledged.push(name);
        }
    }
    acknowledged
}

#[test]
fn servers_start_again_in_any_order() {
    let mut servers = Servers::three();
    servers.servers[1].created("kept");
    for server in &mut servers.servers {
        server.signal(Signal::SIGTERM);
    }
    // One alone waits; with a second one there is a majority.
    servers.servers[2].spawn();
    servers.servers[1].spawn();
    servers.servers[2].wait();
    servers.servers[1].wait();
    servers.servers[2].kubectl(&["get", "configmap", "kept"], "").ok();
    servers.servers[2].created("later");
    servers.servers[0].spawn();
    servers.servers[0].wait();
    servers.servers[0].kubectl(&["get", "configmap", "later"], "").ok();
    // All at once.
    for server in &mut servers.servers {
        server.signal(Signal::SIGKILL);
    }
    servers.servers.iter_mut().for_each(Server::spawn);
    servers.servers.iter_mut().for_each(Server::wait);
    servers.servers[1].kubectl(&["get", "configmap", "later"], "").ok();
    // One is taken out for good; the two that are left go on.
    let outcome = servers.servers[0].minik8s(&["server", "remove", "server-2"]).ok();
    assert!(!outcome.contains("server-2") && outcome.contains("server-1"), "{outcome}");
    servers.servers[2].signal(Signal::SIGKILL);
    servers.servers[1].created("without");
    let refused = servers.servers[0].minik8s(&["server", "remove", "server-2"]).failed();
    assert!(refused.contains("none of this name"), "{refused}");
    let status = servers.servers[1].minik8s(&["status"]).stdout;
    let told = status.lines().filter(|line| line.trim_start().starts_with("server-")).count();
    assert_eq!(told, 2, "{status}");
}

#[test]
fn without_a_majority_reads_go_on_and_writes_are_refused() {
    let mut servers = Servers::three();
    let leader = servers.leader(0);
    servers.servers[leader].created("before");
    for number in (0..3).filter(|number| *number != leader) {
        servers.servers[number].signal(Signal::SIGKILL);
    }
    let left = &servers.servers[leader];
    let began = Instant::now();
    let refused = left.create("refused").failed();
    assert!(refused.contains("no quorum"), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let read = left.kubectl(&["get", "configmap", "before"], "");
    assert!(read.success && read.stderr.contains("may be out of date"), "{read}");
    let path = "/api/v1/namespaces/default/configmaps/before?resourceVersion=0";
    let old = left.kubectl(&["get", "--raw", path], "");
    assert!(old.success && old.stderr.is_empty(), "{old}");
    let ready = left.kubectl(&["get", "--raw", "/readyz?verbose"], "");
    assert!(!ready.success, "{ready}");
    // Whether the others answer is known by their silence, after a while.
    eventually("the status tells", Duration::from_secs(20), || {
        let status = left.minik8s(&["status"]).stdout;
        if status.contains("writes are refused: 2 of 3 servers") { Ok(()) } else { Err(status) }
    });

    let other = (leader + 1) % 3;
    servers.servers[other].spawn();
    servers.servers[other].wait();
    servers.servers[other].created("after");
    servers.servers[leader].kubectl(&["get", "configmap", "after"], "").ok();
    servers.servers[leader].wait();
}

#[test]
fn who_does_not_belong_is_refused_in_one_line() {
    let servers = Servers::one();
    let refused = |server: &Server, words: &str| {
        let outcome = run(&mut server.command(), "");
        assert!(!outcome.success, "{outcome}");
        let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("minik8s")).collect();
        assert!(lines.len() == 1 && lines[0].contains(words), "{outcome}");
        assert!(
            !server.data_dir().join("server/tls").join("server-ca.key").exists() || words.contains("own")
        );
    };
    let mut agents = servers.prepare("wrong");
    refused(&agents, "does not accept the token");
    let token = fs::read_to_string(servers.servers[0].data_dir().join("server/agent-token")).unwrap();
    agents.flags[3] = token.trim().to_string();
    refused(&agents, "does not accept the token");
    agents.flags[3] = servers.servers[0].token();
    agents.flags.extend(["--cluster-domain".to_string(), "other.local".to_string()]);
    refused(&agents, "--cluster-domain is cluster.local there and other.local here");
    agents.flags.truncate(4);
    agents.name = "server-0".to_string();
    refused(&agents, "is there already");
    agents.flags[1] = "https://192.168.77.1:1".to_string();
    refused(&agents, "join https://192.168.77.1:1");

    // A data directory with a cluster of its own.
    let mut other = Server::new(&servers.network, 5);
    other.spawn();
    other.wait();
    other.signal(Signal::SIGTERM);
    other.flags = ["--server", &servers.servers[0].url(), "--token", &servers.servers[0].token()]
        .map(str::to_string)
        .to_vec();
    refused(&other, "it holds a cluster of its own");
    assert!(servers.servers[0].members().is_empty(), "nobody has joined");
}
