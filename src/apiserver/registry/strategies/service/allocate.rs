//! Handing out cluster IPs and node ports.
//!
//! What is in use is read from the watch cache, which a writer's own write has reached before it is answered; what is
//! being written right now is held in a set of reservations. So there is no bitmap that could differ from the objects,
//! nothing to repair after a crash, and two creates at once still get two addresses.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::kinds::SERVICE;
use api::{ApiError, FieldError};
use k8s_openapi::api::core::v1::Service;
use parking_lot::Mutex;
use rand::Rng;
use serde_json::{Value, json};

use super::{is_headless, needs_cluster_ip, needs_node_ports};

use crate::printers::{items, text};
use crate::registry::strategies::{items_mut, object};
use crate::strategy::{CachedObjects, RequestContext, Reservation};

pub(super) const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;
/// Random tries before the range is searched through.
const TRIES: usize = 64;

/// Something unique that is being written, by the caches of the server that writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Taken {
    Address(usize, IpAddr),
    Port(usize, u16),
}

static IN_FLIGHT: Mutex<Option<HashSet<Taken>>> = Mutex::new(None);

/// Gives back on drop.
#[derive(Default)]
struct Held(Vec<Taken>);

impl Held {
    /// False if somebody else is writing it.
    fn take(&mut self, one: Taken) -> bool {
        let fresh = IN_FLIGHT.lock().get_or_insert_default().insert(one.clone());
        if fresh {
            self.0.push(one);
        }
        fresh
    }

    fn release(&mut self, one: &Taken) {
        self.0.retain(|own| own != one);
        if let Some(all) = IN_FLIGHT.lock().as_mut() {
            all.remove(one);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut flying = IN_FLIGHT.lock();
        if let Some(all) = flying.as_mut() {
            for one in self.0.drain(..) {
                all.remove(&one);
            }
        }
    }
}

pub(super) fn reserve(
    ctx: &RequestContext<'_>,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<Option<Reservation>, ApiError> {
    let mut held = Held::default();
    cluster_ip(ctx, new, old, &mut held)?;
    node_ports(ctx, new, old, &mut held)?;
    if held.0.is_empty() { Ok(None) } else { Ok(Some(Box::new(held))) }
}

fn invalid(new: &Value, fault: FieldError) -> ApiError {
    ApiError::invalid(&SERVICE, text(new, "metadata.name"), vec![fault])
}

fn key(caches: &dyn CachedObjects) -> usize {
    std::ptr::from_ref(caches).cast::<()>() as usize
}

fn cluster_ip(
    ctx: &RequestContext<'_>,
    new: &mut Value,
    old: Option<&Value>,
    held: &mut Held,
) -> Result<(), ApiError> {
    if !needs_cluster_ip(new) || is_headless(new) {
        return Ok(());
    }
    let wanted = text(new, "spec.clusterIP").to_string();
    let kept = old.is_some_and(|old| {
        needs_cluster_ip(old) && text(old, "spec.clusterIP") == wanted && !wanted.is_empty()
    });
    if kept {
        return Ok(());
    }
    let range = Range::parse(&ctx.config.service_cidr).ok_or_else(|| {
        ApiError::internal(format!("the service range {:?} is no CIDR", ctx.config.service_cidr))
    })?;
    if wanted.is_empty() {
        let address = range
            .next(ctx.caches, held)
            .ok_or_else(|| ApiError::internal("failed to allocate a serviceIP: range is full"))?;
        if let Some(spec) = object(new, "spec") {
            spec.insert("clusterIP".into(), json!(address.to_string()));
            spec.insert("clusterIPs".into(), json!([address.to_string()]));
        }
        return Ok(());
    }
    // What is no address at all is for validation to say.
    let Ok(address) = wanted.parse::<IpAddr>() else { return Ok(()) };
    let failed = |why: String| {
        let message = format!("failed to allocate IP {wanted}: {why}");
        let fault = FieldError::invalid("spec.clusterIPs", &new["spec"]["clusterIPs"], message);
        invalid(new, fault)
    };
    if !range.contains(address) {
        let cidr = &ctx.config.service_cidr;
        return Err(failed(format!(
            "provided IP is not in the valid range. The range of valid IPs is {cidr}"
        )));
    }
    if !claim(ctx.caches, held, address) {
        return Err(failed("provided IP is already allocated".to_string()));
    }
    Ok(())
}

/// Takes an address if no service has it and none is being given it.
fn claim(caches: &dyn CachedObjects, held: &mut Held, address: IpAddr) -> bool {
    let taken = Taken::Address(key(caches), address);
    if !held.take(taken.clone()) {
        return false;
    }
    // Looked up after it is taken: a write that ended in between is in the cache by now.
    let free = caches.indexed(&SERVICE, "spec.clusterIP", &address.to_string()).is_empty();
    if !free {
        held.release(&taken);
    }
    free
}

/// The addresses of a CIDR that can be given out: all but the first and, in IPv4, the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    first: IpAddr,
    count: u128,
}

