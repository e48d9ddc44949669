//! The cluster's keys: two certificate authorities, the certificates they issue for this server, the service accounts' key.
//!
//! The server's authority vouches for what is dialled (API servers, kubelets), the clients' for who dials: so a kubelet's or a
//! user's certificate can never pass for a server's. All keys are ECDSA P-256 in `DATA/server/tls`, mode 0600, each file
//! whole or absent. Certificates are renewed while the server runs.

mod authority;
mod signer;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::keys::{self, CertificateSlot, Pair, PairFiles};
use agent::problem::chain;
use agent::{Problem, files};
use base64::Engine;
use parking_lot::Mutex;
use rcgen::SanType;

pub(crate) use authority::{Authority, Purpose, Subject};
use authority::{is_current, san_set};
pub(crate) use signer::Signer;

/// A certificate this close to its end is renewed.
pub(crate) const RENEW_WITHIN: i64 = 90 * 24 * 3600;

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
    pub(crate) service_account_key_pem: String,
    names: Mutex<ServingNames>,
    /// What the API server shows.
    pub(crate) serving: Arc<CertificateSlot>,
}

/// The certificates that clients of ours use; handed out again after a renewal.
pub(crate) struct ClientPairs {
    pub(crate) admin: Pair,
    pub(crate) kubelet_client: Pair,
}

impl Pki {
    /// Reads what is there and makes what is missing, expired or for other names. `now` in seconds since 1970.
    pub(crate) fn open(folder: &Path, names: ServingNames, now: i64) -> Result<(Self, ClientPairs), Problem> {
        files::private_directory(folder)?;
        let server_ca = Arc::new(Authority::open(folder, "server-ca", now)?);
        let client_ca = Arc::new(Authority::open(folder, "client-ca", now)?);
        let service_account_key_pem = service_account_key(folder)?;
        let serving = Arc::new(CertificateSlot::default());
        let pki = Pki {
            folder: folder.to_path_buf(),
            server_ca,
            client_ca,
            service_account_key_pem,
            names: Mutex::new(names),
            serving,
        };
        let clients = pki.renew(now)?;
        Ok((pki, clients))
    }

    /// What the serving certificate is for from the next renewal on.
    pub(crate) fn set_names(&self, names: ServingNames) {
        *self.names.lock() = names;
    }

    /// Renews what is due; the serving certificate changes for connections from now on.
    pub(crate) fn renew(&self, now: i64) -> Result<ClientPairs, Problem> {
        let names = self.names.lock().clone();
        let serving = Subject {
            common_name: "kube-apiserver",
            organization: None,
            names: &names.0,
            purpose: Purpose::Server,
        };
        let pair = current(&self.folder, &self.server_ca, "serving-kube-apiserver", &serving, now)?;
        self.serving.replace(&pair).map_err(|error| {
            Problem::new(
                "use the serving certificate",
                chain(&error),
                format!("remove {}/serving-*", self.folder.display()),
            )
        })?;
        let client = |common_name, organization| Subject {
            common_name,
            organization,
            names: &[],
            purpose: Purpose::Client,
        };
        let admin = client("system:admin", Some(api::identity::GROUP_MASTERS));
        let kubelet_client = client(agent::node::KUBELET_CLIENT, Some(api::identity::GROUP_MASTERS));
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

/// The certificate `NAME.crt` below `folder`, made anew if it is missing, of another authority, for other names or near its end.
pub(crate) fn current(
    folder: &Path,
    authority: &Authority,
    name: &str,
    subject: &Subject<'_>,
    now: i64,
) -> Result<Pair, Problem> {
    let place = PairFiles::in_directory(folder, name);
    if let Some(pair) = place.load()?
        && is_current(&pair, authority, &san_set(subject.names), now, now + RENEW_WITHIN)
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
