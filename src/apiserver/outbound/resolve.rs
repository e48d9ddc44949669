//! From a service to the addresses of its endpoints.

use std::net::{IpAddr, SocketAddr};

use api::json::{items, number, text};
use api::kinds::{ENDPOINT_SLICE, SERVICE};
use serde_json::Value;

use crate::strategy::CachedObjects;

/// Why a service leads nowhere.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unresolved {
    #[error("service {0:?} not found")]
    Service(String),
    #[error("no service port {port} found for service {name:?}")]
    Port { name: String, port: u16 },
    #[error("no endpoints available for service {0:?}")]
    Endpoints(String),
}

/// Where a service's port can be reached.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Addresses {
    Endpoints(Vec<SocketAddr>),
    /// It stands for a name outside of the cluster.
    External(String, u16),
}

/// The ready endpoints behind a port of a service.
pub(crate) fn addresses(
    caches: &dyn CachedObjects,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<Addresses, Unresolved> {
    let service = caches.get(&SERVICE, Some(namespace), name).and_then(|service| service.tree().ok());
    let service = service.ok_or_else(|| Unresolved::Service(name.to_string()))?;
    if text(&service, "spec.type") == "ExternalName" {
        return Ok(Addresses::External(text(&service, "spec.externalName").to_string(), port));
    }
    let is_asked_for = |one: &&Value| number(one, "port") == i64::from(port);
    let known = items(&service, "spec.ports").iter().find(is_asked_for);
    let known = known.ok_or_else(|| Unresolved::Port { name: name.to_string(), port })?;
    let port_name = text(known, "name");
    let mut found = Vec::new();
    for slice in caches.list(&ENDPOINT_SLICE, Some(namespace)) {
        if slice.labels().get("kubernetes.io/service-name").is_none_or(|owner| owner != name) {
            continue;
        }
        let Ok(slice) = slice.tree() else { continue };
        let port = items(&slice, "ports").iter().find(|one| text(one, "name") == port_name);
        let Some(port) = port.and_then(|port| u16::try_from(number(port, "port")).ok()) else { continue };
        for endpoint in items(&slice, "endpoints") {
            if endpoint["conditions"]["ready"] == false {
                continue;
            }
            let addresses = items(endpoint, "addresses").iter().filter_map(Value::as_str);
            let addresses = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
            found.extend(addresses.map(|address| SocketAddr::new(address, port)));
        }
    }
    if found.is_empty() {
        return Err(Unresolved::Endpoints(name.to_string()));
    }
    Ok(Addresses::Endpoints(found))
}
