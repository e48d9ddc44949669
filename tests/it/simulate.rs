//! `minik8s simulate`: nodes without containers that the rest of the cluster cannot tell from others.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use minik8s_tests::{Cluster, binary, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running `minik8s simulate`; stopped when dropped.
struct Simulation(Child);

impl Simulation {
    fn start(cluster: &Cluster, arguments: &[&str]) -> Self {
        let mut command: Command = cluster.command(&binary());
        let log = std::fs::File::create(cluster.folder().join("simulate.log")).unwrap();
        command.arg("simulate").args(arguments).stdout(Stdio::null()).stderr(log);
        Simulation(command.spawn().unwrap())
    }

    /// Asks it to stop, and how it ended.
    fn stop(&mut self) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for_nodes(cluster: &Cluster, count: usize) {
    eventually("the nodes are Ready", Duration::from_secs(60), || {
        let outcome = cluster.kubectl(&["get", "nodes", "-l", "minik8s.io/simulated=true", "--no-headers"]);
        let ready = outcome.stdout.lines().filter(|line| line.contains(" Ready ")).count();
        let log = || std::fs::read_to_string(cluster.folder().join("simulate.log")).unwrap_or_default();
        if ready == count { Ok(()) } else { Err(format!("{outcome}\n{}", log())) }
    });
}

#[test]
fn hollow_nodes_run_pods_by_their_script() {
    let cluster = Cluster::control_plane();
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let more = ["--nodes", "3", "--pods-ready-after", "300ms", "--kubeconfig", &kubeconfig];
    let mut simulation = Simulation::start(&cluster, &more);
    wait_for_nodes(&cluster, 3);
    let lease = cluster.kubectl(&["-n", "kube-node-lease", "get", "lease", "hollow-2"]).ok();
    assert!(lease.contains("hollow-2"), "{lease}");

    cluster.kubectl(&["create", "deployment", "web", "--image=nowhere.invalid/web:1", "--replicas=9"]).ok();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).ok();
    let pods = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "json"]).json();
    let nodes: std::collections::BTreeSet<&str> = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| pod["spec"]["nodeName"].as_str().unwrap())
        .collect();
    assert_eq!(nodes.len(), 3, "they are spread: {nodes:?}");
    for pod in pods["items"].as_array().unwrap() {
        let time = |kind: &str| {
            let conditions = pod["status"]["conditions"].as_array().unwrap();
            let found = conditions.iter().find(|one| one["type"] == kind).unwrap();
            found["lastTransitionTime"].as_str().unwrap().to_string()
        };
        assert!(time("Ready") >= time("PodScheduled"), "{pod}");
        assert!(pod["status"]["podIP"].as_str().unwrap().starts_with("100.64."), "{pod}");
    }

    // Pods that end by themselves, as their annotations say.
    for (name, code, phase) in [("well", "0", "Succeeded"), ("ill", "3", "Failed")] {
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  annotations: {{simulate.minik8s.io/exit-after: 200ms, \
             simulate.minik8s.io/exit-code: '{code}'}}\nspec:\n  restartPolicy: Never\n  containers:\n  \
             - {{name: a, image: 'nowhere.invalid/sum:1'}}\n"
        );
        cluster.kubectl_with(&["apply", "-f", "-"], &pod).ok();
        cluster.wait_for("pod", name, "{.status.phase}", phase);
    }

    // Deleting goes the whole way through the kubelet.
    cluster.kubectl(&["delete", "deployment", "web"]).ok();
    cluster.wait_for_none("pods", "app=web");
    assert_eq!(simulation.stop(), Some(0));
}

#[test]
fn hollow_nodes_join_by_token_as_agents_do() {
    let cluster = Cluster::control_plane();
    let token = std::fs::read_to_string(cluster.data_dir().join("server/agent-token")).unwrap();
    let config = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let server = config.lines().find_map(|line| line.trim().strip_prefix("server: ")).unwrap().to_string();
    let data = cluster.folder().join("hollow").display().to_string();
    let more = ["--nodes", "2", "--server", &server, "--token", token.trim(), "--data-dir", &data];
    let mut simulation = Simulation::start(&cluster, &more);
    wait_for_nodes(&cluster, 2);
    assert_eq!(simulation.stop(), Some(0));
    // What is wrong for good is said, and ends it.
    let elsewhere = cluster.folder().join("elsewhere").display().to_string();
    let more =
        ["--nodes", "1", "--server", &server, "--token", "wrong", "--data-dir", &elsewhere, "--log", "error"];
    let refused = minik8s_tests::run(cluster.command(&binary()).arg("simulate").args(more), "").failed();
    assert!(refused.starts_with("minik8s simulate: cannot join "), "{refused}");
}
