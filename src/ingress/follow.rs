//! Follows ingresses, classes and the secrets that ingresses name, and keeps routes and certificates as they
//! say.
//!
//! While there is no ingress to serve, two informers are all there is: services and slices are followed, and
//! ports opened, from the first ingress on. Secrets are followed one by one, with the node's own identity:
//! the Node authorizer lets a node read those that such an ingress names for TLS, and no others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::ingress::Classes;
use api::{FieldSelector, LabelSelector};
use client::{Informer, Informers, Subscription};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use rustls::sign::CertifiedKey;
use tokio::sync::{Notify, watch};

use crate::certificates::{Resolver, Shown, Wanted, certified, wanted};
use crate::facts::{Backend, IngressFacts, Name, by_age};
use crate::proxy::{Owner, Proxy, Route};
use crate::services::Services;
use crate::table::Table;

/// How long the first certificates are waited for before the ports are opened.
const PATIENCE: Duration = Duration::from_secs(5);

/// The ingresses that are served here, in the order of age.
pub(crate) fn ours(ingresses: &Informer<Ingress>, classes: &Informer<IngressClass>) -> Vec<IngressFacts> {
    let all = classes.list(None);
    let classes = Classes::of(all.iter().map(|class| &**class));
    let served = ingresses.list(None);
    let served = served.iter().filter(|ingress| classes.have(ingress));
    let mut facts: Vec<IngressFacts> = served.map(|ingress| IngressFacts::of(ingress)).collect();
    by_age(&mut facts);
    facts
}

/// A secret that is followed.
struct Followed {
    informer: Informer<Secret>,
    _wake: Subscription,
    version: u64,
    /// The last certificate that could be used.
    good: Option<Arc<CertifiedKey>>,
}

pub(crate) struct Follower {
    pub(crate) network: Informers,
    /// Of the node itself.
    pub(crate) node: Informers,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) self_made: Arc<CertifiedKey>,
    pub(crate) ports: watch::Sender<bool>,
}

impl Follower {
    pub(crate) async fn run(self) {
        let changed = Arc::new(Notify::new());
        let (ingresses, classes) = (self.network.of::<Ingress>(), self.network.of::<IngressClass>());
        let wake = changed.clone();
        ingresses.on_object_change(move |_| wake.notify_one());
        let wake = changed.clone();
        classes.on_object_change(move |_| wake.notify_one());
        ingresses.synced().await;
        classes.synced().await;
        let mut known: Vec<IngressFacts> = Vec::new();
        let mut services: Option<Arc<Services>> = None;
        let mut secrets: HashMap<Name, Followed> = HashMap::new();
        let mut hosts = Wanted::default();
        loop {
            let facts = ours(&ingresses, &classes);
            let mut stale = false;
            if facts != known {
                if !facts.is_empty() && services.is_none() {
                    let following = Services::follow(&self.network);
                    following.synced().await;
                    services = Some(following);
                }
                if let Some(services) = &services {
                    self.proxy.table.store(Arc::new(self.table(&facts, services)));
                    services.prune();
                }
                hosts = wanted(&facts).0;
                self.follow_secrets(&hosts, &mut secrets, &changed);
                known = facts;
                stale = true;
            }
            if !known.is_empty() && !*self.ports.borrow() {
                let first = async {
                    for secret in secrets.values() {
                        secret.informer.synced().await;
                    }
                };
                // A secret that cannot be read keeps nobody else waiting.
                let _ = tokio::time::timeout(PATIENCE, first).await;
            }
            if take_certificates(&mut secrets) || stale {
                self.show(&hosts, &secrets);
            }
            self.ports.send_if_modified(|open| {
                let before = std::mem::replace(open, !known.is_empty());
                before != *open
            });
            changed.notified().await;
        }
    }

    fn table(&self, facts: &[IngressFacts], services: &Services) -> Table<Arc<Route>> {
        let mut owners: HashMap<Name, Arc<Owner>> = HashMap::new();
        let target = |ingress: &IngressFacts, backend: &Backend| {
            let Backend::Service { name, port } = backend else { return None };
            let owner = owners.entry(ingress.key()).or_insert_with(|| Arc::new(self.owner(ingress)));
            let slot = services.slot(&ingress.namespace, name);
            Some(Arc::new(Route { owner: owner.clone(), slot, port: port.clone() }))
        };
        Table::build(facts, target).0
    }

    fn owner(&self, ingress: &IngressFacts) -> Owner {
        let secure = ingress.tls.iter().filter(|_| ingress.redirects);
        // One entry at most is without hosts, so rules are gone through once.
        let secure_hosts = secure.flat_map(|tls| ingress.hosts_of(tls)).map(str::to_string).collect();
        Owner {
            name: ingress.key(),
            answers: self.proxy.metrics.answers_of(&ingress.key()),
            secure_hosts,
            response_timeout: ingress.response_timeout,
        }
    }

    /// Begins with secrets that are new, and lets go of those that nobody names any more.
    fn follow_secrets(&self, hosts: &Wanted, secrets: &mut HashMap<Name, Followed>, changed: &Arc<Notify>) {
        let named = hosts.secrets();
        secrets.retain(|name, _| named.contains(name));
        for name in named {
            if secrets.contains_key(name) {
                continue;
            }
            let only = FieldSelector::equals("metadata.name", &name.1);
            let informer = self.node.selected::<Secret>(Some(&name.0), LabelSelector::everything(), only);
            let wake = changed.clone();
            let subscription = informer.subscribe(move |_| wake.notify_one());
            secrets.insert(name.clone(), Followed { informer, _wake: subscription, version: 0, good: None });
        }
    }

    fn show(&self, hosts: &Wanted, secrets: &HashMap<Name, Followed>) {
        let certificate = |name: &Name| secrets.get(name).and_then(|followed| followed.good.clone());
        self.resolver.0.store(Arc::new(Shown::new(hosts, certificate, &self.self_made)));
    }
}

/// Reads the secrets that changed, and says whether one has another certificate now.
fn take_certificates(secrets: &mut HashMap<Name, Followed>) -> bool {
    let mut changed = false;
    for ((namespace, name), followed) in secrets {
        let Some(object) = followed.informer.object(Some(namespace), name) else {
            changed |= followed.good.is_some();
            (followed.version, followed.good) = (0, None);
            continue;
        };
        if object.resource_version() == followed.version {
            continue;
        }
        followed.version = object.resource_version();
        let Ok(secret) = object.typed::<Secret>() else { continue };
        match certified(&secret) {
            Ok(certificate) => {
                followed.good = Some(certificate);
                changed = true;
            }
            Err(error) => {
                let error = crate::chain(&error);
                tracing::warn!(namespace, name, error, "a secret of an ingress holds no usable certificate");
            }
        }
    }
    changed
}
