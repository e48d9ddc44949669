//! The machine's address changes while the server runs: its certificates, its node and its service follow.

use std::time::Duration;

use minik8s_tests::{Cluster, CommandOutcome, eventually, run};

const LIMIT: Duration = Duration::from_secs(30);

fn port(cluster: &Cluster) -> String {
    let server =
        cluster.kubectl(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"]).ok();
    server.rsplit(':').next().unwrap().to_string()
}

/// Asks the API at an address, with its certificate checked.
fn readyz(cluster: &Cluster, address: &str) -> CommandOutcome {
    let mut curl = cluster.network.command(0, "curl".as_ref());
    curl.args(["-s", "--show-error", "--max-time", "5", "--cacert"]);
    curl.arg(cluster.data_dir().join("server/tls/server-ca.crt"));
    run(curl.arg(format!("https://{address}:{}/readyz", port(cluster))), "")
}

fn wait_for_readyz(cluster: &Cluster, address: &str) {
    eventually("the certificate is for the new address", LIMIT, || {
        let outcome = readyz(cluster, address);
        if outcome.stdout == "ok" { Ok(()) } else { Err(format!("{outcome}\n{}", cluster.log())) }
    });
}

#[test]
fn certificates_node_and_service_follow_the_address() {
    let cluster = Cluster::with_node();
    readyz(&cluster, "192.168.77.1").ok();
    let pid = cluster.pid();

    // One more address: the API's certificate is for it too, the node stays where it is.
    cluster.network.ip(0, &["address", "add", "192.168.88.1/24", "dev", "eth0"]);
    wait_for_readyz(&cluster, "192.168.88.1");
    readyz(&cluster, "192.168.77.1").ok();
    cluster.wait_for("node", "one", "{.status.addresses[0].address}", "192.168.77.1");

    // Another network: the default route leads there, the old address is gone.
    cluster.network.ip(0, &["route", "replace", "default", "via", "192.168.88.2"]);
    cluster.network.ip(0, &["address", "delete", "192.168.77.1/24", "dev", "eth0"]);
    cluster.wait_for(
        "node",
        "one",
        r#"{.status.addresses[?(@.type=="InternalIP")].address}"#,
        "192.168.88.1",
    );
    cluster.wait_for("endpoints", "kubernetes", "{.subsets[0].addresses[0].ip}", "192.168.88.1");
    let serving = cluster.data_dir().join("agent/kubelet-serving.crt");
    eventually("the kubelet has a certificate for the new address", LIMIT, || {
        let mut openssl = std::process::Command::new("openssl");
        let text =
            run(openssl.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]).arg(&serving), "").ok();
        let follows = text.contains("192.168.88.1") && !text.contains("192.168.77.1");
        if follows { Ok(()) } else { Err(format!("{text}\n{}", cluster.log())) }
    });
    wait_for_readyz(&cluster, "192.168.88.1");

    // And it is still the same process, whose pods are reached.
    assert_eq!(cluster.pid(), pid);
    cluster.kubectl(&["run", "hello", "--image=busybox:test"]).ok();
    cluster.wait_for_pod("hello");
    cluster.wait_for("pod", "hello", "{.status.hostIP}", "192.168.88.1");
}
