//! Packets to services: from pods, from the node and from outside, with the rules that the node has made.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use minik8s_tests::{Cluster, eventually, fetch, in_namespace, run};

/// A pod that says who it is and whom it sees.
fn pod(name: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: web, own: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: busybox:test
    command:
    - sh
    - -c
    - |
      mkdir -p /www/cgi-bin
      printf '#!/bin/sh\necho; echo $(hostname) $REMOTE_ADDR\n' >/www/cgi-bin/who
      chmod +x /www/cgi-bin/who
      exec httpd -f -p 8080 -h /www
    readinessProbe: {{httpGet: {{port: 8080, path: /cgi-bin/who}}, periodSeconds: 1}}
---"#
    )
}

/// Services of every kind.
const SERVICES: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.43.1.1, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: own}
spec: {clusterIP: 10.43.1.2, selector: {own: a}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec: {clusterIP: 10.43.1.3, sessionAffinity: ClientIP, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {type: NodePort, clusterIP: 10.43.1.4, selector: {app: nobody}, ports: [{port: 80, nodePort: 30004}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: NodePort, clusterIP: 10.43.1.5, externalIPs: [198.51.100.5], selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30005}]}
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec: {type: NodePort, clusterIP: 10.43.1.6, externalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30006}]}
"#;

/// Names and clients' addresses of so many answers, or the first error.
fn try_answers(
    place: &Path,
    address: &str,
    count: usize,
) -> std::io::Result<(BTreeSet<String>, BTreeSet<String>)> {
    let (mut names, mut clients) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..count {
        let line = fetch(place, address, "/cgi-bin/who")?;
        let (name, client) = line.split_once(' ').unwrap_or((&line, ""));
        names.insert(name.to_string());
        clients.insert(client.trim_matches(['[', ']']).trim_start_matches("::ffff:").to_string());
    }
    Ok((names, clients))
}

fn answers(place: &Path, address: &str, count: usize) -> (BTreeSet<String>, BTreeSet<String>) {
    try_answers(place, address, count).unwrap_or_else(|error| panic!("{address}: {error}"))
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

#[track_caller]
fn refused(place: &Path, address: &str) {
    let began = Instant::now();
    let error = fetch(place, address, "/").expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}: {error}");
    assert!(began.elapsed() < Duration::from_secs(2), "refused, not dropped");
}

fn address_of(cluster: &Cluster, pod: &str) -> String {
    cluster.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"]).ok()
}

fn tables(cluster: &Cluster) -> String {
    run(cluster.network.command(0, "nft".as_ref()).args(["list", "tables"]), "").ok()
}

