//! What the proxies of pods, services and nodes reach: an address behind a name such as `https:web:443`.
//!
//! The API server shares a network with the pods, as upstream's does, and dials them itself. Nobody checks
//! the certificate of a pod: no authority vouches for its address. Only addresses of pods and nodes are
//! reached, so that an object cannot lead to services of this machine's loopback or to metadata services.
//!
//! Absent: pods of nodes whose pod network the API server is not part of.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::json::{items, number, text};
use api::kinds::{ENDPOINT_SLICE, POD, SERVICE};
use api::{ApiError, Object};
use client::ByteStream;
use rand::seq::SliceRandom;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Unanswered;
use crate::outbound::Trust;
use crate::registry::Call;
use crate::server::ApiServer;
use crate::strategy::CachedObjects;

/// How long a pod has to accept a connection.
const DIAL_LIMIT: Duration = Duration::from_secs(30);

/// Where a proxied request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Backend {
    pub(super) tls: bool,
    pub(super) address: SocketAddr,
}

/// `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`, as the name in a proxy's path. A port is a number or a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted<'a> {
    tls: bool,
    pub(super) name: &'a str,
    port: &'a str,
}

impl<'a> Wanted<'a> {
    pub(super) fn parse(id: &'a str) -> Option<Self> {
        let mut parts = id.split(':');
        let (scheme, name, port) = match (parts.next()?, parts.next(), parts.next(), parts.next()) {
            (name, None, ..) => ("", name, ""),
            (name, Some(port), None, _) => ("", name, port),
            (scheme, Some(name), Some(port), None) => (scheme, name, port),
            _ => return None,
        };
        let known = matches!(scheme, "" | "http" | "https");
        (known && !name.is_empty()).then_some(Wanted { tls: scheme == "https", name, port })
    }
}

impl Backend {
    /// The backend that a pod or a service stands for.
    pub(super) async fn find(server: &ApiServer, call: &Call<'_>, id: &str) -> Result<Self, ApiError> {
        let plural: &str = &call.resource.row.plural;
        let kind = if plural == "pods" { "pod" } else { "service" };
        let wanted = Wanted::parse(id)
            .ok_or_else(|| ApiError::bad_request(format!("invalid {kind} request {id:?}")))?;
        let whole = Call::new(&call.resource, call.namespace, call.user);
        let address = if plural == "pods" {
            let pod = server.registry.get(&whole, wanted.name).await?;
            of_pod(&pod.tree().map_err(ApiError::internal)?, &wanted)?
        } else {
            of_service(&*server.registry.caches, call.namespace.unwrap_or_default(), &wanted, id)?
        };
        Ok(Backend { tls: wanted.tls, address })
    }

    /// A port of a node, as its name in a proxy's path asks for it; none for the kubelet's, which has a door
    /// of its own.
    pub(super) fn of_node(node: &Value, wanted: &Wanted<'_>) -> Result<Option<Self>, ApiError> {
        if wanted.port.is_empty() {
            return Ok(None);
        }
        let port = port_number(wanted.port)?;
        if i64::from(port) == number(node, "status.daemonEndpoints.kubeletEndpoint.Port") {
            return Ok(None);
        }
        let mut addresses = items(node, "status.addresses").iter();
        let address = addresses.find(|one| text(one, "type") == "InternalIP");
        let address = reachable(address.map_or("", |one| text(one, "address")))?;
        Ok(Some(Backend { tls: wanted.tls, address: SocketAddr::new(address, port) }))
    }

    pub(super) async fn dial(&self) -> Result<Box<dyn ByteStream>, Unanswered> {
        let dialled = |error: String| Unanswered(format!("dial tcp {}: {error}", self.address));
        let connecting = tokio::time::timeout(DIAL_LIMIT, TcpStream::connect(self.address)).await;
        let connected = connecting.map_err(|_| dialled("i/o timeout".to_string()))?;
        let tcp = connected.map_err(|error| dialled(format!("connect: {}", plain(&error))))?;
        // It delays small packets, no more.
        let _ = tcp.set_nodelay(true);
        if !self.tls {
            return Ok(Box::new(tcp));
        }
        let trust = Trust { anybody: true, ..Trust::default() };
        let config = trust.tls_config().map_err(|error| Unanswered(error.to_string()))?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let secured = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        secured
            .map(|stream| Box::new(stream) as Box<dyn ByteStream>)
            .map_err(|error| Unanswered(format!("tls: {error}")))
    }
}

/// The words of the operating system without the number that Rust adds.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_string(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_string(),
        _ => error.to_string(),
    }
}

