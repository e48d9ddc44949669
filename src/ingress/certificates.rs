//! Certificates of secrets, chosen by the name that a client asks for.
//!
//! A secret that cannot be used leaves its last good certificate in use. Which ingress a host's certificate
//! is taken from is decided as for routes: the oldest that names the host, and then only ingresses of its
//! namespace. Clients that ask for none of the names get a certificate that is made at the start and that
//! nobody trusts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Secret;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::facts::{IngressFacts, Name};
use crate::table::{Fault, domain};

/// The type of secrets that hold a certificate.
pub(crate) const SECRET_TYPE: &str = "kubernetes.io/tls";

/// Why a secret holds no certificate that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("it is not of the type {SECRET_TYPE}")]
    Type,
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("its {0} is not PEM that can be used")]
    Pem(&'static str, #[source] rustls_pki_types::pem::Error),
    #[error("its key does not fit its certificate, or is of an unknown kind")]
    Key(#[source] rustls::Error),
}

/// The certificate of a secret.
pub(crate) fn certified(secret: &Secret) -> Result<Arc<CertifiedKey>, SecretError> {
    if secret.type_.as_deref() != Some(SECRET_TYPE) {
        return Err(SecretError::Type);
    }
    let bytes = |name: &'static str| {
        secret.data.as_ref().and_then(|data| data.get(name)).ok_or(SecretError::Missing(name))
    };
    let chain = CertificateDer::pem_slice_iter(&bytes("tls.crt")?.0)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| SecretError::Pem("tls.crt", error))?;
    if chain.is_empty() {
        return Err(SecretError::Missing("tls.crt"));
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes("tls.key")?.0)
        .map_err(|error| SecretError::Pem("tls.key", error))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map(Arc::new).map_err(SecretError::Key)
}

