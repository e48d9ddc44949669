//! Servers come and go; pods stay, and what was acknowledged is there.

use std::time::Duration;

use minik8s_tests::{Cluster, eventually, run};
use serde_json::Value;

fn container_id(cluster: &Cluster, pod: &str) -> String {
    let path =
        "jsonpath={.status.containerStatuses[0].containerID}/{.status.containerStatuses[0].restartCount}";
    cluster.kubectl(&["get", "pod", pod, "-o", path]).ok()
}

fn containerd(cluster: &Cluster) -> String {
    let pattern = format!("containerd --config {}", cluster.data_dir().display());
    run(std::process::Command::new("pgrep").args(["-f", &pattern]), "").stdout
}

#[test]
fn pods_run_on_through_stop_and_kill_and_are_adopted() {
    let mut cluster = Cluster::with_node();
    cluster.kubectl(&["run", "stays", "--image=busybox:test"]).ok();
    cluster.wait_for_pod("stays");
    let before = container_id(&cluster, "stays");
    let address = cluster.kubectl(&["get", "pod", "stays", "-o", "jsonpath={.status.podIP}"]).ok();
    let fetch = |cluster: &Cluster| {
        let url = format!("http://{address}/");
        run(cluster.network.command(0, "curl".as_ref()).args(["-sS", "-m", "5", &url]), "").ok()
    };
    assert_eq!(fetch(&cluster), "hello from busybox\n");

    cluster.stop();
    assert_eq!(containerd(&cluster), "", "containerd stops with the server");
    assert_eq!(fetch(&cluster), "hello from busybox\n", "the pod does not");
    cluster.start();
    cluster.wait_until_ready();
    assert_eq!(container_id(&cluster, "stays"), before);

    let first = containerd(&cluster);
    cluster.kill();
    assert_eq!(containerd(&cluster), first, "containerd outlives a killed server");
    assert_eq!(fetch(&cluster), "hello from busybox\n");
    cluster.start();
    cluster.wait_until_ready();
    assert_eq!(containerd(&cluster), first, "and is adopted");
    cluster.wait_for_pod("stays");
    assert_eq!(container_id(&cluster, "stays"), before);
    cluster.kubectl(&["delete", "pod", "stays", "--timeout=60s"]).ok();
}

#[test]
fn what_was_acknowledged_survives_kills() {
    let mut cluster = Cluster::control_plane();
    for round in 0..5 {
        let names: Vec<String> = (0..10).map(|index| format!("round-{round}-{index}")).collect();
        for name in &names {
            cluster.kubectl(&["create", "configmap", name, "--from-literal=a=b"]).ok();
        }
        cluster.kill();
        cluster.start();
        let found = cluster.kubectl(&["get", "configmaps", "-o", "name"]).ok();
        for name in &names {
            assert!(found.contains(&format!("configmap/{name}\n")), "{name} is lost: {found}");
        }
    }
}

#[test]
fn a_container_that_dies_while_the_server_is_down_is_started_again() {
    let mut cluster = Cluster::with_node();
    cluster.kubectl(&["run", "dies", "--image=busybox:test", "--", "sleep", "12345"]).ok();
    cluster.wait_for_pod("dies");
    cluster.stop();
    // The only process of that command line in the pod.
    run(std::process::Command::new("pkill").args(["-9", "-f", "-x", "sleep 12345"]), "").ok();
    cluster.start();
    eventually("it is restarted", Duration::from_secs(60), || {
        let path = "jsonpath={.status.containerStatuses[0].restartCount}";
        let outcome = cluster.kubectl(&["get", "pod", "dies", "-o", path]);
        if outcome.stdout == "1" { Ok(()) } else { Err(format!("{outcome}\n{}", cluster.log())) }
    });
    cluster.wait_for_pod("dies");
}

#[test]
fn a_reboot_brings_the_pods_back() {
    pods_come_back_after(Cluster::forget_as_a_reboot_does);
}

#[test]
fn a_power_cut_brings_the_pods_back() {
    pods_come_back_after(Cluster::forget_as_a_power_cut_does);
}

fn pods_come_back_after(what_happens: impl Fn(&mut Cluster)) {
    let mut cluster = Cluster::with_node();
    cluster.kubectl(&["create", "deployment", "web", "--image=busybox:test", "--replicas=2"]).ok();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).ok();
    cluster.kill();
    what_happens(&mut cluster);
    cluster.start();
    cluster.wait_until_ready();
    eventually("the pods run again", Duration::from_secs(90), || {
        let outcome = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "json"]);
        let pods = outcome.clone().json();
        let running = pods["items"].as_array().unwrap().iter().filter(|pod| {
            let status = &pod["status"]["containerStatuses"][0];
            status["ready"] == true && status["restartCount"].as_u64() > Some(0)
        });
        if running.count() == 2 { Ok(()) } else { Err(format!("{outcome}\n{}", cluster.log())) }
    });
}

