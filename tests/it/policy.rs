//! Network policies with real packets: between pods, from the node, from outside, and to the node's DNS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use minik8s_tests::{Cluster, eventually, in_namespace, run};

/// A pod that answers on a port that has a name.
fn pod(name: &str, app: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {app}}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - name: web\n    image: busybox:test\n    \
         ports: [{{name: web, containerPort: 8080}}]\n    \
         command: [sh, -c, 'mkdir /www; echo {name} >/www/index.html; httpd -p 8081 -h /www; exec httpd -f -p 8080 -h /www']\n    \
         readinessProbe: {{httpGet: {{port: 8080, path: /index.html}}, periodSeconds: 1}}\n---\n"
    )
}

/// A connection, if one can be made soon.
fn connect(place: &Path, address: &str) -> Option<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    in_namespace(place, move || {
        let stream = TcpStream::connect_timeout(&address, Duration::from_millis(1500)).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
        Some(stream)
    })
}

fn reaches(place: &Path, address: &str) -> bool {
    connect(place, address).is_some()
}

#[track_caller]
fn becomes(what: &str, place: &Path, address: &str, wanted: bool) {
    eventually(what, Duration::from_secs(20), || match reaches(place, address) {
        found if found == wanted => Ok(()),
        found => Err(format!("{address} answers: {found}")),
    });
}

/// Whether the name service answers a question that it knows the answer of.
fn resolves(place: &Path, server: &str) -> bool {
    let server: SocketAddr = server.parse().unwrap();
    in_namespace(place, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
        let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01";
        socket.send_to(question, server).unwrap();
        let mut buffer = [0; 512];
        socket.recv(&mut buffer).is_ok_and(|length| length > question.len() && buffer[..2] == question[..2])
    })
}

fn apply(cluster: &Cluster, name: &str, spec: &str) {
    let policy = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    );
    cluster.kubectl_with(&["apply", "-f", "-"], &policy).ok();
}

fn remove(cluster: &Cluster, name: &str) {
    cluster.kubectl(&["delete", "networkpolicy", name]).ok();
}

