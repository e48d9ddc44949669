//! After `minik8s uninstall` the machine is as before, whatever happened in between.

use std::fs;

use minik8s_tests::{Cluster, Options, Traces, eventually};

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
