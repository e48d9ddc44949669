//! A node of a cluster with several servers: it works on when any of them is gone.

use std::time::{Duration, Instant};

use minik8s_tests::{Agent, CommandOutcome, eventually, run};
use nix::sys::signal::Signal;

use super::machines::{LIMIT, Server, Servers};

fn pod(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - {{name: a, image: 'busybox:test'}}\n"
    )
}

const READY: &str = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;

/// Waits until an object is Ready, as this server says.
#[track_caller]
fn wait_ready(server: &Server, agent: &Agent, kind: &str, name: &str) {
    eventually(&format!("{kind} {name} is Ready by {}", server.name), LIMIT, || {
        let outcome = server.kubectl(&["get", kind, name, "-o", READY], "");
        let told = |outcome: CommandOutcome| format!("{outcome}\n{}", agent.log());
        if outcome.stdout == "True" { Ok(()) } else { Err(told(outcome)) }
    });
}

/// Creates a pod through this server, waits until it runs, and looks into it.
#[track_caller]
fn run_pod(server: &Server, agent: &Agent, name: &str) {
    server.kubectl(&["apply", "-f", "-"], &pod(name)).ok();
    wait_ready(server, agent, "pod", name);
    let said = server.kubectl(&["exec", name, "--", "echo", "said", name], "");
    assert_eq!(said.ok(), format!("said {name}\n"));
    server.kubectl(&["logs", name], "").ok();
}

#[test]
fn a_node_works_on_without_the_server_that_it_joined() {
    let mut servers = Servers::three();
    let first = servers.servers[0].url();
    let token = std::fs::read_to_string(servers.servers[0].data_dir().join("server/agent-token")).unwrap();
    let mut agent = Agent::start_at(&servers.network, &first, "node", token.trim());
    wait_ready(&servers.servers[1], &agent, "node", "node");
    run_pod(&servers.servers[0], &agent, "before");
    let remembered = agent.data_dir().join("agent/servers");
    eventually("the agent knows all servers", LIMIT, || {
        let known = std::fs::read_to_string(&remembered).unwrap_or_default();
        if known.lines().count() == 3 { Ok(()) } else { Err(known) }
    });

    servers.servers[0].signal(Signal::SIGKILL);
    let killed = Instant::now();
    run_pod(&servers.servers[1], &agent, "after");
    eprintln!("a pod ran {:?} after the server was killed", killed.elapsed());
    let logs = servers.servers[2].kubectl(&["exec", "before", "--", "echo", "there"], "");
    assert_eq!(logs.ok(), "there\n");

    // Pods reach the API by its service, whose endpoints are the servers that are there.
    let endpoints = ["get", "endpoints", "kubernetes", "-o", "jsonpath={.subsets[0].addresses[*].ip}"];
    eventually("the endpoints are those that are left", LIMIT, || {
        let found = servers.servers[2].kubectl(&endpoints, "").stdout;
        let left: Vec<&str> = found.split_whitespace().collect();
        if left == [&servers.servers[1].address, &servers.servers[2].address] { Ok(()) } else { Err(found) }
    });
    for _ in 0..8 {
        eventually("the service answers", Duration::from_secs(10), || {
            let mut ask = servers.network.limited_command(1, "curl".as_ref());
            let asked = run(ask.args(["-sSk", "-m", "3", "https://10.43.0.1/readyz"]), "");
            if asked.stdout == "ok" { Ok(()) } else { Err(asked) }
        });
    }

    // The agent starts again while its server is still gone, by what it remembers.
    agent.kill();
    agent.set_token(None);
    agent.restart_at(&servers.network, &first);
    run_pod(&servers.servers[2], &agent, "restarted");
    let status = servers.servers[1].kubectl(&["get", "node", "node", "-o", READY], "");
    assert_eq!(status.ok(), "True");

    // The next one is not killed but stops: nothing ends its connections, and it answers nobody.
    servers.servers[0].spawn();
    servers.servers[0].wait();
    let used = {
        let mut status = servers.network.limited_command(1, &minik8s_tests::binary());
        let status =
            run(status.args(["status", "-o", "json", "--data-dir"]).arg(agent.data_dir()), "").json();
        status["api"]["url"].as_str().expect("a URL").to_string()
    };
    let stopped = servers.servers.iter().position(|server| server.url() == used).expect("one of the servers");
    servers.servers[stopped].pause(true);
    let began = Instant::now();
    run_pod(&servers.servers[(stopped + 1) % 3], &agent, "elsewhere");
    eprintln!("a pod ran {:?} after the server stopped", began.elapsed());
    let node = servers.servers[(stopped + 1) % 3].kubectl(&["get", "node", "node", "-o", READY], "");
    assert_eq!(node.ok(), "True");
    servers.servers[stopped].pause(false);
    agent.remove_from(&servers.network);
}
