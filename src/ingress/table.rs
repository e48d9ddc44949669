//! Which request goes where: hosts and paths of all ingresses. Pure.
//!
//! A host that is named exactly wins over a wildcard, a wildcard over rules without a host; what no path of
//! one matches is looked up in the next. An ingress' default backend has what no path of the hosts that it
//! names matches, before any wildcard above them is asked; the oldest one has all that nobody else has.
//!
//! Ingresses are written by people who do not trust each other. Of two rules for the same host and path the
//! older ingress has it. A rule of another namespace is also left out where it would take requests that an
//! older ingress has now: below one of its prefixes on the same host, on a host that its default backend has,
//! or for a host below its wildcard.
//! Whoever names no host owns none.

use std::collections::HashMap;

use crate::facts::{Backend, IngressFacts, Name, Rule};
use crate::paths::{Kind, Paths};

/// Something about an ingress that its author should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    pub(crate) ingress: Name,
    /// As an event's.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// A target with the number of its ingress, in the order of age.
#[derive(Clone, Debug)]
struct Owned<T> {
    owner: usize,
    target: T,
}

#[derive(Clone, Debug)]
pub(crate) struct Table<T> {
    exact: HashMap<String, Paths<Owned<T>>>,
    /// By what follows the `*`.
    wildcards: HashMap<String, Paths<Owned<T>>>,
    any: Paths<Owned<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { exact: HashMap::new(), wildcards: HashMap::new(), any: Paths::default() }
    }
}

/// What follows the first label, with its dot.
pub(crate) fn domain(host: &str) -> Option<&str> {
    host.find('.').filter(|at| *at > 0).map(|at| &host[at..])
}

impl<T> Table<T> {
    /// The table of ingresses in the order of age. `target` makes what a rule leads to, or says why it leads
    /// nowhere.
    pub(crate) fn build(
        ingresses: &[IngressFacts],
        mut target: impl FnMut(&IngressFacts, &Backend) -> Option<T>,
    ) -> (Self, Vec<Fault>) {
        let mut building =
            Building { table: Table::default(), ingresses, owners: HashMap::new(), faults: Vec::new() };
        for (number, ingress) in ingresses.iter().enumerate() {
            for rule in &ingress.rules {
                building.add_rule(number, rule, &mut target);
            }
            if let Some(backend) = &ingress.default {
                building.add_default(number, backend, &mut target);
            }
        }
        (building.table, building.faults)
    }

    /// Where a request goes. The host is in lower case and has no port.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&T> {
        let exact = self.exact.get(host);
        let wildcard = domain(host).and_then(|domain| self.wildcards.get(domain));
        let mut places = exact.into_iter().chain(wildcard).chain([&self.any]);
        places.find_map(|paths| paths.find(path).or(paths.default.as_ref())).map(|owned| &owned.target)
    }

    fn paths(&mut self, host: &str) -> &mut Paths<Owned<T>> {
        match host.strip_prefix('*') {
            _ if host.is_empty() => &mut self.any,
            Some(domain) => self.wildcards.entry(domain.to_string()).or_default(),
            None => self.exact.entry(host.to_string()).or_default(),
        }
    }
}

struct Building<'a, T> {
    table: Table<T>,
    ingresses: &'a [IngressFacts],
    /// The first ingress that has each wildcard.
    owners: HashMap<&'a str, usize>,
    faults: Vec<Fault>,
}

impl<'a, T> Building<'a, T> {
    fn fault(&mut self, number: usize, reason: &'static str, message: String) {
        self.faults.push(Fault { ingress: self.ingresses[number].key(), reason, message });
    }

    fn is_foreign(&self, owner: usize, number: usize) -> bool {
        self.ingresses[owner].namespace != self.ingresses[number].namespace
    }

    fn named(&self, owner: usize) -> String {
        let ingress = &self.ingresses[owner];
        format!("Ingress {}/{}", ingress.namespace, ingress.name)
    }

    fn add_rule(
        &mut self,
        number: usize,
        rule: &'a Rule,
        target: &mut impl FnMut(&IngressFacts, &Backend) -> Option<T>,
    ) {
        let host = rule.host.as_str();
        if let Some(wildcard) = host.strip_prefix('*') {
            self.owners.entry(wildcard).or_insert(number);
        } else if let Some(owner) = self.wildcard_above(number, host) {
            let message =
                format!("host {host:?} is left out: {} has the wildcard above it", self.named(owner));
            return self.fault(number, "HostConflict", message);
        }
        for path in &rule.paths {
            if let Some(owner) = self.taken(number, host, path.kind, &path.path) {
                let text = &path.path;
                let message =
                    format!("path {text:?} of host {host:?} is left out: {} has it", self.named(owner));
                self.fault(number, "PathConflict", message);
                continue;
            }
            // Twice in the same ingress: the first counts.
            if self.table.paths(host).get(path.kind, &path.path).is_some() {
                continue;
            }
            match target(&self.ingresses[number], &path.backend) {
                Some(target) => {
                    self.table.paths(host).insert(path.kind, &path.path, Owned { owner: number, target });
                }
                None => self.unknown_backend(number, &path.backend),
            }
        }
    }

    /// The older ingress of another namespace that has the wildcard above a host.
    fn wildcard_above(&self, number: usize, host: &str) -> Option<usize> {
        let owner =
            domain(host).filter(|_| !host.starts_with('*')).and_then(|domain| self.owners.get(domain));
        owner.copied().filter(|owner| self.is_foreign(*owner, number))
    }

    /// The older ingress that has what a new rule would take.
    fn taken(&mut self, number: usize, host: &str, kind: Kind, path: &str) -> Option<usize> {
        let paths = self.table.paths(host);
        let same = paths.get(kind, path).map(|owned| owned.owner);
        let covering: Vec<usize> = if host.is_empty() {
            Vec::new()
        } else {
            // A default backend has its host as a path `/` would.
            paths.covering(path).chain(&paths.default).map(|owned| owned.owner).collect()
        };
        let foreign = covering.into_iter().find(|owner| self.is_foreign(*owner, number));
        same.filter(|owner| *owner != number).or(foreign)
    }

    /// For the hosts that the ingress names, and for all that nobody else has.
    fn add_default(
        &mut self,
        number: usize,
        backend: &Backend,
        target: &mut impl FnMut(&IngressFacts, &Backend) -> Option<T>,
    ) {
        let ingress = &self.ingresses[number];
        for host in ingress.rules.iter().map(|rule| rule.host.as_str()).chain([""]) {
            if self.wildcard_above(number, host).is_some() || self.table.paths(host).default.is_some() {
                continue;
            }
            match target(ingress, backend) {
                Some(target) => self.table.paths(host).default = Some(Owned { owner: number, target }),
                None => return self.unknown_backend(number, backend),
            }
        }
        let has = self.table.any.default.as_ref().map(|owned| owned.owner);
        if let Some(owner) = has.filter(|owner| *owner != number && ingress.rules.is_empty()) {
            let message = format!("the default backend is left out: {} has one", self.named(owner));
            self.fault(number, "DefaultBackendConflict", message);
        }
    }

    fn unknown_backend(&mut self, number: usize, backend: &Backend) {
        let message = match backend {
            Backend::Resource { kind, name } => {
                format!("backend {kind} {name:?} is not supported: only services are")
            }
            Backend::Service { name, .. } => format!("backend service {name:?} cannot be used"),
        };
        self.fault(number, "UnsupportedBackend", message);
    }
}

#[cfg(test)]
mod tests;
