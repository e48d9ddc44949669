//! The cluster's keys: four certificate authorities, the certificates they issue for this server, the
//! service accounts' key.
//!
//! The server's authority vouches for API servers, the kubelets' for kubelets, the clients' for who dials: so
//! a certificate that a node obtains for an address it claims can never pass for an API server's. All keys
//! are ECDSA P-256 in `DATA/server/tls`, mode 0600, each file whole or absent. Certificates are renewed while
//! the server runs.

mod authority;
mod proof;
mod signer;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::keys::{self, CertificateSlot, Pair, PairFiles};
use agent::problem::chain;
use agent::{Problem, files};
use apiserver::FrontProxy;
use base64::Engine;
use parking_lot::Mutex;
use rcgen::SanType;
use tokio::sync::watch;

pub(crate) use authority::{Authority, DAY, LEAF_LIFE, Purpose, Subject};
use authority::{is_current, san_set};
pub(crate) use signer::Signer;

/// A certificate of a year that is this close to its end is renewed; one of another life at the same part of
/// it.
const RENEW_WITHIN: i64 = 90 * DAY;
/// Life of the administrator's certificate: nothing can call it back, so a copy that is lost must end by
/// itself.
pub(crate) const ADMIN_LIFE: i64 = 90 * DAY;

/// The names and addresses that the serving certificate is for.
#[derive(Clone, Debug)]
pub(crate) struct ServingNames(pub(crate) Vec<SanType>);

impl ServingNames {
    /// What every server is called, its addresses, and what the administrator adds.
    pub(crate) fn new(
        addresses: &[IpAddr],
        host: &str,
        cluster_domain: &str,
        extra: &[String],
    ) -> Result<Self, Problem> {
        let mut texts: Vec<String> =
            ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
                .iter()
                .map(|name| name.to_string())
                .collect();
        texts.push(format!("kubernetes.default.svc.{cluster_domain}"));
        texts.extend((!host.is_empty()).then(|| host.to_string()));
        texts.extend(extra.iter().cloned());
        let mut names = Vec::new();
        for address in addresses
            .iter()
            .copied()
            .chain([IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)])
        {
            if !names.contains(&SanType::IpAddress(address)) && !address.is_unspecified() {
                names.push(SanType::IpAddress(address));
            }
        }
        for text in texts {
            let name = match text.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(text.clone().try_into().map_err(|error: rcgen::Error| {
                    Problem::new(
                        format!("put {text:?} into the serving certificate"),
                        error,
                        "correct --tls-san",
                    )
                })?),
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(ServingNames(names))
    }
}

/// All of it.
pub(crate) struct Pki {
    folder: PathBuf,
    pub(crate) server_ca: Arc<Authority>,
    pub(crate) client_ca: Arc<Authority>,
    /// Signs kubelets' serving certificates and nothing else.
    pub(crate) kubelet_ca: Arc<Authority>,
    pub(crate) service_account_key_pem: String,
    names: Mutex<ServingNames>,
    /// What the API server shows.
    pub(crate) serving: Arc<CertificateSlot>,
    /// Signs what speaks for callers towards other API servers, and nothing else.
    front_proxy_ca: Arc<Authority>,
    pub(crate) front_proxy: watch::Sender<Option<FrontProxy>>,
}

/// The certificates that clients of ours use; handed out again after a renewal.
pub(crate) struct ClientPairs {
    pub(crate) admin: Pair,
    pub(crate) kubelet_client: Pair,
}

impl Pki {
    /// Reads what is there and makes what is missing, expired or for other names. `now` in seconds since
    /// 1970.
    pub(crate) fn open(folder: &Path, names: ServingNames, now: i64) -> Result<(Self, ClientPairs), Problem> {
        files::private_directory(folder)?;
        let server_ca = Arc::new(Authority::open(folder, "server-ca", now)?);
        let client_ca = Arc::new(Authority::open(folder, "client-ca", now)?);
        // Older data directories have none: their kubelets' certificates are of the server's authority.
        let kubelet_ca = Arc::new(Authority::open(folder, "kubelet-ca", now)?);
        let front_proxy_ca = Arc::new(Authority::open(folder, "front-proxy-ca", now)?);
        let service_account_key_pem = service_account_key(folder)?;
        let serving = Arc::new(CertificateSlot::default());
        let pki = Pki {
            folder: folder.to_path_buf(),
            server_ca,
            client_ca,
            kubelet_ca,
            service_account_key_pem,
            names: Mutex::new(names),
            serving,
            front_proxy_ca,
            front_proxy: watch::Sender::new(None),
        };
        let clients = pki.renew(now)?;
        Ok((pki, clients))
    }

    /// What the serving certificate is for from the next renewal on.
    pub(crate) fn set_names(&self, names: ServingNames) {
        *self.names.lock() = names;
    }

    /// Whether a serving certificate with this name or address would be one of the API server's.
    fn is_served_as(&self, san: &SanType) -> bool {
        let lower = |san: &SanType| match san {
            SanType::DnsName(name) => Some(name.as_str().trim_end_matches('.').to_ascii_lowercase()),
            SanType::IpAddress(address) => Some(address.to_canonical().to_string()),
            _ => None,
        };
        let wanted = lower(san);
        wanted.is_none() || self.names.lock().0.iter().any(|own| lower(own) == wanted)
    }