#[test]
fn packets_find_the_endpoints_of_services() {
    let mut cluster = Cluster::with_node();
    cluster.kubectl_with(&["apply", "-f", "-"], &(pod("a") + &pod("b") + SERVICES)).ok();
    cluster.wait_for_pod("a");
    cluster.wait_for_pod("b");
    let (a, b) = (address_of(&cluster, "a"), address_of(&cluster, "b"));
    let pod = cluster.pod_namespace(&a);
    let (host, outside) = (cluster.network.path(0), cluster.network.path(1));
    eventually("both pods answer", Duration::from_secs(30), || {
        // Until the rules are there, packets to the address are lost.
        let (names, _) = try_answers(&host, "10.43.1.1:80", 20).map_err(|error| error.to_string())?;
        if names == set(&["a", "b"]) { Ok(()) } else { Err(format!("{names:?}\n{}", cluster.log())) }
    });

    // From a pod its address is seen, also by endpoints on the same bridge.
    let (names, clients) = answers(&pod, "10.43.1.1:80", 20);
    assert_eq!(names, set(&["a", "b"]));
    assert!(clients.contains(&a), "{clients:?}");
    // A pod that reaches itself is seen as somebody else: else its answer would not come back.
    let (names, clients) = answers(&pod, "10.43.1.2:80", 3);
    assert_eq!(names, set(&["a"]));
    assert!(!clients.contains(&a) && !clients.contains(&b), "{clients:?}");

    let (names, _) = answers(&pod, "10.43.1.3:80", 10);
    assert_eq!(names.len(), 1, "a client keeps its endpoint");
    for place in [&pod, &host] {
        refused(place, "10.43.1.4:80");
        refused(place, "10.43.1.1:81");
    }
    refused(&outside, "192.168.77.1:30004");

    // From outside: any endpoint, with the node's address; or this node's, with the client's own.
    let (names, clients) = answers(&outside, "192.168.77.1:30005", 20);
    assert_eq!(names, set(&["a", "b"]));
    assert!(!clients.contains("192.168.77.2"), "{clients:?}");
    let (names, clients) = answers(&outside, "192.168.77.1:30006", 20);
    assert_eq!((names, clients), (set(&["a", "b"]), set(&["192.168.77.2"])));
    assert_eq!(answers(&pod, "192.168.77.1:30006", 20).0, set(&["a", "b"]));
    assert_eq!(answers(&outside, "198.51.100.5:80", 20).0, set(&["a", "b"]));

    // The API server by the address that every client library in a pod uses.
    let mut command = std::process::Command::new("nsenter");
    command.arg(format!("--net={}", pod.display())).arg("--").arg(minik8s_tests::binary());
    command.args(["kubectl", "--kubeconfig"]).arg(cluster.kubeconfig());
    assert_eq!(
        run(command.args(["--server", "https://10.43.0.1", "get", "--raw", "/readyz"]), "").ok(),
        "ok"
    );

    // An endpoint that goes is not asked any more, not even by a client that would keep it: its first packet
    // is sent again.
    let table = format!("minik8s_{}_proxy", cluster.instance_suffix());
    cluster.kubectl(&["delete", "pod", "b", "--timeout=30s"]).ok();
    eventually("the endpoint is gone from the rules", Duration::from_secs(20), || {
        let map = ["list", "map", "ip", table.as_str(), "endpoints-tcp"];
        let rules = run(cluster.network.command(0, "nft".as_ref()).args(map), "").ok();
        if rules.contains(&b) { Err(rules) } else { Ok(()) }
    });
    assert_eq!(answers(&pod, "10.43.1.1:80", 10).0, set(&["a"]));

    assert_eq!(answers(&pod, "10.43.1.3:80", 3).0, set(&["a"]));

    // Somebody flushes the table.
    run(cluster.network.command(0, "nft".as_ref()).args(["flush", "table", "ip", &table]), "").ok();
    eventually("the rules are back", Duration::from_secs(20), || {
        fetch(&pod, "10.43.1.1:80", "/cgi-bin/who").map_err(|error| format!("{error}\n{}", cluster.log()))
    });
    run(cluster.network.command(0, "nft".as_ref()).args(["delete", "table", "ip", &table]), "").ok();
    eventually("the table is back", Duration::from_secs(20), || {
        fetch(&pod, "10.43.1.1:80", "/cgi-bin/who").map_err(|error| format!("{error}\n{}", cluster.log()))
    });

    // kube-proxy's ports.
    let health = fetch(&outside, "192.168.77.1:10256", "/healthz").expect("healthy");
    assert!(health.contains("\"nodeEligible\":true"), "{health}");
    assert!(fetch(&outside, "192.168.77.1:10249", "/metrics").is_err(), "for the machine only");
    let metrics = fetch(&host, "127.0.0.1:10249", "/metrics").expect("metrics");
    assert!(
        metrics.contains("kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}"),
        "{metrics}"
    );
    assert_eq!(fetch(&host, "127.0.0.1:10249", "/proxyMode").expect("a mode"), "nftables");

    // Killed, traffic goes on; switched off, nothing is left.
    cluster.kill();
    assert_eq!(answers(&pod, "10.43.1.1:80", 3).0, set(&["a"]));
    cluster.add_flags(&["--disable", "kube-proxy"]);
    cluster.start();
    eventually("the table is gone", Duration::from_secs(20), || {
        let all = tables(&cluster);
        if all.contains(&table) { Err(all) } else { Ok(()) }
    });
}

/// What a pod is told about names, by `nslookup` in it.
fn nslookup(cluster: &Cluster, pod: &str, arguments: &str) -> String {
    let spec = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}}}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: a\n    \
         image: busybox:test\n    command: [sh, -c, 'cat /etc/resolv.conf; {arguments} 2>&1; true']\n"
    );
    cluster.kubectl_with(&["apply", "-f", "-"], &spec).ok();
    cluster.wait_for("pod", pod, "{.status.phase}", "Succeeded");
    cluster.kubectl(&["logs", pod]).ok()
}

