//! etcd's API of a group: `etcdctl` shows and changes the members, wherever it is asked.

use minik8s_tests::{CommandOutcome, eventually, run};

use super::machines::{LIMIT, Server, Servers};

fn etcdctl(server: &Server, arguments: &[&str]) -> CommandOutcome {
    let mut command = server.network.limited_command(server.end, "etcdctl".as_ref());
    let keys = server.data_dir().join("server/tls/etcd");
    command.env("ETCDCTL_API", "3").arg(format!("--endpoints=https://{}", server.etcd()));
    for (flag, name) in [("--cacert", "ca.crt"), ("--cert", "client.crt"), ("--key", "client.key")] {
        command.arg(flag).arg(keys.join(name));
    }
    run(command.args(arguments), "")
}

fn identity(server: &Server) -> String {
    let members = server.members();
    let own = members.iter().find(|member| member["own"] == true).expect("it is a member");
    own["id"].as_str().expect("an identity").trim_start_matches('0').to_string()
}

#[test]
fn etcdctl_shows_and_changes_the_members() {
    let mut servers = Servers::three();
    for server in &servers.servers {
        let listed = etcdctl(server, &["member", "list"]).ok();
        assert_eq!(listed.lines().count(), 3, "{listed}");
        for other in &servers.servers {
            let line = format!(
                "{}, started, {}, {}, https://{}, false",
                identity(other),
                other.name,
                other.url(),
                other.etcd()
            );
            assert!(listed.lines().any(|known| known == line), "{line} is missing:\n{listed}");
        }
    }
    let status = etcdctl(&servers.servers[1], &["endpoint", "status", "--cluster", "-w", "json"]).json();
    let status = status.as_array().expect("a list");
    assert_eq!(status.len(), 3, "{status:?}");
    let leader = |of: &serde_json::Value| of["Status"]["leader"].as_u64();
    assert!(
        status.iter().all(|one| leader(one).is_some() && leader(one) == leader(&status[0])),
        "{status:?}"
    );
    etcdctl(&servers.servers[0], &["endpoint", "health", "--cluster"]).ok();

    // A lease that is granted at one is kept alive at another.
    let granted = etcdctl(&servers.servers[0], &["lease", "grant", "60"]).ok();
    let lease = granted.split(' ').nth(1).expect("an identity").to_string();
    for server in &servers.servers {
        let kept = etcdctl(server, &["lease", "keep-alive", "--once", &lease]).ok();
        assert!(kept.contains("keepalived with TTL(60)"), "{kept}");
        let left = etcdctl(server, &["lease", "timetolive", &lease]).ok();
        assert!(left.contains("granted with TTL(60s), remaining("), "{left}");
    }

    // Another one leads: only who leads can hand over.
    let leads = servers.leader(0);
    let next = (leads + 1) % 3;
    let target = identity(&servers.servers[next]);
    let refused = etcdctl(&servers.servers[next], &["move-leader", &target]).failed();
    assert!(refused.contains("no leader endpoint given"), "{refused}");
    let moved = etcdctl(&servers.servers[leads], &["move-leader", &target]).ok();
    assert!(moved.contains("Leadership transferred"), "{moved}");
    assert_eq!(servers.leader(0), next);
    let unknown = etcdctl(&servers.servers[next], &["move-leader", "abc"]).failed();
    assert!(unknown.contains("member not found"), "{unknown}");

    let own = identity(&servers.servers[0]);
    let unknown = etcdctl(&servers.servers[0], &["member", "remove", "abc"]).failed();
    assert!(unknown.contains("member not found"), "{unknown}");
    let voter = etcdctl(&servers.servers[0], &["member", "promote", &own]).failed();
    assert!(voter.contains("can only promote a learner member"), "{voter}");
    for call in [
        &["member", "add", "x", "--peer-urls=http://127.0.0.1:1"][..],
        &["member", "update", &own, "--peer-urls=http://127.0.0.1:1"],
    ] {
        let refused = etcdctl(&servers.servers[0], call).failed();
        assert!(refused.contains("Unimplemented desc = "), "{refused}");
    }
    let gone = servers.servers.pop().expect("a server");
    let gone_id = identity(&gone);
    etcdctl(&servers.servers[0], &["member", "remove", &gone_id]).ok();
    eventually("two are left", LIMIT, || {
        let listed = etcdctl(&servers.servers[1], &["member", "list"]).stdout;
        if listed.lines().count() == 2 && !listed.contains(&gone_id) { Ok(()) } else { Err(listed) }
    });
}
