//! Which endpoints of a service port packets may go to from this node: readiness, traffic policies, hints.
//!
//! The rules are upstream's (`pkg/proxy/topology.go`, KEP-1669 and KEP-4444).

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Backend, EndpointFacts, Family, NodeFacts, PortFacts, ServiceFacts, SliceFacts};

/// What is known of one backend, merged over the slices that name it.
#[derive(Clone, Debug)]
struct Candidate<'a> {
    facts: &'a EndpointFacts,
    is_local: bool,
}

/// The endpoints of one service port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// For the traffic policy `Cluster`.
    pub(crate) cluster: BTreeSet<Backend>,
    /// For the traffic policy `Local`.
    pub(crate) local: BTreeSet<Backend>,
    /// Some endpoint somewhere could be used.
    pub(crate) exists: bool,
    /// Those of the above that are on this node: their packets to themselves must be masqueraded.
    pub(crate) own: BTreeSet<Backend>,
    /// Every endpoint that serves; flows to others are stale.
    pub(crate) serving: BTreeSet<Backend>,
}

/// Where packets prefer to go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Preference {
    None,
    SameNode,
    SameZone,
}

/// Chooses among the endpoints of a port. `reached_from_outside`: it has node ports or external addresses.
pub(crate) fn choose<'a>(
    service: &ServiceFacts,
    port: &PortFacts,
    slices: impl Iterator<Item = &'a SliceFacts>,
    family: Family,
    node: &NodeFacts,
    reached_from_outside: bool,
) -> Chosen {
    let candidates = candidates(port, slices, family, node);
    let mut chosen = Chosen::default();
    let serving = candidates.iter().filter(|(_, candidate)| candidate.facts.serving);
    chosen.serving = serving.map(|(backend, _)| *backend).collect();
    let pick = |wanted: &dyn Fn(&Candidate<'_>) -> bool| -> BTreeSet<Backend> {
        candidates.iter().filter(|(_, it)| wanted(it)).map(|(backend, _)| *backend).collect()
    };
    if !service.internal_local || reached_from_outside {
        let zone = node.zone.as_deref();
        let preference = preference(&candidates, &node.name, zone);
        chosen.cluster = pick(&|it| it.facts.ready && is_preferred(it.facts, preference, &node.name, zone));
        if chosen.cluster.is_empty() {
            chosen.cluster = pick(&|it| it.facts.is_leaving());
        }
        chosen.exists = !chosen.cluster.is_empty();
    }
    if service.internal_local || service.external_local {
        chosen.exists |= candidates.values().any(|it| it.facts.ready || it.facts.is_leaving());
        chosen.local = pick(&|it| it.is_local && it.facts.ready);
        if chosen.local.is_empty() {
            chosen.local = pick(&|it| it.is_local && it.facts.is_leaving());
        }
    }
    let used = |backend: &Backend| chosen.cluster.contains(backend) || chosen.local.contains(backend);
    let own = candidates.iter().filter(|(backend, it)| it.is_local && used(backend));
    chosen.own = own.map(|(backend, _)| *backend).collect();
    chosen
}

/// The backends of a port. Of two slices that name the same one, the readier counts.
fn candidates<'a>(
    port: &PortFacts,
    slices: impl Iterator<Item = &'a SliceFacts>,
    family: Family,
    node: &NodeFacts,
) -> BTreeMap<Backend, Candidate<'a>> {
    let mut candidates: BTreeMap<Backend, Candidate<'a>> = BTreeMap::new();
    for slice in slices {
        let ports =
            slice.ports.iter().filter(|(name, protocol, _)| *name == port.name && *protocol == port.protocol);
        for (_, _, number) in ports {
            for facts in slice.endpoints.iter().filter(|facts| Family::of(facts.address) == family) {
                let is_local = facts.node.as_deref() == Some(node.name.as_str());
                let fresh = Candidate { facts, is_local };
                candidates
                    .entry(Backend::new(facts.address, *number))
                    .and_modify(|known| {
                        let rank = |facts: &EndpointFacts| (facts.ready, facts.serving, !facts.terminating);
                        let is_local = known.is_local || is_local;
                        if rank(facts) > rank(known.facts) {
                            known.facts = facts;
                        }
                        known.is_local = is_local;
                    })
                    .or_insert(fresh);
            }
        }
    }
    candidates
}

/// Hints count only if every ready endpoint has them and one of them means this node or zone.
fn preference(candidates: &BTreeMap<Backend, Candidate<'_>>, node: &str, zone: Option<&str>) -> Preference {
    let ready = || candidates.values().filter(|it| it.facts.ready).map(|it| it.facts);
    if ready().next().is_none() {
        return Preference::None;
    }
    let all_nodes = ready().all(|facts| !facts.node_hints.is_empty());
    if all_nodes && ready().any(|facts| facts.node_hints.iter().any(|hint| hint == node)) {
        return Preference::SameNode;
    }
    let all_zones = ready().all(|facts| !facts.zone_hints.is_empty());
    let in_zone =
        |facts: &EndpointFacts| zone.is_some_and(|zone| facts.zone_hints.iter().any(|hint| hint == zone));
    if all_zones && ready().any(in_zone) {
        return Preference::SameZone;
    }
    Preference::None
}

fn is_preferred(facts: &EndpointFacts, preference: Preference, node: &str, zone: Option<&str>) -> bool {
    match preference {
        Preference::None => true,
        Preference::SameNode => facts.node_hints.iter().any(|hint| hint == node),
        Preference::SameZone => zone.is_some_and(|zone| facts.zone_hints.iter().any(|hint| hint == zone)),
    }
}