/// Asks for the address of `kubernetes.default.svc.cluster.local`, once; the answer's code.
fn ask_for_a_name(patience: Duration) -> std::io::Result<u8> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("10.43.0.10:53")?;
    socket.set_read_timeout(Some(patience))?;
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["kubernetes", "default", "svc", "cluster", "local", ""] {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.bytes());
    }
    question.extend([0, 1, 0, 1]);
    socket.send(&question)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    assert!(length > 12 && answer[..2] == [0, 7], "{:?}", &answer[..length]);
    Ok(answer[3] & 15)
}

#[test]
fn lookups_outlast_a_restart() {
    let mut cluster = Cluster::with_node();
    let host = cluster.network.path(0);
    let ask = |patience: u64| in_namespace(&host, move || ask_for_a_name(Duration::from_millis(patience)));
    eventually("the name is found", Duration::from_secs(20), || match ask(2000) {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // While nobody is there clients are left to wait, and are not sent away.
    cluster.stop();
    assert_eq!(ask(300).unwrap_err().kind(), ErrorKind::WouldBlock);
    // Whoever asks while the next process begins is answered with what is true.
    let place = host.clone();
    let asking = std::thread::spawn(move || {
        in_namespace(&place, || {
            let began = Instant::now();
            loop {
                match ask_for_a_name(Duration::from_millis(2500)) {
                    Ok(code) => return code,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                        assert!(began.elapsed() < Duration::from_secs(120), "nobody answers");
                    }
                }
            }
        })
    });
    cluster.start();
    assert_eq!(asking.join().unwrap(), 0);
}

#[test]
fn pods_find_services_by_their_names() {
    let mut cluster = Cluster::with_node();
    let headless = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: headless}\nspec: {clusterIP: None, selector: {own: a}, \
                    ports: [{name: http, port: 8080}]}\n";
    cluster.kubectl_with(&["apply", "-f", "-"], &(pod("a") + SERVICES + headless)).ok();
    cluster.wait_for_pod("a");
    let address = address_of(&cluster, "a");
    // The name service does not know an endpoint before its slice is written.
    eventually("the slice of the headless service", Duration::from_secs(20), || {
        let selector = ["get", "endpointslices", "-l", "kubernetes.io/service-name=headless", "-o", "yaml"];
        let outcome = cluster.kubectl(&selector);
        if outcome.stdout.contains(&address) { Ok(()) } else { Err(outcome.to_string()) }
    });
    let questions = "nslookup kubernetes.default.svc.cluster.local; nslookup -type=a web.default.svc.cluster.local; \
                     nslookup -type=a headless.default.svc.cluster.local; \
                     nslookup -type=srv _http._tcp.headless.default.svc.cluster.local; \
                     nslookup -type=a absent.default.svc.cluster.local; wget -q -O - http://web/cgi-bin/who";
    let said = nslookup(&cluster, "asks", questions);
    assert!(said.contains("nameserver 10.43.0.10\n") && said.contains("default.svc.cluster.local"), "{said}");
    for wanted in ["10.43.0.1\n", "10.43.1.1\n", &format!("{address}\n"), "8080", "NXDOMAIN", "\na ["] {
        assert!(said.contains(wanted), "{wanted:?} is missing:\n{said}");
    }

    // The service that charts and policies name is there, and its metrics are CoreDNS'.
    let host = cluster.network.path(0);
    eventually("the name service's objects", Duration::from_secs(20), || {
        let service =
            cluster.kubectl(&["get", "service,endpointslices,endpoints", "-n", "kube-system", "-o", "yaml"]);
        if service.stdout.matches("name: kube-dns").count() >= 3
            && service.stdout.contains("clusterIP: 10.43.0.10")
        {
            Ok(())
        } else {
            Err(service.to_string())
        }
    });
    let metrics = fetch(&host, "10.43.0.10:9153", "/metrics").expect("metrics");
    assert!(
        metrics.contains("coredns_dns_responses_total{") && metrics.contains("rcode=\"NXDOMAIN\""),
        "{metrics}"
    );
    assert_eq!(fetch(&host, "10.43.0.10:8181", "/ready").expect("ready"), "OK");

    // Hosts and servers of the user's; a Corefile that cannot be used changes nothing and is named.
    let custom = |text: &str| {
        let map = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: coredns-custom, namespace: kube-system}}\ndata:\n  a.override: |\n{text}"
        );
        cluster.kubectl_with(&["apply", "-f", "-"], &map).ok();
    };
    custom("    hosts {\n      192.0.2.77 own.example\n      fallthrough\n    }\n");
    eventually("a name of the user's", Duration::from_secs(30), || {
        let asks = format!("asks-{}", std::time::UNIX_EPOCH.elapsed().unwrap().as_millis());
        let said = nslookup(&cluster, &asks, "nslookup -type=a own.example.");
        if said.contains("192.0.2.77") { Ok(()) } else { Err(said) }
    });
    custom("    nonsense\n");
    eventually("the event", Duration::from_secs(20), || {
        let events = cluster.kubectl(&["get", "events", "-n", "kube-system"]);
        let wanted = "a.override:1: nonsense: the plugin";
        if events.stdout.contains("InvalidCorefile") && events.stdout.contains(wanted) {
            Ok(())
        } else {
            Err(events.to_string())
        }
    });
    let said = nslookup(&cluster, "asks-again", "nslookup -type=a own.example.");
    assert!(said.contains("192.0.2.77"), "the last good one holds: {said}");

    // Killed, it is back with the next start; switched off, its address is gone.
    let local = |cluster: &Cluster| {
        run(cluster.network.command(0, "ip".as_ref()).args(["address", "show", "lo"]), "").ok()
    };
    assert!(local(&cluster).contains("10.43.0.10/32"));
    cluster.kill();
    cluster.add_flags(&["--disable", "coredns"]);
    cluster.start();
    eventually("the address is gone", Duration::from_secs(20), || {
        let addresses = local(&cluster);
        if addresses.contains("10.43.0.10") { Err(addresses) } else { Ok(()) }
    });
}

