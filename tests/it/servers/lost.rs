//! Servers that are lost: one goes on alone, others come back anew, and nobody joins by accident.

use std::fs;

use minik8s_tests::{eventually, run};
use nix::sys::signal::Signal;

use super::machines::{LIMIT, Server, Servers};

/// What begins with these words below the server's directory.
fn kept(server: &Server, beginning: &str) -> Vec<String> {
    let names = fs::read_dir(server.data_dir().join("server")).unwrap().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(beginning)).collect()
}

/// The one line that a start which is refused ends with.
fn refused(server: &Server, words: &str) {
    let outcome = run(&mut server.command(), "");
    assert!(!outcome.success, "{outcome}");
    let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("minik8s")).collect();
    assert!(lines.len() == 1 && lines[0].contains(words), "{outcome}");
}

#[test]
fn the_one_that_is_left_goes_on_and_the_others_rejoin() {
    let mut servers = Servers::three();
    servers.servers[2].created("kept");
    let refusal = servers.servers[2].minik8s(&["server", "reset"]).failed();
    assert!(refusal.lines().count() == 1 && refusal.contains("another minik8s runs on it"), "{refusal}");
    for server in &mut servers.servers {
        server.signal(Signal::SIGKILL);
    }
    // A snapshot that is none changes nothing.
    let none = servers.servers[2].folder.path().join("log");
    let refusal = servers.servers[2].minik8s(&["server", "reset", "--snapshot", &none.display().to_string()]);
    assert_eq!(refusal.failed().lines().count(), 1);
    assert!(kept(&servers.servers[2], "store.").is_empty());

    let said = servers.servers[2].minik8s(&["server", "reset"]).ok();
    assert!(said.contains("is a cluster of its own") && said.contains("--rejoin"), "{said}");
    assert_eq!(kept(&servers.servers[2], "store.before-").len(), 1, "nothing is lost");
    let again = servers.servers[2].minik8s(&["server", "reset"]).failed();
    assert!(again.contains("a cluster of its own already"), "{again}");
    // Its flags still name a server that it joined.
    refused(&servers.servers[2], "it holds a cluster of its own");
    servers.servers[2].flags.clear();
    servers.servers[2].spawn();
    servers.servers[2].wait();
    servers.servers[2].kubectl(&["get", "configmap", "kept"], "").ok();
    servers.servers[2].created("after");
    assert!(servers.servers[2].members().is_empty(), "it is alone");

    // The others are of the cluster that was: they have a majority there, and it is not this one's.
    let left = servers.servers[2].url();
    servers.servers[0].spawn();
    servers.servers[1].spawn();
    servers.servers[0].wait();
    servers.servers[0].created("elsewhere");
    assert!(servers.servers[2].members().is_empty(), "nobody joins by accident");
    servers.servers[2].kubectl(&["get", "configmap", "elsewhere"], "").failed();
    // They come back by one command, with the token that they have.
    for number in [0, 1] {
        servers.servers[number].signal(Signal::SIGTERM);
        servers.servers[number].flags = ["--server", &left, "--rejoin"].map(str::to_string).to_vec();
        servers.servers[number].spawn();
        servers.servers[number].wait();
        assert_eq!(kept(&servers.servers[number], "store.before-").len(), 1);
        servers.servers[number].kubectl(&["get", "configmap", "after"], "").ok();
        servers.servers[number].kubectl(&["get", "configmap", "elsewhere"], "").failed();
    }
    assert_eq!(servers.servers[2].members().len(), 3);
    // The flag does no harm at later starts.
    servers.servers[0].signal(Signal::SIGKILL);
    servers.servers[0].spawn();
    servers.servers[0].wait();
    assert_eq!(kept(&servers.servers[0], "store.before-").len(), 1);
    servers.servers[0].created("at-last");
    servers.servers[1].kubectl(&["get", "configmap", "at-last"], "").ok();
}