/// The port that is asked for, or the first that the pod names, or the scheme's.
fn of_pod(pod: &Value, wanted: &Wanted<'_>) -> Result<SocketAddr, ApiError> {
    let first = items(pod, "spec.containers").iter().flat_map(|one| items(one, "ports")).next();
    let port = match (wanted.port, first) {
        ("", Some(port)) => u16::try_from(number(port, "containerPort")).unwrap_or_default(),
        ("", None) => {
            if wanted.tls {
                443
            } else {
                80
            }
        }
        (port, _) => port_number(port)?,
    };
    let address = items(pod, "status.podIPs").first().map_or(text(pod, "status.podIP"), |ip| text(ip, "ip"));
    Ok(SocketAddr::new(reachable(address)?, port))
}

fn port_number(port: &str) -> Result<u16, ApiError> {
    port.parse().map_err(|_| {
        let why = format!("lookup tcp/{port}: unknown port");
        ApiError::unavailable(format!("error trying to reach service: dial tcp: {why}"))
    })
}

fn reachable(address: &str) -> Result<IpAddr, ApiError> {
    let address = address.parse::<IpAddr>().ok().filter(is_global);
    address.ok_or_else(|| ApiError::bad_request("address not allowed"))
}

/// Not this machine's own, and nothing that never leaves a link.
fn is_global(address: &IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(is_link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// One of the ready endpoints of a service's port; no port stands for the one without a name.
fn of_service(
    caches: &dyn CachedObjects,
    namespace: &str,
    wanted: &Wanted<'_>,
    id: &str,
) -> Result<SocketAddr, ApiError> {
    let service = caches.get(&SERVICE, Some(namespace), wanted.name);
    let service = service.ok_or_else(|| ApiError::not_found(&SERVICE, wanted.name))?;
    let service = service.tree().map_err(ApiError::internal)?;
    let port_name = match wanted.port.parse::<u16>() {
        Err(_) => wanted.port,
        Ok(port) => {
            let mut ports = items(&service, "spec.ports").iter();
            let known = ports.find(|one| number(one, "port") == i64::from(port)).ok_or_else(|| {
                let name = wanted.name;
                ApiError::unavailable(format!("no service port {port} found for service {name:?}"))
            })?;
            text(known, "name")
        }
    };
    let mut found = endpoints(caches, namespace, wanted.name, port_name);
    found.shuffle(&mut rand::rng());
    let none = || ApiError::unavailable(format!("no endpoints available for service {id:?}"));
    found.first().copied().ok_or_else(none)
}

/// The ready endpoints that are pods.
fn endpoints(caches: &dyn CachedObjects, namespace: &str, service: &str, port_name: &str) -> Vec<SocketAddr> {
    let is_of_service = |slice: &Arc<Object>| {
        slice.labels().get("kubernetes.io/service-name").is_some_and(|name| name == service)
    };
    let mut found = Vec::new();
    for slice in caches.list(&ENDPOINT_SLICE, Some(namespace)).iter().filter(|slice| is_of_service(slice)) {
        let Ok(slice) = slice.tree() else { continue };
        let mut ports = items(&slice, "ports").iter();
        let port = ports.find(|one| text(one, "name") == port_name);
        let Some(port) = port.and_then(|port| u16::try_from(number(port, "port")).ok()) else { continue };
        let endpoints = items(&slice, "endpoints").iter();
        for endpoint in endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false) {
            let addresses = items(endpoint, "addresses").iter().filter_map(Value::as_str);
            let addresses = addresses.filter(|address| is_of_pod(caches, namespace, endpoint, address));
            let addresses = addresses.filter_map(|address| address.parse().ok());
            found.extend(addresses.map(|address| SocketAddr::new(address, port)));
        }
    }
    found
}

/// Whether an endpoint is what it says: users write endpoints of their own, with any address.
fn is_of_pod(caches: &dyn CachedObjects, namespace: &str, endpoint: &Value, address: &str) -> bool {
    let target = &endpoint["targetRef"];
    if text(target, "kind") != "Pod" || text(target, "namespace") != namespace {
        return false;
    }
    let pod = caches.get(&POD, Some(namespace), text(target, "name"));
    let pod = pod.and_then(|pod| pod.tree().ok());
    pod.is_some_and(|pod| items(&pod, "status.podIPs").iter().any(|ip| text(ip, "ip") == address))
}

#[cfg(test)]
mod tests {
    use api::kinds::SERVICE_ACCOUNT;
    use client::ObjectRef;
    use serde_json::json;

    use super::*;
    use crate::testing::{Harness, pod};

    #[test]
    fn a_name_may_have_a_scheme_and_a_port() {
        let wanted = |tls, name, port| Some(Wanted { tls, name, port });
        assert_eq!(Wanted::parse("web"), wanted(false, "web", ""));
        assert_eq!(Wanted::parse("web:http"), wanted(false, "web", "http"));
        assert_eq!(Wanted::parse("http:web:80"), wanted(false, "web", "80"));
        assert_eq!(Wanted::parse("https:web:"), wanted(true, "web", ""));
        for bad in ["", ":80", "ftp:web:21", "a:b:c:d", "http::80"] {
            assert_eq!(Wanted::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pods_port_is_the_one_asked_for_or_its_first() {
        let at = |ip: &str, ports: Value, id: &str| {
            let pod = json!({ "spec": { "containers": [{ "name": "a" }, { "name": "b", "ports": ports }] },
                "status": { "podIP": ip, "podIPs": [{ "ip": ip }] } });
            of_pod(&pod, &Wanted::parse(id).unwrap()).map(|address| address.to_string())
        };
        let ports = json!([{ "containerPort": 9376 }, { "containerPort": 80 }]);
        assert_eq!(at("10.42.0.7", ports.clone(), "p").unwrap(), "10.42.0.7:9376");
        assert_eq!(at("10.42.0.7", ports.clone(), "p:81").unwrap(), "10.42.0.7:81");
        assert_eq!(at("fd00::7", json!([]), "https:p:").unwrap(), "[fd00::7]:443");
        assert_eq!(at("10.42.0.7", json!([]), "p").unwrap(), "10.42.0.7:80");
        let error = at("10.42.0.7", ports.clone(), "p:web").unwrap_err();
        assert_eq!((error.code(), error.message().ends_with("lookup tcp/web: unknown port")), (503, true));
        for ip in ["127.0.0.1", "169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", ""] {
            let error = at(ip, ports.clone(), "p").unwrap_err();
            assert_eq!((error.code(), error.message()), (400, "address not allowed"), "{ip}");
        }
    }

    #[test]
    fn a_nodes_port_is_its_kubelets_or_another() {
        let of = |id: &str, ip: &str| {
            let node = json!({ "status": {
                "addresses": [{ "type": "Hostname", "address": "n" }, { "type": "InternalIP", "address": ip }],
                "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } },
            } });
            Backend::of_node(&node, &Wanted::parse(id).unwrap())
        };
        for kubelet in ["n", "n:10250", "https:n:10250", "https:n:"] {
            assert_eq!(of(kubelet, "10.0.0.1").unwrap(), None, "{kubelet}");
        }
        let other = of("https:n:9100", "10.0.0.1").unwrap().unwrap();
        assert_eq!((other.tls, other.address.to_string()), (true, "10.0.0.1:9100".to_string()));
        assert_eq!(of("n:9100", "169.254.169.254").unwrap_err().code(), 400);
        assert_eq!(of("n:web", "10.0.0.1").unwrap_err().code(), 503);
    }

    #[tokio::test]
    async fn a_service_leads_to_ready_pods_only() {
        let h = Harness::start().await;
        let ports = json!([{ "name": "web", "port": 80 }, { "name": "other", "port": 81 }]);
        h.create(
            &SERVICE,
            Some("default"),
            json!({ "metadata": { "name": "s" }, "spec": { "ports": ports } }),
        )
        .await;
        let account = json!({ "metadata": { "name": "default" } });
        h.create(&SERVICE_ACCOUNT, Some("default"), account).await;
        h.create(&POD, Some("default"), pod("a")).await;
        let status = json!({ "status": { "podIP": "10.42.0.7", "podIPs": [{ "ip": "10.42.0.7" }] } });
        h.try_patch(&POD, ObjectRef::new(Some("default"), "a").sub("status"), status).await.unwrap();
        let target = json!({ "kind": "Pod", "namespace": "default", "name": "a" });
        let slice = json!({
            "metadata": { "name": "s-1", "labels": { "kubernetes.io/service-name": "s" } },
            "addressType": "IPv4", "ports": [{ "name": "web", "port": 8080, "protocol": "TCP" }],
            "endpoints": [
                { "addresses": ["10.42.0.7"], "conditions": { "ready": true }, "targetRef": target },
                { "addresses": ["10.42.0.8"], "conditions": { "ready": true }, "targetRef": target },
                { "addresses": ["10.42.0.9"] },
            ],
        });
        h.create(&ENDPOINT_SLICE, Some("default"), slice).await;
        let find = |id: &str| {
            of_service(&*h.server.registry.caches, "default", &Wanted::parse(id).unwrap(), id)
                .map(|address| address.to_string())
                .map_err(|error| (error.code(), error.message().to_string()))
        };
        for id in ["s:web", "s:80", "http:s:web"] {
            assert_eq!(find(id).unwrap(), "10.42.0.7:8080", "{id}");
        }
        assert_eq!(find("s:82").unwrap_err(), (503, "no service port 82 found for service \"s\"".into()));
        for id in ["s", "s:81", "s:none"] {
            assert_eq!(find(id).unwrap_err(), (503, format!("no endpoints available for service {id:?}")));
        }
        assert_eq!(find("none").unwrap_err().0, 404);
        h.stop().await;
    }
}