/// A Lease's spec; the holder is the server's kept identity.
fn lease(cluster: &Cluster, name: &str) -> Value {
    cluster.kubectl(&["get", "lease", "-n", "kube-system", name, "-o", "jsonpath={.spec}"]).json()
}

#[test]
fn a_server_leads_at_once_and_takes_its_own_leases_back_after_a_kill() {
    const LEASES: [&str; 2] = ["kube-scheduler", "kube-controller-manager"];
    let mut cluster = Cluster::control_plane();
    let holders = |cluster: &Cluster, transitions: u64| {
        eventually("both leases are held", Duration::from_secs(10), || {
            let table = cluster.kubectl(&["get", "lease", "-n", "kube-system"]);
            let held = LEASES.map(|name| lease(cluster, name));
            let right = |spec: &Value| {
                spec["holderIdentity"]
                    .as_str()
                    .is_some_and(|holder| table.stdout.contains(holder) && !holder.is_empty())
                    && spec["leaseDurationSeconds"] == 15
                    && spec["leaseTransitions"] == transitions
            };
            if held.iter().all(right) {
                Ok(held.map(|spec| spec["holderIdentity"].clone()))
            } else {
                Err(table.stdout)
            }
        })
    };
    // Loops work: a namespace gets its service account, a pod is told why it has no node.
    let loops_work = |cluster: &Cluster, namespace: &str| {
        cluster.kubectl(&["create", "namespace", namespace]).ok();
        eventually("the controllers work", Duration::from_secs(8), || {
            let account = cluster.kubectl(&["get", "serviceaccount", "default", "-n", namespace]);
            if account.success { Ok(()) } else { Err(account.stderr) }
        });
        cluster.kubectl(&["run", "p", "--image=x", "-n", namespace]).ok();
        eventually("the scheduler works", Duration::from_secs(8), || {
            let path = "jsonpath={.status.conditions[0].message}";
            let told = cluster.kubectl(&["get", "pod", "p", "-n", namespace, "-o", path]).stdout;
            if told == "no nodes available to schedule pods" { Ok(()) } else { Err(told) }
        });
    };
    let first = holders(&cluster, 0);
    assert_eq!(first[0], first[1], "one identity for both");
    loops_work(&cluster, "one");

    // Nobody waits for the fifteen seconds that the leases would be good for.
    cluster.kill();
    cluster.start();
    loops_work(&cluster, "two");
    assert_eq!(holders(&cluster, 0), first);

    cluster.stop();
    cluster.start();
    loops_work(&cluster, "three");
    assert_eq!(holders(&cluster, 1), first, "it had let go of them");
    assert!(cluster.log().contains("the lease is released"), "{}", cluster.log());
}

/// The shims of a cluster's first node.
fn shims(cluster: &Cluster) -> Vec<String> {
    let pattern = format!("containerd-shim.*-address /run/minik8s-{}/", cluster.instance_suffix());
    let found = run(std::process::Command::new("pgrep").args(["-f", &pattern]), "").stdout;
    found.lines().map(str::to_string).collect()
}

/// Pods outlive the records of them: they must not keep their addresses when these are given out anew.
fn pods_end_whose_records_are_gone(end: impl Fn(&mut Cluster)) {
    let mut cluster = Cluster::with_node();
    let exposed = "apiVersion: v1\nkind: Pod\nmetadata: {name: old}\nspec:\n  containers:\n  - name: a\n    \
                   image: busybox:test\n    ports: [{containerPort: 80, hostPort: 8097}]\n";
    cluster.kubectl_with(&["apply", "-f", "-"], exposed).ok();
    cluster.wait_for_pod("old");
    let old = shims(&cluster);
    assert_eq!(old.len(), 1, "{old:?}");
    end(&mut cluster);
    assert_eq!(shims(&cluster), old, "the pod does not end with the server");

    let data = cluster.data_dir();
    let moved = data.with_extension("moved");
    std::fs::rename(&data, &moved).unwrap();
    std::fs::create_dir_all(data.join("agent")).unwrap();
    run(
        std::process::Command::new("cp").arg("-a").arg(moved.join("agent/images")).arg(data.join("agent")),
        "",
    )
    .ok();
    cluster.start();
    cluster.wait_until_ready();
    assert_eq!(shims(&cluster), Vec::<String>::new(), "{}", cluster.log());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(moved.to_str().unwrap()), "{mounts}");
    let rules = run(cluster.network.command(0, "iptables-save".as_ref()).args(["-t", "nat"]), "").ok();
    assert!(!rules.contains("8097"), "{rules}");

    cluster.kubectl(&["run", "new", "--image=busybox:test"]).ok();
    cluster.wait_for_pod("new");
    assert_eq!(shims(&cluster).len(), 1);
}

#[test]
fn pods_of_a_data_directory_that_was_moved_away_end() {
    pods_end_whose_records_are_gone(Cluster::stop);
}

#[test]
fn pods_of_a_data_directory_that_was_moved_away_under_a_living_containerd_end() {
    pods_end_whose_records_are_gone(Cluster::kill);
}
