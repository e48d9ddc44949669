//! Services that ingresses name, down to the endpoints of each port.
//!
//! A route holds its service's [`Slot`], whose content is replaced as a whole when the service or its slices
//! change: the next request sees it, and nothing is rebuilt. Services that no route names are not followed.
//! Pods are asked directly, without the service's address in between. Where no endpoint is ready, those that
//! are ending but still serve are asked, as with the service proxy.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwap;
use client::{Informer, Informers};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;

use crate::facts::{Name, PortName};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Http1,
    /// HTTP/2 without TLS, from the first byte.
    Http2,
}

impl Protocol {
    fn of(app_protocol: Option<&str>) -> Self {
        match app_protocol {
            Some("kubernetes.io/h2c" | "grpc") => Protocol::Http2,
            _ => Protocol::Http1,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// Others come first until then, in milliseconds of [`crate::clock`].
    avoid_until: AtomicU64,
}

/// How long others come first after a connection could not be made.
const AVOIDED: u64 = 10_000;

impl Endpoint {
    fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Endpoint { address, avoid_until: AtomicU64::new(0) })
    }

    /// It could not be reached.
    pub(crate) fn failed(&self, now: u64) {
        self.avoid_until.store(now + AVOIDED, Relaxed);
    }
}

/// One port of a service.
#[derive(Debug)]
pub(crate) struct Port {
    name: String,
    number: u16,
    pub(crate) protocol: Protocol,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
}

/// A service as it stands.
#[derive(Debug, Default)]
pub(crate) struct State {
    ports: Vec<Port>,
}

impl State {
    /// From the service and its slices; `before` knows which endpoints have failed.
    fn of(service: &Service, slices: &[Arc<EndpointSlice>], before: &State) -> Self {
        let Some(spec) = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName"))
        else {
            return State::default();
        };
        let known: HashMap<SocketAddr, &Arc<Endpoint>> = before
            .ports
            .iter()
            .flat_map(|port| &port.endpoints)
            .map(|endpoint| (endpoint.address, endpoint))
            .collect();
        let port = |port: &ServicePort| {
            if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
                return None;
            }
            let name = port.name.clone().unwrap_or_default();
            let endpoints = addresses(slices, &name).into_iter().map(|address| {
                known.get(&address).map_or_else(|| Endpoint::new(address), |known| (*known).clone())
            });
            Some(Port {
                number: u16::try_from(port.port).ok()?,
                protocol: Protocol::of(port.app_protocol.as_deref()),
                endpoints: endpoints.collect(),
                name,
            })
        };
        State { ports: spec.ports.iter().flatten().filter_map(port).collect() }
    }

    pub(crate) fn port(&self, name: &PortName) -> Option<&Port> {
        self.ports.iter().find(|port| match name {
            PortName::Number(number) => port.number == *number,
            PortName::Name(name) => port.name == *name,
        })
    }
}

/// Where nothing but the machine itself answers. The API refuses such endpoints, too.
fn is_own(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
    };
    address.is_loopback() || address.is_unspecified() || address.is_multicast() || link_local
}

/// The endpoints of a port: of one family, as each of a service with both has an address of either.
fn addresses(slices: &[Arc<EndpointSlice>], port: &str) -> Vec<SocketAddr> {
    let mut ready = [Vec::new(), Vec::new()];
    let mut ending = [Vec::new(), Vec::new()];
    for slice in slices {
        let ports = slice.ports.iter().flatten().filter(|it| {
            it.name.as_deref().unwrap_or_default() == port && it.protocol.as_deref().unwrap_or("TCP") == "TCP"
        });
        for number in ports.filter_map(|port| u16::try_from(port.port?).ok()) {
            for endpoint in slice.endpoints.iter().flatten() {
                let conditions = endpoint.conditions.as_ref();
                let is_ready = conditions.and_then(|it| it.ready).unwrap_or(true);
                let is_serving = conditions.and_then(|it| it.serving).unwrap_or(is_ready);
                if !is_ready && !is_serving {
                    continue;
                }
                let into = if is_ready { &mut ready } else { &mut ending };
                let parsed = endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
                for address in parsed.filter(|address| !is_own(*address)) {
                    into[usize::from(address.is_ipv6())].push(SocketAddr::new(address, number));
                }
            }
        }
    }
    let found = ready.into_iter().chain(ending).find(|all| !all.is_empty());
    let mut found = found.unwrap_or_default();
    found.sort();
    found.dedup();
    found
}