/// A certificate for clients whose name nobody has one for.
pub(crate) fn self_made() -> Result<Arc<CertifiedKey>, SelfMadeError> {
    let mut parameters = rcgen::CertificateParams::new(vec!["ingress.local".to_string()])?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "minik8s ingress default certificate");
    let key = rcgen::KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(SelfMadeError::Der)?;
    let chain = vec![certificate.der().clone()];
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &ring::default_provider())?))
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SelfMadeError {
    #[error("cannot make a key or certificate")]
    Make(#[from] rcgen::Error),
    #[error("cannot use the key that was made: {0}")]
    Der(&'static str),
    #[error("cannot use the certificate that was made")]
    Use(#[from] rustls::Error),
}

/// Secrets of ingresses that are followed at a time. Each is a watch with the node's identity, whose streams
/// (2000 for a user) the kubelet needs for what its pods mount.
const FOLLOWED: usize = 500;
/// Of these, secrets of one namespace: a tenant does not take the places of all others.
const OF_NAMESPACE: usize = 100;

/// Which secrets are asked for which host's certificate. All of it together is as large as the ingresses are.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// In the order in which they are asked; each list that ingresses have is here once.
    lists: Vec<Vec<Name>>,
    /// Numbers of lists in their order; hosts may be wildcards, the empty one stands for all.
    hosts: BTreeMap<String, Vec<usize>>,
}

impl Wanted {
    /// Each secret that is asked.
    pub(crate) fn secrets(&self) -> HashSet<&Name> {
        self.lists.iter().flatten().collect()
    }
}

/// Lets so many secrets be followed as there are places for, those of older ingresses first.
#[derive(Default)]
struct Places<'a> {
    followed: HashSet<(&'a str, &'a str)>,
    of_namespace: HashMap<&'a str, usize>,
}

impl<'a> Places<'a> {
    fn take(&mut self, namespace: &'a str, secret: &'a str) -> bool {
        if self.followed.contains(&(namespace, secret)) {
            return true;
        }
        let own = self.of_namespace.entry(namespace).or_default();
        if *own >= OF_NAMESPACE || self.followed.len() >= FOLLOWED {
            return false;
        }
        *own += 1;
        self.followed.insert((namespace, secret))
    }
}

/// Which secrets the ingresses, in the order of age, want for which hosts.
pub(crate) fn wanted(ingresses: &[IngressFacts]) -> (Wanted, Vec<Fault>) {
    // Who was first to name a host, in a rule or for TLS.
    let mut owners: HashMap<&str, usize> = HashMap::new();
    for (number, ingress) in ingresses.iter().enumerate() {
        let named = ingress.rules.iter().map(|rule| &rule.host);
        for host in named.chain(ingress.tls.iter().flat_map(|tls| &tls.hosts)) {
            owners.entry(host).or_insert(number);
        }
    }
    let (mut wanted, mut faults) = (Wanted::default(), Vec::new());
    let mut places = Places::default();
    let mut lists: HashMap<(&str, Vec<&str>), usize> = HashMap::new();
    // What a host has, and which hosts an ingress was told of.
    let mut had: HashSet<(&str, usize)> = HashSet::new();
    for ingress in ingresses {
        let mut told: HashSet<&str> = HashSet::new();
        let mut left_out: HashSet<&str> = HashSet::new();
        for tls in ingress.tls.iter().filter(|tls| !tls.secrets.is_empty()) {
            let mut list = None;
            for host in ingress.hosts_of(tls) {
                let owner = owner(&owners, host).map(|number| &ingresses[number]);
                if let Some(owner) = owner.filter(|it| it.namespace != ingress.namespace) {
                    if told.insert(host) {
                        let (namespace, name) = owner.key();
                        let message = format!(
                            "TLS of host {host:?} is left out: Ingress {namespace}/{name} has the host"
                        );
                        faults.push(Fault { ingress: ingress.key(), reason: "HostConflict", message });
                    }
                    continue;
                }
                let list = *list.get_or_insert_with(|| {
                    let all = tls.secrets.iter().map(String::as_str);
                    let (has, none): (Vec<&str>, Vec<&str>) =
                        all.partition(|secret| places.take(&ingress.namespace, secret));
                    left_out.extend(none);
                    *lists.entry((&ingress.namespace, has.clone())).or_insert_with(|| {
                        let name = |secret: &&str| (ingress.namespace.clone(), secret.to_string());
                        wanted.lists.push(has.iter().map(name).collect());
                        wanted.lists.len() - 1
                    })
                });
                if had.insert((host, list)) {
                    wanted.hosts.entry(host.to_string()).or_default().push(list);
                }
            }
        }
        if !left_out.is_empty() {
            faults.push(too_many(ingress, left_out.len()));
        }
    }
    (wanted, faults)
}

fn too_many(ingress: &IngressFacts, left_out: usize) -> Fault {
    let message = format!(
        "{left_out} secrets for TLS are left out: {OF_NAMESPACE} of a namespace and {FOLLOWED} in all are \
         followed, those of the oldest ingresses first"
    );
    Fault { ingress: ingress.key(), reason: "TooManySecrets", message }
}

/// The older one of who has a host and who has the wildcard above it. Nobody has what is for all hosts.
fn owner(owners: &HashMap<&str, usize>, host: &str) -> Option<usize> {
    if host.is_empty() {
        return None;
    }
    let wildcard = domain(host).filter(|_| !host.starts_with('*')).map(|domain| format!("*{domain}"));
    let above = wildcard.and_then(|wildcard| owners.get(wildcard.as_str()).copied());
    owners.get(host).copied().into_iter().chain(above).min()
}

/// What is shown to whom.
#[derive(Debug)]
pub(crate) struct Shown {
    by_host: HashMap<String, Arc<CertifiedKey>>,
    otherwise: Arc<CertifiedKey>,
}

impl Shown {
    pub(crate) fn new(
        wanted: &Wanted,
        certificate: impl Fn(&Name) -> Option<Arc<CertifiedKey>>,
        self_made: &Arc<CertifiedKey>,
    ) -> Self {
        let first = |secrets: &Vec<Name>| secrets.iter().find_map(&certificate);
        let firsts: Vec<Option<Arc<CertifiedKey>>> = wanted.lists.iter().map(first).collect();
        let of = |lists: &[usize]| lists.iter().find_map(|list| firsts[*list].clone());
        let by_host = wanted.hosts.iter().filter_map(|(host, lists)| Some((host.clone(), of(lists)?)));
        let mut by_host: HashMap<_, _> = by_host.collect();
        let otherwise = by_host.remove("").unwrap_or_else(|| self_made.clone());
        Shown { by_host, otherwise }
    }

    fn of(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let Some(name) = name else { return &self.otherwise };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let above = || domain(&name).and_then(|domain| self.by_host.get(&format!("*{domain}")));
        self.by_host.get(&name).or_else(above).unwrap_or(&self.otherwise)
    }
}

/// Chooses certificates; what it chooses from can be replaced at any time.
#[derive(Debug)]
pub(crate) struct Resolver(pub(crate) ArcSwap<Shown>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().of(hello.server_name()).clone())
    }
}

#[cfg(test)]
mod tests;