    /// What a kubelet's certificate must lead to. In a cluster from before there was an authority for them,
    /// the server's counts too until the last certificate it can have signed for a kubelet has ended.
    pub(crate) fn kubelet_roots(&self, now: i64) -> String {
        let mut roots = self.kubelet_ca.certificate_pem.clone();
        let came_later = self.kubelet_ca.made > self.server_ca.made;
        if came_later && now < self.kubelet_ca.made + LEAF_LIFE {
            roots.push_str(&self.server_ca.certificate_pem);
        }
        roots
    }

    /// A fresh certificate of the administrator's, good for `life` seconds.
    pub(crate) fn administrator(&self, life: i64, now: i64) -> Result<Pair, Problem> {
        self.client_ca.issue(&administrator(life), now).map_err(|error| {
            let advice = format!("check the files in {}", self.folder.display());
            Problem::new("make the administrator's certificate", chain(&error), advice)
        })
    }

    /// Renews what is due; the serving certificate changes for connections from now on.
    pub(crate) fn renew(&self, now: i64) -> Result<ClientPairs, Problem> {
        let names = self.names.lock().clone();
        let serving = Subject {
            common_name: "kube-apiserver",
            organization: None,
            names: &names.0,
            purpose: Purpose::Server,
            life: LEAF_LIFE,
        };
        let pair = current(&self.folder, &self.server_ca, "serving-kube-apiserver", &serving, now)?;
        self.serving.replace(&pair).map_err(|error| {
            Problem::new(
                "use the serving certificate",
                chain(&error),
                format!("remove {}/serving-*", self.folder.display()),
            )
        })?;
        self.renew_front_proxy(now)?;
        let admin = administrator(ADMIN_LIFE);
        let kubelet_client = Subject { common_name: agent::node::KUBELET_CLIENT, life: LEAF_LIFE, ..admin };
        Ok(ClientPairs {
            admin: current(&self.folder, &self.client_ca, "client-admin", &admin, now)?,
            kubelet_client: current(
                &self.folder,
                &self.client_ca,
                "client-kube-apiserver",
                &kubelet_client,
                now,
            )?,
        })
    }
}

impl Pki {
    fn renew_front_proxy(&self, now: i64) -> Result<(), Problem> {
        let subject = Subject {
            common_name: "front-proxy-client",
            organization: None,
            names: &[],
            purpose: Purpose::Client,
            life: LEAF_LIFE,
        };
        let pair = current(&self.folder, &self.front_proxy_ca, "client-front-proxy", &subject, now)?;
        let new = FrontProxy {
            ca_pem: self.front_proxy_ca.certificate_pem.clone(),
            certificate_pem: pair.certificate_pem,
            key_pem: pair.key_pem,
        };
        self.front_proxy.send_if_modified(|old| {
            let same = old.as_ref().is_some_and(|old| old.certificate_pem == new.certificate_pem);
            *old = Some(new);
            !same
        });
        Ok(())
    }
}

fn administrator(life: i64) -> Subject<'static> {
    Subject {
        common_name: "system:admin",
        organization: Some(api::identity::GROUP_MASTERS),
        names: &[],
        purpose: Purpose::Client,
        life,
    }
}

/// Whether a certificate was not made for a longer life than it would be now.
fn is_of_life(validity: keys::Validity, life: i64) -> bool {
    validity.not_after - validity.not_before <= life + authority::BACKDATE
}

/// How long before its end a certificate of this life is renewed.
fn renew_within(life: i64) -> i64 {
    if life == LEAF_LIFE { RENEW_WITHIN } else { life / 2 }
}

/// The certificate `NAME.crt` below `folder`, made anew if it is missing, of another authority, for other
/// names or near its end.
pub(crate) fn current(
    folder: &Path,
    authority: &Authority,
    name: &str,
    subject: &Subject<'_>,
    now: i64,
) -> Result<Pair, Problem> {
    let place = PairFiles::in_directory(folder, name);
    if let Some(pair) = place.load()?
        && is_current(&pair, authority, &san_set(subject.names), now, now + renew_within(subject.life))
        && keys::validity(&pair.certificate_pem).is_ok_and(|validity| is_of_life(validity, subject.life))
    {
        return Ok(pair);
    }
    let pair = authority.issue(subject, now).map_err(|error| {
        Problem::new(
            format!("make the certificate {name}"),
            chain(&error),
            format!("check the files in {}", folder.display()),
        )
    })?;
    place.store(&pair)?;
    tracing::info!(name, "certificate is made");
    Ok(pair)
}

fn service_account_key(folder: &Path) -> Result<String, Problem> {
    let path = folder.join("service.key");
    if let Some(pem) = files::read(&path)? {
        return match rcgen::KeyPair::from_pem(&pem) {
            Ok(_) => Ok(pem),
            Err(error) => {
                let advice =
                    "restore it from a backup, or remove it (all service account tokens become invalid)";
                Err(Problem::new(format!("use the key {}", path.display()), error, advice))
            }
        };
    }
    let made = keys::new_key();
    let pem = made.map_err(|error| Problem::new("make a key", chain(&error), "try again"))?;
    files::write(&path, pem.as_bytes(), 0o600)?;
    Ok(pem)
}

/// The administrator's kubeconfig.
pub(crate) fn kubeconfig(server: &str, ca_pem: &str, admin: &Pair) -> String {
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: minik8s\n  cluster:\n    server: {server}\n    \
         certificate-authority-data: {}\ncontexts:\n- name: minik8s\n  context:\n    cluster: minik8s\n    user: minik8s\n\
         current-context: minik8s\nusers:\n- name: minik8s\n  user:\n    client-certificate-data: {}\n    \
         client-key-data: {}\n",
        base64(ca_pem),
        base64(&admin.certificate_pem),
        base64(&admin.key_pem),
    )
}

#[cfg(test)]
mod tests;
