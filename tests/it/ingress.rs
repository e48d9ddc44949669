//! Ingresses served by the node, with real pods: routes, TLS, upgrades, and changes while clients are there.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use minik8s_tests::{Cluster, Options, eventually, in_namespace};
use tokio_rustls::rustls;

const LIMIT: Duration = Duration::from_secs(10);

/// A deployment whose pods say who they are, with a service of the same name.
fn site(name: &str, replicas: u32) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  strategy: {{rollingUpdate: {{maxUnavailable: 0}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: web
        image: busybox:test
        command:
        - sh
        - -c
        - |
          mkdir -p /www/cgi-bin
          printf '#!/bin/sh\necho; echo {name} $(hostname) $HTTP_X_FORWARDED_FOR $HTTP_X_FORWARDED_PROTO $HTTP_HOST\n' >/www/cgi-bin/who
          chmod +x /www/cgi-bin/who
          cp /www/cgi-bin/who /www/cgi-bin/own
          cat >/ws <<'END'
          #!/bin/sh
          end=$(printf '\r')
          while read -r line && [ "$line" != "$end" ]; do :; done
          printf 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'
          exec cat
          END
          chmod +x /ws
          nc -ll -p 8081 -e /ws &
          exec httpd -f -p 8080 -h /www
        lifecycle: {{preStop: {{exec: {{command: [sleep, '3']}}}}}}
        readinessProbe: {{httpGet: {{port: 8080, path: /cgi-bin/who}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: web, port: 80, targetPort: 8080}}, {{name: ws, port: 81, targetPort: 8081}}]
---
"#
    )
}

const INGRESS: &str = r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: sites}
spec:
  tls: [{hosts: [secure.example.com, "*.w.example.com"], secretName: cert}]
  rules:
  - host: one.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: one, port: {number: 80}}}}
      - {path: /cgi-bin/who, pathType: Exact, backend: {service: {name: two, port: {name: web}}}}
      - {path: /ws, pathType: Prefix, backend: {service: {name: one, port: {name: ws}}}}
      - {path: /gone, pathType: Prefix, backend: {service: {name: gone, port: {number: 80}}}}
  - host: secure.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: one, port: {number: 80}}}}]}
  - host: "*.w.example.com"
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: two, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: others}
spec:
  ingressClassName: nginx
  rules: [{host: other.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: one, port: {number: 80}}}}]}}]
"#;

/// Status and whole answer of one request.
fn exchange(
    stream: &mut (impl Read + Write),
    host: &str,
    path: &str,
    close: bool,
) -> io::Result<(u16, String)> {
    let connection = if close { "close" } else { "keep-alive" };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        // The pods' answers come in chunks.
        if !close && answer.ends_with(b"\r\n0\r\n\r\n") {
            break;
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    status.map(|status| (status, text)).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().expect("an address");
    let stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

fn get(place: &Path, address: &str, host: &str, path: &str) -> io::Result<(u16, String)> {
    let (address, host, path) = (address.to_string(), host.to_string(), path.to_string());
    in_namespace(place, move || exchange(&mut connect(&address)?, &host, &path, true))
}

type TlsStream = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// A certificate for some names, with its key.
fn certificate(names: &[&str]) -> (String, String, rustls::pki_types::CertificateDer<'static>) {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem(), made.cert.der().clone())
}

/// A session with a server that must show this certificate.
fn tls(
    address: &str,
    name: &str,
    shown: rustls::pki_types::CertificateDer<'static>,
) -> io::Result<TlsStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(shown).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_string()).map_err(io::Error::other)?;
    let session = rustls::ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(session, connect(address)?);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

fn secret(name: &str, certificate: &str, key: &str) -> String {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: {name}}}\ndata: {{tls.crt: {}, tls.key: {}}}\n",
        encode(certificate),
        encode(key)
    )
}

struct Setting {
    cluster: Cluster,
    outside: PathBuf,
}

const HTTP: &str = "192.168.77.1:80";
const HTTPS: &str = "192.168.77.1:443";

impl Setting {
    fn new() -> Self {
        let cluster = Cluster::start_with(Options {
            node: true,
            flags: vec!["--log".to_string(), "info,ingress-access=debug".to_string()],
        });
        cluster.wait_until_ready();
        let outside = cluster.network.path(1);
        Setting { cluster, outside }
    }

    fn apply(&self, manifest: &str) {
        self.cluster.kubectl_with(&["apply", "-f", "-"], manifest).ok();
    }

    fn get(&self, host: &str, path: &str) -> io::Result<(u16, String)> {
        get(&self.outside, HTTP, host, path)
    }

    #[track_caller]
    fn answers(&self, host: &str, path: &str, wanted: u16, with: &str) -> String {
        let what = format!("{host}{path} answers {wanted} with {with:?}");
        eventually(&what, Duration::from_secs(60), || match self.get(host, path) {
            Ok((status, text)) if status == wanted && text.contains(with) => Ok(text),
            other => Err(format!(
                "{other:?}\n{}",
                self.cluster.log().lines().rev().take(30).collect::<Vec<_>>().join("\n")
            )),
        })
    }