#[test]
fn load_balancers_are_the_nodes() {
    let cluster = Cluster::with_node();
    let services = r#"
apiVersion: v1
kind: Service
metadata: {name: first}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 8888, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: LoadBalancer, loadBalancerClass: example.com/other, selector: {app: web}, ports: [{port: 8890, targetPort: 8080}]}
"#;
    cluster.kubectl_with(&["apply", "-f", "-"], &(pod("a") + services)).ok();
    cluster.wait_for_pod("a");
    let outside = cluster.network.path(1);
    let ingress = "{.status.loadBalancer.ingress[*].ip}";
    cluster.wait_for("service", "first", ingress, "192.168.77.1");
    assert_eq!(cluster.get("service", "first")["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
    let address = "192.168.77.1:8888";
    eventually("it answers from outside", Duration::from_secs(20), || {
        try_answers(&outside, address, 1).map(|_| ()).map_err(|error| error.to_string())
    });
    assert_eq!(answers(&outside, address, 5).1, set(&["192.168.77.2"]), "the client's address is kept");
    let health = cluster.get("service", "first")["spec"]["healthCheckNodePort"].to_string();
    let health = fetch(&outside, &format!("192.168.77.1:{health}"), "/").expect("healthy");
    assert!(health.contains("\"localEndpoints\": 1"), "{health}");

    // Only some may come.
    let ranges = |range: &str| {
        let patch = format!("{{\"spec\":{{\"loadBalancerSourceRanges\":[\"{range}\"]}}}}");
        cluster.kubectl(&["patch", "service", "first", "-p", &patch]).ok();
    };
    ranges("192.0.2.0/24");
    eventually("the client is kept out", Duration::from_secs(20), || {
        match try_answers(&outside, address, 1) {
            Err(error) if error.kind() != ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    ranges("192.168.77.0/24");
    eventually("the client is let in", Duration::from_secs(20), || {
        try_answers(&outside, address, 1).map(|_| ()).map_err(|error| error.to_string())
    });

    // A port that is taken.
    let second = services.split("---").next().unwrap().replace("first", "second");
    cluster.kubectl_with(&["apply", "-f", "-"], &second).ok();
    eventually("the event", Duration::from_secs(20), || {
        let events = cluster.kubectl(&["get", "events"]);
        let wanted = "is taken by Service default/first";
        if events.stdout.contains(wanted) { Ok(()) } else { Err(events.to_string()) }
    });
    let pending = cluster.get("service", "second");
    assert!(pending["status"]["loadBalancer"]["ingress"].is_null(), "{pending}");
    assert!(cluster.get("service", "elsewhere")["status"]["loadBalancer"]["ingress"].is_null());
    cluster.kubectl(&["delete", "service", "first"]).ok();
    cluster.wait_for("service", "second", ingress, "192.168.77.1");
    // Another type has no address.
    cluster.kubectl(&["patch", "service", "second", "-p", "{\"spec\":{\"type\":\"ClusterIP\"}}"]).ok();
    cluster.wait_for("service", "second", ingress, "");
}
