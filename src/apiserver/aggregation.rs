//! Groups that other servers serve: `APIService`s that name a service.
//!
//! A request for such a group is handed on as it is, with the caller's name in headers (`X-Remote-*`) that
//! the other server believes because of the certificate that this one shows. Which servers there are is read
//! from the objects when one has changed; whether they answer is found out by asking them
//! ([`availability`]), and told in their status, which is also what decides here. A version that this server
//! has itself is never another's.
//!
//! Absent: the documents of other servers in `/openapi/v2`.

pub(crate) mod availability;
pub(crate) mod described;
pub(crate) mod paths;
pub(crate) mod reader;
pub(crate) mod trust;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock, Weak};

use api::json::{items, number, text};
use api::kinds::API_SERVICE;
use bytes::Bytes;
use http::request::Builder;
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::cache::{Caches, KindCache};
use crate::config::FrontProxy;
use crate::outbound::{ClientIdentity, Outbound, Trust, bundle};
use crate::registry::{Answer, Resources};
use described::Described;

/// A group and version that another server serves.
pub(crate) struct Remote {
    /// Of its APIService.
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) service: String,
    pub(crate) port: u16,
    authorities: Option<Bytes>,
    anybody: bool,
    pub(crate) is_available: bool,
    /// By which groups, and versions of one, are ordered.
    priority: (i64, i64),
}

/// The answers of the aggregated discovery, in both versions of its form, for as long as what they are made
/// of is the same.
pub(crate) struct Merged {
    own: Weak<Resources>,
    remotes: Arc<[Remote]>,
    /// How often a description had changed.
    changes: u64,
    pub(crate) answers: [OnceLock<Answer>; 2],
}

/// What servers have said of themselves.
#[derive(Default)]
struct Descriptions {
    /// By name of the APIService.
    by_name: HashMap<String, Arc<Described>>,
    changes: u64,
}

/// All that are there.
pub(crate) struct Aggregation {
    cache: Option<Arc<KindCache>>,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) front_proxy: watch::Receiver<Option<FrontProxy>>,
    loaded: Mutex<(Option<u64>, Arc<[Remote]>)>,
    described: Mutex<Descriptions>,
    merged: Mutex<Option<Arc<Merged>>>,
}

impl Remote {
    fn new(service: &Value) -> Option<Self> {
        let spec = &service["spec"];
        let at = &spec["service"];
        if !at.is_object() {
            return None;
        }
        let condition = items(service, "status.conditions").iter().find(|one| one["type"] == "Available");
        Some(Remote {
            name: text(service, "metadata.name").to_string(),
            group: text(spec, "group").to_string(),
            version: text(spec, "version").to_string(),
            namespace: text(at, "namespace").to_string(),
            service: text(at, "name").to_string(),
            port: at["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            authorities: bundle(spec),
            anybody: spec["insecureSkipTLSVerify"] == true,
            is_available: condition.is_some_and(|one| one["status"] == "True"),
            priority: (number(spec, "groupPriorityMinimum"), number(spec, "versionPriority")),
        })
    }

    /// A URL of the server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}.{}.svc:{}{path}", self.service, self.namespace, self.port)
    }
}

impl Aggregation {
    pub(crate) fn new(
        caches: &Caches,
        outbound: Arc<Outbound>,
        front_proxy: watch::Receiver<Option<FrontProxy>>,
    ) -> Self {
        Aggregation {
            cache: caches.kind(&API_SERVICE),
            outbound,
            front_proxy,
            loaded: Mutex::new((None, Arc::new([]))),
            described: Mutex::default(),
            merged: Mutex::default(),
        }
    }

    /// All remote versions, those of the most important groups first.
    pub(crate) fn remotes(&self) -> Arc<[Remote]> {
        let Some(cache) = &self.cache else { return Arc::new([]) };
        let change = Some(cache.last_change());
        let mut loaded = self.loaded.lock();
        if loaded.0 != change {
            let entries = cache.list(&cache.prefix(None));
            let trees = entries.iter().filter_map(|entry| entry.object.tree().ok());
            let mut remotes: Vec<Remote> = trees.filter_map(|tree| Remote::new(&tree)).collect();
            remotes.sort_by(|one, two| two.priority.cmp(&one.priority).then_with(|| one.name.cmp(&two.name)));
            *loaded = (change, remotes.into());
        }
        loaded.1.clone()
    }

    /// Whom a server is trusted as, and who asks it.
    pub(crate) fn trust(&self, remote: &Remote) -> Trust {
        let identity = self.front_proxy.borrow().as_ref().map(|proxy| ClientIdentity {
            certificate_pem: proxy.certificate_pem.clone(),
            key_pem: proxy.key_pem.clone(),
        });
        Trust { authorities: remote.authorities.clone(), anybody: remote.anybody, identity }
    }

    /// What a server that is available has said of itself.
    pub(crate) fn described(&self, remote: &Remote) -> Option<Arc<Described>> {
        self.described.lock().by_name.get(&remote.name).filter(|_| remote.is_available).cloned()
    }

    /// Answers that have been made of what there is now, or that are to be made.
    pub(crate) fn merged(&self, own: &Arc<Resources>) -> Arc<Merged> {
        let remotes = self.remotes();
        // Before anybody reads the descriptions: what changes later makes another answer.
        let changes = self.described.lock().changes;
        let mut merged = self.merged.lock();
        if let Some(merged) = &*merged
            && merged.own.as_ptr() == Arc::as_ptr(own)
            && Arc::ptr_eq(&merged.remotes, &remotes)
            && merged.changes == changes
        {
            return merged.clone();
        }
        let own = Arc::downgrade(own);
        let new = Arc::new(Merged { own, remotes, changes, answers: Default::default() });
        *merged = Some(new.clone());
        new
    }

    /// Notes what a server says of itself, if that can be told on.
    fn describe(&self, name: &str, new: Option<Described>) {
        let mut described = self.described.lock();
        if described.by_name.get(name).map(|old| &**old) == new.as_ref() {
            return;
        }
        described.changes += 1;
        match new {
            Some(new) => drop(described.by_name.insert(name.to_string(), Arc::new(new))),
            None => drop(described.by_name.remove(name)),
        }
    }

    fn forget_others(&self, remotes: &[Remote]) {
        let names: HashSet<&str> = remotes.iter().map(|remote| &*remote.name).collect();
        self.described.lock().by_name.retain(|name, _| names.contains(&**name));
    }
}

/// Headers that say who the caller is.
pub(crate) fn set_caller(mut request: Builder, user: &api::Identity) -> Builder {
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value))
            && let Some(headers) = request.headers_mut()
        {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    user.groups.iter().for_each(|group| add("x-remote-group", group));
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escaped(key));
        values.iter().for_each(|value| add(&name, value));
    }
    request
}

/// Names of headers have few letters; the others are escaped as in a URL.
fn escaped(key: &str) -> String {
    let letter = |byte: u8| match byte {
        b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        b'A'..=b'Z' => char::from(byte.to_ascii_lowercase()).to_string(),
        other => format!("%{other:02X}"),
    };
    key.bytes().map(letter).collect()
}
