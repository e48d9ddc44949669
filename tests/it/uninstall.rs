//! After `minik8s uninstall` the machine is as before, whatever happened in between.

use std::fs;
use std::process::{Child, Command, Stdio};

use minik8s_tests::{Cluster, Options, Traces, eventually, run};

/// Starts a node with pods of all sorts, ends the server as told, uninstalls, and compares.
fn leaves_nothing(end: impl FnOnce(&mut Cluster)) {
    let mut cluster = Cluster::prepare(Options { node: true, flags: Vec::new() });
    let before = Traces::take(&cluster.network);
    cluster.start();
    cluster.wait_until_ready();
    cluster.kubectl(&["create", "deployment", "web", "--image=busybox:test", "--replicas=2"]).ok();
    let hosted = "apiVersion: v1\nkind: Pod\nmetadata: {name: hosted}\nspec:\n  containers:\n  - name: a\n    image: busybox:test\n    \
                  ports: [{containerPort: 80, hostPort: 8099}]\n";
    cluster.kubectl_with(&["apply", "-f", "-"], hosted).ok();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).ok();
    cluster.wait_for_pod("hosted");
    let data = cluster.data_dir();
    let marks = cluster.marks();
    assert!(marks.len() > 5, "sandboxes and containers are known: {marks:?}");
    let during = Traces::take(&cluster.network);
    assert!(!during.beyond(&before, &marks).is_empty(), "the picture sees a running instance");

    end(&mut cluster);
    let said = cluster.uninstall().ok();
    assert!(said.contains("is removed"), "{said}");
    assert!(said.contains("containerd"), "distribution packages are listed: {said}");
    // Shims' and namespaces' last traces go with their processes.
    eventually("nothing is left", std::time::Duration::from_secs(20), || {
        let left = Traces::take(&cluster.network).beyond(&before, &marks);
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
    assert!(!fs::exists(&data).unwrap());
    let again = cluster.uninstall().ok();
    assert!(again.contains("is removed"), "{again}");
}

#[test]
fn a_running_instance_is_stopped_and_removed() {
    leaves_nothing(|_| {});
}

#[test]
fn a_killed_instance_is_found_and_removed() {
    leaves_nothing(Cluster::kill);
}

/// A containerd and a shim of another machine, as far as their command lines tell: in a mount namespace with
/// directories of its own at this instance's paths.
struct OtherMachine([Child; 2]);

impl OtherMachine {
    fn beside(cluster: &Cluster) -> Self {
        let data = cluster.data_dir();
        let config = data.join("agent/containerd/config-0123456789ab.toml");
        let run_dir = format!("/run/minik8s-{}", cluster.instance_suffix());
        let script = format!(
            "mount -t tmpfs tmpfs {data} && mount -t tmpfs tmpfs /run && mkdir -p {data}/agent/containerd {run_dir} && \
             exec -a \"$0\" bash -c 'echo ready; read line' \"$0\" \"$@\"",
            data = data.display()
        );
        let start = |arguments: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "bash", "-c", &script]).args(arguments);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut said = String::new();
            let stdout = child.stdout.as_mut().unwrap();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut said).unwrap();
            assert_eq!(said, "ready\n");
            child
        };
        let socket = format!("{run_dir}/containerd.sock");
        OtherMachine([
            start(&["/usr/bin/containerd", "--config", config.to_str().unwrap()]),
            start(&[
                "/usr/bin/containerd-shim-runc-v2",
                "-namespace",
                "k8s.io",
                "-id",
                "x",
                "-address",
                &socket,
            ]),
        ])
    }

    #[track_caller]
    fn assert_alive(&mut self) {
        for child in &mut self.0 {
            assert_eq!(child.try_wait().unwrap(), None, "a process of another machine was ended");
        }
    }
}

impl Drop for OtherMachine {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn processes_of_a_machine_in_a_container_are_left_alone() {
    let mut cluster = Cluster::prepare(Options { node: true, flags: Vec::new() });
    let mut other = OtherMachine::beside(&cluster);
    cluster.start();
    cluster.wait_until_ready();
    other.assert_alive();
    cluster.kill();
    cluster.start();
    cluster.wait_until_ready();
    other.assert_alive();
    cluster.uninstall().ok();
    other.assert_alive();
}

#[test]
fn a_second_node_in_a_network_namespace_is_refused_and_takes_nothing_from_the_first() {
    let cluster = Cluster::with_node();
    let other = cluster.folder().join("other");
    let server = |more: &[&str]| {
        let mut command = cluster.minik8s(&["server", "--https-listen-port", "0", "--kubelet-port", "0"]);
        command.arg("--data-dir").arg(&other).args(more);
        command
    };
    let refused = run(&mut server(&[]), "").failed();
    assert!(refused.contains(cluster.data_dir().to_str().unwrap()), "{refused}");
    assert!(refused.contains("--disable-agent"), "{refused}");

    // One that has had the same address: from before there was the claim, or from before a reboot.
    let network = other.join("agent/network");
    fs::create_dir_all(&network).unwrap();
    fs::write(network.join("dns-addresses"), "10.43.0.10\n").unwrap();
    run(cluster.minik8s(&["uninstall", "--data-dir"]).arg(&other), "").ok();
    let addresses =
        || run(cluster.network.command(0, "ip".as_ref()).args(["address", "show", "lo"]), "").ok();
    assert!(addresses().contains("10.43.0.10"), "{}", addresses());
    let forwards = run(cluster.network.command(0, "sysctl".as_ref()).arg("net.ipv4.ip_forward"), "").ok();
    assert!(forwards.contains("= 1"), "{forwards}");

    // Whoever takes it away, it comes back.
    cluster.network.ip(0, &["address", "delete", "10.43.0.10/32", "dev", "lo"]);
    eventually("the address is back", std::time::Duration::from_secs(10), || {
        let said = addresses();
        if said.contains("10.43.0.10") { Ok(()) } else { Err(said) }
    });
    eventually("an event tells", std::time::Duration::from_secs(10), || {
        let events = cluster.kubectl(&["get", "events", "-A"]);
        if events.stdout.contains("ClusterDNSAddressRestored") { Ok(()) } else { Err(events.to_string()) }
    });
}
