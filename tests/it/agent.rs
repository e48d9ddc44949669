//! A second node, in a namespace of its own: the same components, over the network.

use std::time::Duration;

use minik8s_tests::{Agent, Cluster, Options, eventually, run};

fn pod_on(node: &str, name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         nodeSelector: {{kubernetes.io/hostname: {node}}}\n  containers:\n  - {{name: a, image: 'busybox:test'}}\n"
    )
}

#[test]
fn a_machine_joins_runs_pods_and_survives_a_restart() {
    let mut cluster = Cluster::prepare(Options { node: true, flags: Vec::new() });
    // As docker leaves its machines: what is forwarded is dropped unless a rule says otherwise.
    for end in 0..2 {
        run(cluster.network.command(end, "iptables".as_ref()).args(["-P", "FORWARD", "DROP"]), "").ok();
    }
    cluster.start();
    cluster.wait_until_ready();
    let mut agent = Agent::start(&cluster, "two");
    eventually("the agent's node is Ready", Duration::from_secs(60), || {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        let outcome = cluster.kubectl(&["get", "node", "two", "-o", path]);
        if outcome.stdout == "True" { Ok(()) } else { Err(format!("{outcome}\n{}", agent.log())) }
    });
    for (node, name) in [("one", "here"), ("two", "there")] {
        cluster.kubectl_with(&["apply", "-f", "-"], &pod_on(node, name)).ok();
    }
    cluster.wait_for_pod("here");
    eventually("the pod on the other node is Ready", Duration::from_secs(60), || {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        let outcome = cluster.kubectl(&["get", "pod", "there", "-o", path]);
        if outcome.stdout == "True" { Ok(()) } else { Err(format!("{outcome}\n{}", agent.log())) }
    });
    let address = |name: &str| cluster.kubectl(&["get", "pod", name, "-o", "jsonpath={.status.podIP}"]).ok();
    let there = address("there");
    assert!(address("here").starts_with("10.42.0.") && there.starts_with("10.42."), "{there}");

    // From a pod on the first node to the pod on the second: both bridges and the routes between the nodes.
    let client = pod_on("one", "client").replace(
        "image: 'busybox:test'",
        &format!("image: 'busybox:test', command: [timeout, '10', wget, -q, -O, '-', 'http://{there}/']"),
    );
    cluster
        .kubectl_with(
            &["apply", "-f", "-"],
            &client.replace("spec:\n", "spec:\n  restartPolicy: OnFailure\n"),
        )
        .ok();
    cluster.wait_for("pod", "client", "{.status.phase}", "Succeeded");
    assert_eq!(cluster.kubectl(&["logs", "client"]).ok(), "hello from busybox\n");

    // Logs of the other node's pod come through the API server, over TLS.
    eventually("logs of the other node", Duration::from_secs(30), || {
        let outcome = cluster.kubectl(&["logs", "there"]);
        if outcome.success { Ok(()) } else { Err(format!("{outcome}\n{}", agent.log())) }
    });

    let before = cluster
        .kubectl(&["get", "pod", "there", "-o", "jsonpath={.status.containerStatuses[0].containerID}"])
        .ok();
    agent.kill();
    let url = format!("http://{there}/");
    let fetched = run(cluster.network.command(0, "curl".as_ref()).args(["-sS", "-m", "5", &url]), "").ok();
    assert_eq!(fetched, "hello from busybox\n", "the pod outlives its agent");
    agent.restart(&cluster);
    eventually("the agent works again", Duration::from_secs(60), || {
        let outcome = cluster.kubectl_with(&["apply", "-f", "-"], &pod_on("two", "later"));
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        let ready = cluster.kubectl(&["get", "pod", "later", "-o", path]);
        if ready.stdout == "True" { Ok(()) } else { Err(format!("{outcome}{ready}\n{}", agent.log())) }
    });
    let after = cluster
        .kubectl(&["get", "pod", "there", "-o", "jsonpath={.status.containerStatuses[0].containerID}"])
        .ok();
    assert_eq!(before, after);
    cluster.kubectl(&["delete", "pod", "there", "later", "--timeout=60s"]).ok();
    let filter = || run(cluster.network.command(1, "iptables-save".as_ref()).args(["-t", "filter"]), "").ok();
    assert!(filter().contains("minik8s"), "a chain of ours lets the pods through: {}", filter());
    agent.remove(&cluster);
    let left = filter();
    assert!(left.contains(":FORWARD DROP") && !left.contains("minik8s"), "{left}");
}

#[test]
fn a_node_whose_object_is_gone_registers_again() {
    let cluster = Cluster::with_node();
    let uid = || cluster.kubectl(&["get", "node", "one", "-o", "jsonpath={.metadata.uid}"]).stdout;
    let before = uid();
    // As after the restore of a snapshot from before the node has joined.
    cluster.kubectl(&["delete", "node", "one", "--wait=false"]).ok();
    eventually("the node is there again", Duration::from_secs(20), || {
        let now = uid();
        if !now.is_empty() && now != before { Ok(()) } else { Err(now) }
    });
    cluster.wait_until_ready();
    eventually("its lease is owned by the new object", Duration::from_secs(60), || {
        let path = "jsonpath={.metadata.ownerReferences[0].uid}";
        let owner = cluster.kubectl(&["get", "lease", "one", "-n", "kube-node-lease", "-o", path]).stdout;
        if owner == uid() { Ok(()) } else { Err(owner) }
    });
}
