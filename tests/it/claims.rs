//! Addresses and ranges of services as objects, through a real kubectl, and what a crash leaves of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use minik8s_tests::{Cluster, eventually, kubectls};
use serde_json::Value;

fn service(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{clusterIP: {address}, ports: [{{port: 80}}]}}\n"
    )
}

/// The columns of each line.
fn table(printed: &str) -> Vec<Vec<&str>> {
    printed.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn addresses_and_ranges_are_shown_as_upstream_does() {
    let cluster = Cluster::control_plane();
    cluster.kubectl_with(&["create", "-f", "-"], &service("web", "10.43.7.7")).ok();
    for program in kubectls() {
        let get = |arguments: &[&str]| cluster.kubectl_of(&program, arguments, "").ok();
        let printed = get(&["get", "ip"]);
        let lines = table(&printed);
        assert_eq!(lines[0], ["NAME", "PARENTREF"], "{printed}");
        assert!(lines.contains(&vec!["10.43.0.1", "services/default/kubernetes"]), "{printed}");
        assert!(lines.contains(&vec!["10.43.7.7", "services/default/web"]), "{printed}");
        let printed = get(&["get", "ipaddresses,servicecidrs"]);
        assert!(printed.contains("ipaddress.networking.k8s.io/10.43.7.7"), "{printed}");
        let lines = table(&printed);
        assert!(lines.contains(&vec!["NAME", "CIDRS", "AGE"]), "{printed}");
        let range =
            lines.iter().find(|line| line[..] != [""; 0] && line[0].ends_with("/kubernetes")).unwrap();
        assert_eq!(range[..2], ["servicecidr.networking.k8s.io/kubernetes", "10.43.0.0/16"], "{printed}");
    }
    let own = cluster.own_kubectl(&["get", "ip,servicecidr"]).ok();
    assert!(own.contains("services/default/web") && own.contains("10.43.0.0/16"), "{own}");
    let described = cluster.own_kubectl(&["describe", "ip", "10.43.7.7"]).ok();
    assert!(described.contains("10.43.7.7"), "{described}");
    let taken = cluster.kubectl_with(&["create", "-f", "-"], &service("other", "10.43.7.7")).failed();
    assert!(
        taken.contains(
            "The Service \"other\" is invalid: spec.clusterIPs: Invalid value: [\"10.43.7.7\"]: \
             failed to allocate IP 10.43.7.7: provided IP is already allocated"
        ),
        "{taken}"
    );
    cluster.kubectl(&["delete", "service", "web"]).ok();
    cluster.kubectl(&["get", "ip", "10.43.7.7"]).failed();
}

/// Each verb on both kinds.
#[test]
fn addresses_and_ranges_are_created_watched_patched_and_deleted() {
    let cluster = Cluster::control_plane();
    let objects = [
        ("ipaddress", "10.50.0.9", "spec: {parentRef: {group: example.com, resource: gateways, name: g}}"),
        ("servicecidr", "more", "spec: {cidrs: [10.44.0.0/28]}"),
    ];
    for (kind, name, spec) in objects {
        let upstream = if kind == "ipaddress" { "IPAddress" } else { "ServiceCIDR" };
        let body = format!(
            "apiVersion: networking.k8s.io/v1\nkind: {upstream}\nmetadata: {{name: {name}}}\n{spec}\n"
        );
        cluster.kubectl_with(&["create", "-f", "-"], &body).ok();
        let mut watch = cluster.command(&kubectls().pop().expect("a kubectl"));
        let form = "jsonpath={.type} {.object.metadata.name}{\"\\n\"}";
        watch.args(["get", kind, "--watch", "--output-watch-events", "-o", form]);
        watch.env("HOME", cluster.folder()).env("KUBECONFIG", cluster.kubeconfig());
        let mut watch = watch.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let mut told = BufReader::new(watch.stdout.take().unwrap()).lines();
        let mut until = |event: String| while told.next().expect("a line").unwrap() != event {};
        until(format!("ADDED {name}"));
        cluster.kubectl(&["label", kind, name, "a=b"]).ok();
        let labelled = cluster.kubectl(&["get", kind, "-l", "a=b", "-o", "name"]).ok();
        assert_eq!(labelled, format!("{kind}.networking.k8s.io/{name}\n"));
        let fixed = match kind {
            "ipaddress" => r#"{"spec":{"parentRef":{"name":"other"}}}"#,
            _ => r#"{"spec":{"cidrs":["10.45.0.0/28"]}}"#,
        };
        let refused = cluster.kubectl(&["patch", kind, name, "--type=merge", "-p", fixed]).failed();
        assert!(refused.contains("field is immutable"), "{refused}");
        cluster.kubectl(&["delete", kind, name]).ok();
        cluster.kubectl(&["get", kind, name]).failed();
        until(format!("MODIFIED {name}"));
        until(format!("DELETED {name}"));
        watch.kill().unwrap();
        watch.wait().unwrap();
    }
}

#[test]
fn a_range_stays_until_no_service_depends_on_it() {
    let cluster = Cluster::control_plane();
    cluster.kubectl(&["wait", "--for=condition=Ready", "servicecidr/kubernetes", "--timeout=60s"]).ok();
    let range = "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: more}\n\
                 spec: {cidrs: [10.44.0.0/28]}\n";
    cluster.kubectl_with(&["create", "-f", "-"], range).ok();
    cluster.kubectl(&["wait", "--for=condition=Ready", "servicecidr/more", "--timeout=60s"]).ok();
    cluster.wait_for(
        "servicecidr",
        "more",
        "{.metadata.finalizers[0]}",
        "networking.k8s.io/service-cidr-finalizer",
    );
    cluster.kubectl_with(&["create", "-f", "-"], &service("last", "10.44.0.5")).ok();
    cluster.kubectl(&["delete", "servicecidr", "more", "--wait=false"]).ok();
    let ready = |field: &str| format!("{{.status.conditions[?(@.type==\"Ready\")].{field}}}");
    cluster.wait_for("servicecidr", "more", &ready("reason"), "Terminating");
    cluster.wait_for("servicecidr", "more", &ready("status"), "False");
    cluster.wait_for(
        "servicecidr",
        "more",
        &ready("message"),
        "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
    );
    let refused = cluster.kubectl_with(&["create", "-f", "-"], &service("late", "10.44.0.6")).failed();
    assert!(
        refused.contains(
            "failed to allocate IP 10.44.0.6: the provided network does not match the current range"
        ),
        "{refused}"
    );
    cluster.kubectl(&["delete", "service", "last"]).ok();
    cluster.kubectl(&["wait", "--for=delete", "servicecidr/more", "--timeout=60s"]).ok();
}

/// Every cluster IP of a service with its name, and every address with that of its service.
fn both_sides(cluster: &Cluster) -> [BTreeMap<String, String>; 2] {
    let list = |kind: &str| cluster.kubectl(&["get", kind, "-A", "-o", "json"]).json();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let items = |list: Value| list["items"].as_array().unwrap().clone();
    let services = items(list("services")).into_iter();
    let addresses = items(list("ipaddresses")).into_iter();
    [
        services.map(|one| (text(&one["spec"]["clusterIP"]), text(&one["metadata"]["name"]))).collect(),
        addresses
            .map(|one| (text(&one["metadata"]["name"]), text(&one["spec"]["parentRef"]["name"])))
            .collect(),
    ]
}

#[test]
fn a_killed_server_leaves_no_service_without_its_address_and_no_address_without_its_service() {
    const COUNT: usize = 2000;
    let mut cluster = Cluster::control_plane();
    let mut list = String::new();
    for number in 0..COUNT {
        write!(
            list,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\n\
             spec: {{type: NodePort, ports: [{{port: 80}}]}}\n---\n"
        )
        .unwrap();
    }
    let file = cluster.folder().join("services.yaml");
    fs::write(&file, list).unwrap();
    let mut create = cluster.command(&kubectls().pop().expect("a kubectl"));
    create.args(["create", "--validate=false", "-f"]).arg(&file);
    create.env("HOME", cluster.folder()).env("KUBECONFIG", cluster.kubeconfig());
    let log = File::create(cluster.folder().join("create.log")).unwrap();
    create.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut create = create.spawn().unwrap();
    eventually("some services are there", Duration::from_secs(60), || {
        let there = cluster.kubectl(&["get", "services", "-o", "name"]).ok().lines().count();
        if there > 50 { Ok(()) } else { Err(format!("{there}")) }
    });
    cluster.kill();
    create.kill().unwrap();
    create.wait().unwrap();
    cluster.start();
    let [services, addresses] = both_sides(&cluster);
    assert!((50..COUNT).contains(&services.len()), "{}: the server was not killed midway", services.len());
    assert_eq!(services, addresses);
    // Nothing had to be repaired.
    let events = cluster.kubectl(&["get", "events", "-A", "-o", "jsonpath={.items[*].reason}"]).ok();
    let reasons: BTreeSet<&str> = events.split_whitespace().collect();
    let repairs =
        ["ClusterIPNotAllocated", "PortNotAllocated", "IPAddressNotAllocated", "IPAddressWrongReference"];
    assert!(repairs.iter().all(|reason| !reasons.contains(reason)), "{events}");
    let ports =
        cluster.kubectl(&["get", "services", "-o", "jsonpath={.items[*].spec.ports[*].nodePort}"]).ok();
    let ports: Vec<&str> = ports.split_whitespace().collect();
    assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len(), "a port is there twice");
}