impl Range {
    pub(super) fn parse(cidr: &str) -> Option<Range> {
        let (address, bits) = cidr.split_once('/')?;
        let bits: u32 = bits.parse().ok()?;
        match address.parse().ok()? {
            IpAddr::V4(v4) if bits <= 32 => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                let base = u32::from(v4) & mask;
                let size = 1_u128 << (32 - bits);
                Some(Range {
                    first: Ipv4Addr::from(base.wrapping_add(1)).into(),
                    count: size.saturating_sub(2),
                })
            }
            IpAddr::V6(v6) if bits <= 128 => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                let base = u128::from(v6) & mask;
                // More than can ever be used of a large range.
                let size = 1_u128 << (128 - bits).min(32);
                Some(Range {
                    first: Ipv6Addr::from(base.wrapping_add(1)).into(),
                    count: size.saturating_sub(1),
                })
            }
            _ => None,
        }
    }

    pub(super) fn nth(&self, index: u128) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => Ipv4Addr::from(u32::from(first).wrapping_add(index as u32)).into(),
            IpAddr::V6(first) => Ipv6Addr::from(u128::from(first).wrapping_add(index)).into(),
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let offset = match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(one)) => u128::from(u32::from(one).wrapping_sub(u32::from(first))),
            (IpAddr::V6(first), IpAddr::V6(one)) => u128::from(one).wrapping_sub(u128::from(first)),
            _ => return false,
        };
        offset < self.count
    }

    /// Addresses up to here are left to those who ask for a certain one, as long as others are free (KEP-3070).
    fn reserved(&self) -> u128 {
        match self.count / 16 {
            small if small < 16 => 0,
            share => share.min(256),
        }
    }

    fn next(&self, caches: &dyn CachedObjects, held: &mut Held) -> Option<IpAddr> {
        if self.count == 0 {
            return None;
        }
        let low = self.reserved();
        let mut random = rand::rng();
        for _ in 0..TRIES {
            let address = self.nth(random.random_range(low..self.count));
            if claim(caches, held, address) {
                return Some(address);
            }
        }
        let all = (low..self.count).chain(0..low);
        all.map(|index| self.nth(index)).find(|address| claim(caches, held, *address))
    }
}

fn node_ports(
    ctx: &RequestContext<'_>,
    new: &mut Value,
    old: Option<&Value>,
    held: &mut Held,
) -> Result<(), ApiError> {
    if !needs_node_ports(new) {
        return Ok(());
    }
    let own: HashSet<u16> =
        old.into_iter().flat_map(|old| items(old, "spec.ports")).filter_map(node_port).collect();
    let mine = asked_ports(ctx, new, &own, held)?;
    let missing = items(new, "spec.ports").iter().filter(|one| node_port(one).is_none()).count();
    if missing == 0 {
        return Ok(());
    }
    let mut chosen =
        free_ports(ctx, missing, &|number| mine.contains(&number) || own.contains(&number), held)
            .ok_or_else(|| ApiError::internal("failed to allocate a nodePort: range is full"))?;
    let Some(spec) = new.get_mut("spec") else { return Ok(()) };
    for one in items_mut(spec, "ports").iter_mut().filter(|one| node_port(one).is_none()) {
        one["nodePort"] = json!(chosen.pop());
    }
    Ok(())
}

fn node_port(port: &Value) -> Option<u16> {
    port["nodePort"].as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0)
}

/// Takes the ports that the service names itself.
fn asked_ports(
    ctx: &RequestContext<'_>,
    new: &Value,
    own: &HashSet<u16>,
    held: &mut Held,
) -> Result<HashSet<u16>, ApiError> {
    let refused = |index: usize, number: u16, message: &str| {
        let field = format!("spec.ports[{index}].nodePort");
        Err(invalid(new, FieldError::invalid(field, number, message)))
    };
    let allocated = "provided port is already allocated";
    let mut mine = HashSet::new();
    let mut taken = Vec::new();
    for (index, number) in items(new, "spec.ports").iter().map(node_port).enumerate() {
        let Some(number) = number else { continue };
        // One number may serve two protocols of a service.
        let fresh = mine.insert(number);
        if own.contains(&number) || !fresh {
            continue;
        }
        if !NODE_PORTS.contains(&number) {
            let message = "provided port is not in the valid range. The range of valid ports is 30000-32767";
            return refused(index, number, message);
        }
        if !held.take(Taken::Port(key(ctx.caches), number)) {
            return refused(index, number, allocated);
        }
        taken.push((index, number));
    }
    if !taken.is_empty() {
        // Looked up after they are taken: a write that ended in between is in the cache by now.
        let used = used_ports(ctx.caches);
        if let Some((index, number)) = taken.iter().find(|(_, number)| used.contains(number)) {
            return refused(*index, *number, allocated);
        }
    }
    Ok(mine)
}

/// Takes so many ports that nobody has; none if there are not so many.
fn free_ports(
    ctx: &RequestContext<'_>,
    count: usize,
    excluded: &dyn Fn(u16) -> bool,
    held: &mut Held,
) -> Option<Vec<u16>> {
    let (mut good, mut used) = (Vec::new(), HashSet::new());
    // Most of the range is free, so the first round, which knows of no port in use, is the last one as a rule.
    while good.len() < count {
        let start = rand::rng().random_range(NODE_PORTS);
        let candidates = (start..=*NODE_PORTS.end()).chain(*NODE_PORTS.start()..start);
        let mut candidates = candidates
            .filter(|number| !used.contains(number) && !good.contains(number) && !excluded(*number));
        let mut round = Vec::new();
        while good.len() + round.len() < count {
            let number = candidates.find(|number| held.take(Taken::Port(key(ctx.caches), *number)))?;
            round.push(number);
        }
        drop(candidates);
        // As above: first taken, then looked up.
        used = used_ports(ctx.caches);
        for number in round {
            if used.contains(&number) {
                held.release(&Taken::Port(key(ctx.caches), number));
            } else {
                good.push(number);
            }
        }
    }
    Some(good)
}

fn used_ports(caches: &dyn CachedObjects) -> HashSet<u16> {
    let mut used = HashSet::new();
    for object in caches.list(&SERVICE, None) {
        let Ok(service) = object.typed::<Service>() else { continue };
        let ports = service.spec.iter().filter_map(|spec| spec.ports.as_ref()).flatten();
        used.extend(ports.filter_map(|port| port.node_port).filter_map(|number| u16::try_from(number).ok()));
    }
    used
}