    fn session(
        &self,
        name: &str,
        shown: &rustls::pki_types::CertificateDer<'static>,
    ) -> io::Result<TlsStream> {
        let (name, shown) = (name.to_string(), shown.clone());
        in_namespace(&self.outside, move || tls(HTTPS, &name, shown))
    }
}

#[test]
fn ingresses_are_served_by_the_node() {
    let setting = Setting::new();
    let cluster = &setting.cluster;
    assert!(get(&setting.outside, HTTP, "x", "/").is_err(), "no port without an ingress");
    let (pem, key, first) = certificate(&["secure.example.com", "*.w.example.com"]);
    setting.apply(&(site("one", 1) + &site("two", 2) + INGRESS + "---\n" + &secret("cert", &pem, &key)));

    // Hosts and paths.
    let text = setting.answers("one.example.com", "/cgi-bin/who", 200, "two two-");
    assert!(text.contains("192.168.77.2 http one.example.com"), "the client is known: {text}");
    setting.answers("one.example.com", "/cgi-bin/own", 200, "one one-");
    setting.answers("one.example.com", "/gone", 503, "no available server");
    setting.answers("other.example.com", "/", 404, "404 page not found");
    let (status, text) = setting.get("secure.example.com", "/cgi-bin/who?x").unwrap();
    assert!(
        status == 308 && text.contains("location: https://secure.example.com/cgi-bin/who?x\r\n"),
        "{text}"
    );

    // As kubectl shows them.
    cluster.wait_for("ingress", "sites", "{.status.loadBalancer.ingress[*].ip}", "192.168.77.1");
    assert_eq!(
        cluster.get("ingress", "others")["status"]["loadBalancer"]["ingress"],
        serde_json::Value::Null
    );
    let listed = cluster.kubectl(&["get", "ingress", "sites", "--no-headers"]).ok();
    let columns: Vec<&str> = listed.split_whitespace().collect();
    assert_eq!(
        columns[..6],
        [
            "sites",
            "minik8s",
            "one.example.com,secure.example.com,*.w.example.com",
            "192.168.77.1",
            "80,",
            "443"
        ]
    );
    let class = cluster.kubectl(&["get", "ingressclass", "--no-headers"]).ok();
    assert_eq!(
        class.split_whitespace().collect::<Vec<_>>()[..3],
        ["minik8s", "(default)", "minik8s.io/ingress"]
    );
    let described = eventually("the missing service is told of", Duration::from_secs(30), || {
        let described = cluster.kubectl(&["describe", "ingress", "sites"]).ok();
        if described.contains("ServiceNotFound") { Ok(described) } else { Err(described) }
    });
    for part in [
        "Ingress Class:",
        "cert terminates secure.example.com,*.w.example.com",
        "two:web (10.42.",
        "one:80 (10.42.",
    ] {
        assert!(described.contains(part), "{part}: {described}");
    }

    let head = |text: &str| text.split("\nEvents:").next().unwrap_or_default().to_string();
    let own = cluster.own_kubectl(&["describe", "ingress", "sites"]).ok();
    let theirs = cluster.kubectl(&["describe", "ingress", "sites"]).ok();
    assert_eq!(head(&own), head(&theirs), "as upstream's kubectl describes it");

    // TLS by name; a new secret counts for new sessions and ends none.
    let mut kept =
        eventually("TLS", Duration::from_secs(20), || setting.session("secure.example.com", &first));
    let (_, text) = exchange(&mut kept, "secure.example.com", "/cgi-bin/who", false).unwrap();
    assert!(text.contains("one one-") && text.contains("https"), "{text}");
    let mut wild = setting.session("x.w.example.com", &first).unwrap();
    assert!(exchange(&mut wild, "x.w.example.com", "/cgi-bin/who", true).unwrap().1.contains("two two-"));
    assert!(setting.session("one.example.com", &first).is_err(), "it has the self-made certificate");
    let (pem, key, second) = certificate(&["secure.example.com", "*.w.example.com"]);
    setting.apply(&secret("cert", &pem, &key));
    eventually("the new certificate", Duration::from_secs(20), || {
        setting.session("secure.example.com", &second)
    });
    assert!(exchange(&mut kept, "secure.example.com", "/cgi-bin/who", false).unwrap().1.contains("one one-"));
    // One that cannot be used is told of, and the last good one stays.
    setting.apply(&secret("cert", &pem, "nonsense"));
    cluster_event(cluster, "InvalidSecret");
    setting.session("secure.example.com", &second).unwrap();

    // Another protocol on the same connection, which outlives the ingress.
    let mut upgraded = in_namespace(&setting.outside, || {
        let mut stream = connect(HTTP).unwrap();
        stream.write_all(b"GET /ws HTTP/1.1\r\nHost: one.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        stream
    });
    let mut ping = |text: &[u8]| {
        upgraded.write_all(text).unwrap();
        let mut answer = vec![0; text.len()];
        upgraded.read_exact(&mut answer).unwrap();
        assert_eq!(answer, text);
    };
    ping(b"hello\n");

    // What another namespace would take stays where it is.
    cluster.kubectl(&["create", "namespace", "thief"]).ok();
    let thief = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: thief, namespace: thief}\nspec:\n  rules:\n  - host: one.example.com\n    http: {paths: [{path: /cgi-bin/own, pathType: Exact, backend: {service: {name: x, port: {number: 80}}}}]}\n";
    setting.apply(thief);
    cluster_event(cluster, "PathConflict");
    setting.answers("one.example.com", "/cgi-bin/own", 200, "one one-");

    // To policies it is the node.
    let address = |app: &str| {
        let of = format!("app={app}");
        cluster.kubectl(&["get", "pods", "-l", &of, "-o", "jsonpath={.items[0].status.podIP}"]).ok()
    };
    let (pod, target) = (cluster.pod_namespace(&address("two")), format!("{}:8080", address("one")));
    setting.apply("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: none}\nspec: {podSelector: {matchLabels: {app: one}}, policyTypes: [Ingress]}\n");
    eventually("the policy holds", Duration::from_secs(60), || {
        let target: SocketAddr = target.parse().unwrap();
        let reached =
            in_namespace(&pod, move || TcpStream::connect_timeout(&target, Duration::from_secs(1)).is_ok());
        if reached { Err("a pod reaches it") } else { Ok(()) }
    });
    setting.answers("one.example.com", "/cgi-bin/own", 200, "one one-");

    // The log and the metrics have seen it.
    let log = cluster.log();
    assert!(
        log.contains("ingress::access")
            && log.contains("host=\"one.example.com\"")
            && log.contains("ingress=\"default/sites\"")
    );
    let metrics = cluster.kubectl(&["get", "--raw", "/api/v1/nodes/one/proxy/metrics"]).ok();
    assert!(
        metrics
            .contains("minik8s_ingress_requests_total{namespace=\"default\",ingress=\"sites\",code=\"2xx\"}"),
        "{metrics}"
    );

    // Without an ingress the ports are closed, and what was joined goes on.
    cluster.kubectl(&["delete", "ingress", "sites", "others", "--wait=true"]).ok();
    cluster.kubectl(&["delete", "ingress", "-n", "thief", "thief"]).ok();
    eventually("the ports are closed", Duration::from_secs(20), || {
        match setting.get("one.example.com", "/") {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    ping(b"still here\n");
}

#[track_caller]
fn cluster_event(cluster: &Cluster, reason: &str) {
    eventually(&format!("an event {reason}"), Duration::from_secs(30), || {
        let events =
            cluster.kubectl(&["get", "events", "-A", "--field-selector", &format!("reason={reason}")]).ok();
        if events.contains(reason) { Ok(()) } else { Err(cluster.kubectl(&["get", "events", "-A"]).ok()) }
    });
}

#[test]
fn a_rolling_update_fails_no_request() {
    let setting = Setting::new();
    let simple = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: all}\nspec: {defaultBackend: {service: {name: one, port: {number: 80}}}}\n";
    setting.apply(&(site("one", 2) + simple));
    setting.cluster.kubectl(&["rollout", "status", "deployment", "one", "--timeout=90s"]).ok();
    setting.answers("any.example.com", "/cgi-bin/who", 200, "one one-");
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|at| {
            let (stop, place) = (stop.clone(), setting.outside.clone());
            std::thread::spawn(move || {
                in_namespace(&place, move || {
                    let (mut pods, mut count) = (BTreeSet::new(), 0_u32);
                    let mut kept = None;
                    while !stop.load(Ordering::Relaxed) {
                        // Half of them keep their connection.
                        let close = at % 2 == 0;
                        let mut stream = match kept.take() {
                            Some(stream) => stream,
                            None => connect(HTTP).expect("a connection"),
                        };
                        let (status, text) = exchange(&mut stream, "any.example.com", "/cgi-bin/who", close)
                            .expect("an answer");
                        assert_eq!(status, 200, "after {count}: {text}");
                        pods.extend(
                            text.split_whitespace().find(|word| word.starts_with("one-")).map(str::to_string),
                        );
                        count += 1;
                        kept = (!close).then_some(stream);
                    }
                    (pods, count)
                })
            })
        })
        .collect();
    for round in ["ROUND=1", "ROUND=2"] {
        setting.cluster.kubectl(&["set", "env", "deployment/one", round]).ok();
        setting.cluster.kubectl(&["rollout", "status", "deployment", "one", "--timeout=90s"]).ok();
    }
    stop.store(true, Ordering::Relaxed);
    let seen: Vec<(BTreeSet<String>, u32)> =
        clients.into_iter().map(|client| client.join().unwrap()).collect();
    let pods: BTreeSet<&String> = seen.iter().flat_map(|(pods, _)| pods).collect();
    let count: u32 = seen.iter().map(|(_, count)| count).sum();
    eprintln!("{count} requests to {} pods", pods.len());
    assert!(pods.len() >= 4 && count > 100, "{count} requests to {pods:?}");
}
