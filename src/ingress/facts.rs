//! What counts of an Ingress.
//!
//! Annotations of ours: `ingress.minik8s.io/ssl-redirect: "false"` keeps plain HTTP where TLS is set, and
//! `ingress.minik8s.io/response-timeout` (seconds, `0` for none) is how long a backend may take to begin its
//! answer. Those of other controllers mean nothing here.

use std::collections::HashSet;
use std::time::Duration;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressTLS};
use k8s_openapi::jiff::Timestamp;

use crate::paths::{Kind, as_sent};

const REDIRECT: &str = "ingress.minik8s.io/ssl-redirect";
const TIMEOUT: &str = "ingress.minik8s.io/response-timeout";
/// How long a backend may take to begin its answer, unless the ingress says something else.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Namespace and name.
pub(crate) type Name = (String, String);

/// A port of a service, as a backend names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PortName {
    Number(u16),
    Name(String),
}

impl std::fmt::Display for PortName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PortName::Number(number) => write!(out, "{number}"),
            PortName::Name(name) => write!(out, "{name}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// A service of the ingress' namespace.
    Service { name: String, port: PortName },
    /// Another kind of object, which nobody here knows.
    Resource { kind: String, name: String },
}

impl Backend {
    fn of(backend: &IngressBackend) -> Option<Self> {
        if let Some(service) = &backend.service {
            let port = service.port.as_ref()?;
            let number = port.number.and_then(|number| u16::try_from(number).ok()).map(PortName::Number);
            let port = number.or_else(|| port.name.clone().map(PortName::Name))?;
            return Some(Backend::Service { name: service.name.clone(), port });
        }
        let resource = backend.resource.as_ref()?;
        Some(Backend::Resource { kind: resource.kind.clone(), name: resource.name.clone() })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathRule {
    pub(crate) kind: Kind,
    /// As clients send it.
    pub(crate) path: String,
    pub(crate) backend: Backend,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// In lower case; empty for every host, `*.domain` for one label more.
    pub(crate) host: String,
    pub(crate) paths: Vec<PathRule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Empty: those of the ingress' rules. An ingress has one such entry at most.
    pub(crate) hosts: Vec<String>,
    /// In the order in which they are asked for a certificate, each once.
    pub(crate) secrets: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IngressFacts {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) created: Option<Timestamp>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) default: Option<Backend>,
    pub(crate) tls: Vec<Tls>,
    /// Plain HTTP is sent to HTTPS where there is TLS.
    pub(crate) redirects: bool,
    /// None: a backend may take as long as it likes.
    pub(crate) response_timeout: Option<Duration>,
}

impl IngressFacts {
    pub(crate) fn of(ingress: &Ingress) -> Self {
        let meta = &ingress.metadata;
        let annotation = |name: &str| meta.annotations.as_ref().and_then(|all| all.get(name));
        let spec = ingress.spec.as_ref();
        let rules = spec.and_then(|spec| spec.rules.as_ref()).into_iter().flatten().map(|rule| Rule {
            host: rule.host.as_deref().unwrap_or_default().to_ascii_lowercase(),
            paths: rule.http.iter().flat_map(|http| &http.paths).filter_map(path_rule).collect(),
        });
        let response_timeout = match annotation(TIMEOUT).and_then(|text| text.trim().parse().ok()) {
            Some(0) => None,
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => Some(RESPONSE_TIMEOUT),
        };
        IngressFacts {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            rules: rules.collect(),
            default: spec.and_then(|spec| spec.default_backend.as_ref()).and_then(Backend::of),
            tls: spec.and_then(|spec| spec.tls.as_deref()).map(tls_of).unwrap_or_default(),
            redirects: annotation(REDIRECT).is_none_or(|value| value != "false"),
            response_timeout,
        }
    }

    pub(crate) fn key(&self) -> Name {
        (self.namespace.clone(), self.name.clone())
    }

    /// Hosts that an entry of TLS is for: those it names, else those of the rules.
    pub(crate) fn hosts_of<'a>(&'a self, tls: &'a Tls) -> impl Iterator<Item = &'a str> {
        let of_rules = self.rules.iter().filter(|_| tls.hosts.is_empty()).map(|rule| rule.host.as_str());
        of_rules.chain(tls.hosts.iter().map(String::as_str))
    }
}

/// Entries without hosts mean the same hosts, so they become one: what is made of TLS stays as large as the
/// ingress is, and does not grow with the product of its entries and its rules.
fn tls_of(entries: &[IngressTLS]) -> Vec<Tls> {
    let mut all: Vec<Tls> = Vec::new();
    let mut of_rules: Option<usize> = None;
    let mut seen: HashSet<&str> = HashSet::new();
    for entry in entries {
        let hosts: Vec<String> = entry.hosts.iter().flatten().map(|host| host.to_ascii_lowercase()).collect();
        let secret = entry.secret_name.as_deref().filter(|name| !name.is_empty());
        if !hosts.is_empty() {
            all.push(Tls { hosts, secrets: secret.map(str::to_string).into_iter().collect() });
            continue;
        }
        let at = *of_rules.get_or_insert_with(|| {
            all.push(Tls { hosts, secrets: Vec::new() });
            all.len() - 1
        });
        all[at].secrets.extend(secret.filter(|name| seen.insert(name)).map(str::to_string));
    }
    all
}

/// Oldest first: whoever was there first has what several want.
pub(crate) fn by_age(all: &mut [IngressFacts]) {
    all.sort_by(|one, other| {
        let key = |it: &IngressFacts| (it.created.is_none(), it.created);
        key(one)
            .cmp(&key(other))
            .then_with(|| one.uid.cmp(&other.uid))
            .then_with(|| one.key().cmp(&other.key()))
    });
}

fn path_rule(path: &HTTPIngressPath) -> Option<PathRule> {
    let text = path.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    Some(PathRule {
        kind: if path.path_type == "Exact" { Kind::Exact } else { Kind::Prefix },
        path: as_sent(text),
        backend: Backend::of(&path.backend)?,
    })
}

#[cfg(test)]
mod tests;