/// A service that routes name.
#[derive(Debug)]
pub(crate) struct Slot {
    name: Name,
    state: ArcSwap<State>,
    turn: AtomicUsize,
}

impl Slot {
    /// One whose only port has these endpoints.
    #[cfg(test)]
    pub(crate) fn fixed(protocol: Protocol, endpoints: &[SocketAddr]) -> Arc<Self> {
        let slot = Slot { name: Name::default(), state: ArcSwap::default(), turn: AtomicUsize::new(0) };
        slot.set(protocol, endpoints);
        Arc::new(slot)
    }

    #[cfg(test)]
    pub(crate) fn set(&self, protocol: Protocol, endpoints: &[SocketAddr]) {
        let endpoints = endpoints.iter().map(|address| Endpoint::new(*address)).collect();
        let port = Port { name: String::new(), number: 80, protocol, endpoints };
        self.state.store(Arc::new(State { ports: vec![port] }));
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// The endpoint whose turn it is, but those that were tried; one that has just failed only if there is no
    /// other.
    pub(crate) fn pick(&self, port: &Port, tried: &[SocketAddr], now: u64) -> Option<Arc<Endpoint>> {
        let all = &port.endpoints;
        let first = self.turn.fetch_add(1, Relaxed);
        let turns = || {
            let in_turn = (0..all.len()).map(|at| &all[first.wrapping_add(at) % all.len()]);
            in_turn.filter(|endpoint| !tried.contains(&endpoint.address))
        };
        turns().find(|endpoint| endpoint.avoid_until.load(Relaxed) <= now).or_else(|| turns().next()).cloned()
    }
}

/// All slots, and what they are filled from.
pub(crate) struct Services {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    slots: Mutex<HashMap<Name, Arc<Slot>>>,
}

impl Services {
    /// Begins to follow.
    pub(crate) fn follow(informers: &Informers) -> Arc<Self> {
        let following =
            Arc::new(Services { services: informers.of(), slices: informers.of(), slots: Mutex::default() });
        let slots = following.clone();
        following.services.on_object_change(move |change| {
            let object = change.latest();
            slots.refresh(object.namespace().unwrap_or_default(), object.name());
        });
        let slots = following.clone();
        following.slices.on_object_change(move |change| {
            for slice in change.old.iter().chain(&change.new) {
                if let Some(service) = slice.labels().get(SERVICE_NAME) {
                    slots.refresh(slice.namespace().unwrap_or_default(), service);
                }
            }
        });
        following
    }

    pub(crate) async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
    }

    /// The slot of a service, which need not be there.
    pub(crate) fn slot(&self, namespace: &str, name: &str) -> Arc<Slot> {
        let key = (namespace.to_string(), name.to_string());
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(&key) {
            return slot.clone();
        }
        let slot = Arc::new(Slot { name: key.clone(), state: ArcSwap::default(), turn: AtomicUsize::new(0) });
        slots.insert(key, slot.clone());
        drop(slots);
        self.fill(&slot);
        slot
    }

    /// Lets go of slots that no route names any more.
    pub(crate) fn prune(&self) {
        self.slots.lock().retain(|_, slot| Arc::strong_count(slot) > 1);
    }

    fn refresh(&self, namespace: &str, name: &str) {
        let slot = self.slots.lock().get(&(namespace.to_string(), name.to_string())).cloned();
        if let Some(slot) = slot {
            self.fill(&slot);
        }
    }

    fn fill(&self, slot: &Slot) {
        let (namespace, name) = (&slot.name.0, &slot.name.1);
        let state = self.services.get(Some(namespace), name).map(|service| {
            let slices = self.slices.objects(Some(namespace));
            let own = slices.iter().filter(|slice| slice.labels().get(SERVICE_NAME) == Some(name));
            let own: Vec<Arc<EndpointSlice>> = own.filter_map(|slice| slice.typed().ok()).collect();
            State::of(&service, &own, &slot.state())
        });
        slot.state.store(Arc::new(state.unwrap_or_default()));
    }
}

#[cfg(test)]
mod tests;