#[test]
fn an_address_that_somebody_deletes_comes_back() {
    let cluster = Cluster::control_plane();
    cluster.kubectl_with(&["create", "-f", "-"], &service("web", "10.43.7.7")).ok();
    cluster.kubectl(&["delete", "ip", "10.43.7.7"]).ok();
    cluster.wait_for("ip", "10.43.7.7", "{.spec.parentRef.name}", "web");
    let path = "{.items[?(@.reason==\"ClusterIPNotAllocated\")].message}";
    eventually("it is told", Duration::from_secs(60), || {
        let told = cluster.kubectl(&["get", "events", "-o", &format!("jsonpath={path}")]).ok();
        let wanted = "Cluster IP [IPv4]: 10.43.7.7 is not allocated; repairing";
        if told == wanted { Ok(()) } else { Err(told) }
    });
}

/// Each node has a range of its own, given by the controller, and none can have another's.
#[test]
fn nodes_have_ranges_that_do_not_overlap() {
    let cluster = Cluster::control_plane();
    let node = |name: &str, spec: &str| {
        let body = format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n{spec}");
        cluster.kubectl_with(&["create", "-f", "-"], &body)
    };
    node("wide", "spec: {podCIDR: 10.42.0.0/22}").ok();
    let refused = node("narrow", "spec: {podCIDR: 10.42.3.0/24}").failed();
    assert!(
        refused
            .contains("spec.podCIDRs[0]: Invalid value: \"10.42.3.0/24\": overlaps a range of node \"wide\""),
        "{refused}"
    );
    for number in 0..8 {
        node(&format!("n{number}"), "").ok();
    }
    let ranges = eventually("each node has a range", Duration::from_secs(60), || {
        let printed = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].spec.podCIDR}"]).ok();
        let ranges: BTreeSet<String> = printed.split_whitespace().map(str::to_string).collect();
        if ranges.len() == 9 { Ok(ranges) } else { Err(printed) }
    });
    let within = (0..4).map(|part| format!("10.42.{part}.0/24")).filter(|range| ranges.contains(range));
    assert_eq!(within.count(), 0, "{ranges:?}");
    cluster.kubectl(&["delete", "node", "wide"]).ok();
    node("narrow", "spec: {podCIDR: 10.42.3.0/24}").ok();
}