#[test]
fn one_that_lost_its_disk_rejoins_under_its_name() {
    let mut servers = Servers::three();
    servers.servers[1].created("before");
    let old = servers.servers[0].members();
    let id = |members: &[serde_json::Value], name: &str| {
        let found = members.iter().find(|member| member["name"] == name).expect("a member");
        found["id"].as_str().expect("an identity").to_string()
    };
    // One that runs keeps its name.
    let token = servers.servers[0].token();
    let url = servers.servers[1].url();
    let mut thief = Server::new(&servers.network, 7);
    thief.name = "server-0".to_string();
    thief.flags = ["--server", &url, "--token", &token, "--rejoin"].map(str::to_string).to_vec();
    refused(&thief, "it runs");
    assert!(!thief.data_dir().join("server/tls/server-ca.key").exists(), "nothing is written");
    thief.name = "server-1".to_string();
    refused(&thief, "it is the one that was asked");

    // The first is lost with all that it had.
    servers.servers[0].signal(Signal::SIGKILL);
    fs::remove_dir_all(servers.servers[0].data_dir()).unwrap();
    servers.servers[0].flags = ["--server", &url, "--token", &token].map(str::to_string).to_vec();
    refused(&servers.servers[0], "--rejoin if that one is lost");
    servers.servers[0].flags[3] = "wrong".to_string();
    servers.servers[0].flags.push("--rejoin".to_string());
    refused(&servers.servers[0], "does not accept the token");
    assert_eq!(servers.servers[1].members().len(), 3, "nothing has changed");
    servers.servers[0].flags[3] = token;
    servers.servers[0].spawn();
    servers.servers[0].wait();
    let now = servers.servers[1].members();
    assert_eq!(now.len(), 3, "{now:?}");
    assert_ne!(id(&old, "server-0"), id(&now, "server-0"));
    servers.servers[0].kubectl(&["get", "configmap", "before"], "").ok();
    // It has a vote: without another one there is still a majority.
    servers.servers[2].signal(Signal::SIGKILL);
    eventually("it votes", LIMIT, || {
        let outcome = servers.servers[0].create("with-its-vote");
        if outcome.success { Ok(()) } else { Err(outcome) }
    });
}

#[test]
fn all_servers_have_the_agents_token_that_one_has_rotated() {
    let mut servers = Servers::one();
    servers.join();
    let read = |server: &Server| fs::read_to_string(server.data_dir().join("server/agent-token")).unwrap();
    assert_eq!(read(&servers.servers[0]), read(&servers.servers[1]));
    let fresh = servers.servers[1].minik8s(&["token", "rotate"]).ok();
    assert_eq!(read(&servers.servers[1]), fresh, "it counts at once here");
    eventually("the other server knows it", LIMIT, || {
        let known = read(&servers.servers[0]);
        if known == fresh { Ok(()) } else { Err(known) }
    });
    // One that was down meanwhile learns of it, too.
    servers.servers[0].signal(Signal::SIGKILL);
    // Two servers are both needed: the token is not changed on one alone.
    let refusal = servers.servers[1].minik8s(&["token", "rotate"]).failed();
    assert_eq!(refusal.lines().count(), 1, "{refusal}");
    assert_eq!(read(&servers.servers[1]), fresh);
    servers.servers[0].spawn();
    servers.servers[0].wait();
    servers.join();
    servers.servers[0].signal(Signal::SIGTERM);
    let third = eventually("it is rotated", LIMIT, || {
        let outcome = servers.servers[2].minik8s(&["token", "rotate"]);
        if outcome.success { Ok(outcome.stdout) } else { Err(outcome) }
    });
    servers.servers[0].spawn();
    servers.servers[0].wait();
    eventually("all know it", LIMIT, || {
        let known: Vec<String> = servers.servers.iter().map(read).collect();
        if known.iter().all(|known| *known == third) { Ok(()) } else { Err(known.concat()) }
    });
}