const SERVICES: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {type: NodePort, externalTrafficPolicy: Local, clusterIP: 10.43.1.1, selector: {app: db}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
"#;

#[test]
fn packets_go_where_policies_let_them() {
    let mut cluster = Cluster::with_node();
    let pods = pod("db", "db") + &pod("web", "web") + &pod("other", "other");
    cluster.kubectl_with(&["apply", "-f", "-"], &(pods + SERVICES)).ok();
    let [db, web, other] = ["db", "web", "other"].map(|name| {
        cluster.wait_for_pod(name);
        cluster.kubectl(&["get", "pod", name, "-o", "jsonpath={.status.podIP}"]).ok()
    });
    let [from_db, from_web, from_other] = [&db, &web, &other].map(|address| cluster.pod_namespace(address));
    let (host, outside) = (cluster.network.path(0), cluster.network.path(1));
    let (db_web, db_more) = (format!("{db}:8080"), format!("{db}:8081"));
    becomes("the service answers", &from_web, "10.43.1.1:80", true);
    becomes("the node port answers", &outside, "192.168.77.1:30080", true);
    assert!(reaches(&from_other, &db_web));
    let table = format!("minik8s_{}_policy", cluster.instance_suffix());
    let tables =
        |cluster: &Cluster| run(cluster.network.command(0, "nft".as_ref()).args(["list", "tables"]), "").ok();
    assert!(!tables(&cluster).contains(&table), "without policies there are no rules");

    // Denied to all; connections that were there end, too. The node, and the pod itself, get through.
    let mut open = connect(&from_other, &db_web).expect("a connection");
    apply(&cluster, "deny", "{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress]}");
    becomes("nobody is let in", &from_web, &db_web, false);
    open.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").unwrap();
    assert!(open.read(&mut [0; 64]).is_err(), "the connection is cut");
    assert!(!reaches(&from_web, "10.43.1.1:80") && !reaches(&outside, "192.168.77.1:30080"));
    assert!(reaches(&host, &db_web) && reaches(&host, "10.43.1.1:80"), "the node gets through");
    assert!(reaches(&from_db, &db_web) && reaches(&from_db, "10.43.1.1:80"), "a pod reaches itself");
    assert!(reaches(&from_db, &format!("{web}:8080")), "packets out are no matter of the policy");

    // Somebody is let in on a port that has a name, and a range of addresses from outside.
    apply(
        &cluster,
        "allow",
        "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: web}]}, \
         {from: [{ipBlock: {cidr: 192.168.77.0/24, except: [192.168.77.128/25]}}], ports: [{port: 8000, endPort: 8080}]}]}",
    );
    becomes("the friend is let in", &from_web, &db_web, true);
    assert!(reaches(&from_web, "10.43.1.1:80"));
    assert!(!reaches(&from_web, &db_more) && !reaches(&from_other, &db_web));
    assert!(reaches(&outside, "192.168.77.1:30080"), "with its own address");
    cluster.kubectl(&["label", "pod", "other", "app=web", "--overwrite"]).ok();
    becomes("a label is enough", &from_other, &db_web, true);
    cluster.kubectl(&["label", "pod", "other", "app=other", "--overwrite"]).ok();
    becomes("and its end, too", &from_other, &db_web, false);

    // What a pod may send; the node's DNS is a pod of its own.
    apply(&cluster, "quiet", "{podSelector: {matchLabels: {app: other}}, policyTypes: [Egress]}");
    becomes("nothing goes out", &from_other, &format!("{web}:8080"), false);
    assert!(!resolves(&from_other, "10.43.0.10:53"));
    assert!(reaches(&from_other, "192.168.77.1:10256"), "the own node is always reached");
    apply(
        &cluster,
        "names",
        "{podSelector: {matchLabels: {app: other}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: \
         {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}], ports: [{protocol: UDP, port: 53}]}]}",
    );
    eventually("names are let through", Duration::from_secs(20), || {
        if resolves(&from_other, "10.43.0.10:53") { Ok(()) } else { Err("no answer") }
    });
    assert!(!reaches(&from_other, "10.43.0.10:53"), "not over TCP");
    assert!(!reaches(&from_other, &format!("{web}:8080")));

    // The first packet of a pod comes after the rules.
    for name in ["early-1", "early-2", "early-3"] {
        let spec = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: other}}}}\nspec:\n  restartPolicy: Never\n  \
             containers:\n  - name: a\n    image: busybox:test\n    \
             command: [sh, -c, 'wget -T 1 -q -O - http://{web}:8080/ && echo got through; true']\n"
        );
        cluster.kubectl_with(&["apply", "-f", "-"], &spec).ok();
        cluster.wait_for("pod", name, "{.status.phase}", "Succeeded");
        let said = cluster.kubectl(&["logs", name]).ok();
        assert!(!said.contains("got through"), "{said}");
    }

    // Somebody flushes the table.
    let flush = ["flush", "table", "ip", table.as_str()];
    run(cluster.network.command(0, "nft".as_ref()).args(flush), "").ok();
    becomes("the rules are back", &from_other, &db_web, false);

    // Killed, the rules stay; without policies they go.
    cluster.kill();
    assert!(!reaches(&from_other, &db_web) && reaches(&from_web, &db_web));
    cluster.start();
    becomes("still let in", &from_web, &db_web, true);
    assert!(!reaches(&from_other, &db_web));
    for name in ["deny", "allow", "quiet", "names"] {
        remove(&cluster, name);
    }
    becomes("everybody is let in", &from_other, &db_more, true);
    eventually("the table is gone", Duration::from_secs(20), || {
        let all = tables(&cluster);
        if all.contains(&table) { Err(all) } else { Ok(()) }
    });

    // Switched off, policies are words.
    apply(&cluster, "deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}");
    becomes("nobody is let in again", &from_web, &db_web, false);
    cluster.kill();
    cluster.add_flags(&["--disable", "network-policy"]);
    cluster.start();
    becomes("policies are switched off", &from_web, &db_web, true);
}
