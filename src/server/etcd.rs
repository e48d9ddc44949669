//! etcd's API for this server: where it listens, its keys, its task.
//!
//! It has an authority of its own: whoever may use the Kubernetes API must not thereby get at the store,
//! which knows no users. Keys lie in `DATA/server/tls/etcd`, `client.crt` and `client.key` among them for
//! `etcdctl`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use agent::keys::{CertificateSlot, Pair};
use agent::problem::chain;
use agent::{Problem, files};
use embedded_store::EmbeddedStore;
use embedded_store::etcd::{Members, Options, Place, serve};
use futures::future::{BoxFuture, FutureExt};
use rcgen::SanType;
use supervisor::{Admission, ConnectionLimiter, ConnectionLimits, OnExit, Stage, Standing};
use tokio::net::TcpListener;

use crate::pki::{Authority, LEAF_LIFE, Purpose, Subject, current};

const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2379);

/// What `--etcd-listen` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    Off,
    /// The default address, if nobody else has it.
    IfFree,
    At(SocketAddr),
}

impl Listen {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Problem> {
        match text {
            None => Ok(Listen::IfFree),
            Some("off") => Ok(Listen::Off),
            Some(text) => text.parse().map(Listen::At).map_err(|error| {
                Problem::new(
                    format!("serve etcd's API at {text:?}"),
                    error,
                    "give --etcd-listen an address and port, such as 127.0.0.1:2379, or off",
                )
            }),
        }
    }
}

/// The API's own keys; the serving certificate can be replaced while it runs.
pub(crate) struct EtcdPki {
    authority: Authority,
    slot: Arc<CertificateSlot>,
    names: Vec<SanType>,
}

impl EtcdPki {
    /// Reads or makes the keys below `tls_dir`. `now` in seconds since 1970.
    pub(crate) fn open(tls_dir: &Path, address: IpAddr, host: &str, now: i64) -> Result<Self, Problem> {
        let folder = tls_dir.join("etcd");
        files::private_directory(&folder)?;
        let authority = Authority::open(&folder, "ca", now)?;
        let mut names = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
        if !address.is_loopback() && !address.is_unspecified() {
            names.push(SanType::IpAddress(address));
        }
        for name in ["localhost", host] {
            names.extend(name.try_into().ok().map(SanType::DnsName));
        }
        let pki = EtcdPki { authority, slot: Arc::default(), names };
        pki.renew(tls_dir, now)?;
        Ok(pki)
    }

    /// Renews what is due; new connections see it.
    pub(crate) fn renew(&self, tls_dir: &Path, now: i64) -> Result<(), Problem> {
        let folder = tls_dir.join("etcd");
        let server = Subject {
            common_name: "etcd-server",
            organization: None,
            names: &self.names,
            purpose: Purpose::Server,
            life: LEAF_LIFE,
        };
        let client = Subject {
            common_name: "etcd-client",
            organization: None,
            names: &[],
            purpose: Purpose::Client,
            life: LEAF_LIFE,
        };
        let pair: Pair = current(&folder, &self.authority, "server", &server, now)?;
        current(&folder, &self.authority, "client", &client, now)?;
        self.slot.replace(&pair).map_err(|error| {
            Problem::new(
                "use the certificate of etcd's API",
                chain(&error),
                format!("remove {}/server.*", folder.display()),
            )
        })
    }
}

/// What has become of the port.
pub(crate) enum Bound {
    Listening(TcpListener),
    /// As the flag wants it.
    Off,
    /// Somebody else has the default port: not served, in words.
    Taken(String),
}

/// Takes the port. Without a flag a taken one only means that the API is not served.
pub(crate) fn bind(listen: Listen) -> Result<Bound, Problem> {
    let address = match listen {
        Listen::Off => return Ok(Bound::Off),
        Listen::IfFree => DEFAULT_ADDRESS,
        Listen::At(address) => address,
    };
    match (crate::listen::listen(address), listen) {
        (Ok(listener), _) => Ok(Bound::Listening(listener)),
        (Err(error), Listen::IfFree) => {
            tracing::warn!(%address, %error, "etcd's API is not served: choose an address with --etcd-listen");
            Ok(Bound::Taken(format!("cannot listen on {address}: {error}")))
        }
        (Err(error), _) => {
            let advice = "stop what uses it, or choose another with --etcd-listen";
            Err(Problem::new(format!("serve etcd's API at {address}"), error, advice))
        }
    }
}

/// The place of a connection. Every client has a certificate of the API's own authority, as only
/// administrators do.
struct Connection(Admission);

impl Place for Connection {
    fn identified(&self) -> bool {
        self.0.identify("etcd-client", Standing::Reserved)
    }

    fn cut(&self) -> BoxFuture<'static, ()> {
        self.0.cut().boxed()
    }
}

/// What is served, and how.
pub(crate) struct Served<'a> {
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) members: Arc<dyn Members>,
    pub(crate) name: &'a str,
    /// Clients may write the cluster's own keys.
    pub(crate) write_registry: bool,
    pub(crate) connections: ConnectionLimits,
}

/// Serves the API until the stage stops. Returns its URL.
pub(crate) fn start(
    served: Served<'_>,
    listener: TcpListener,
    pki: &EtcdPki,
    stage: &Stage,
) -> Result<String, Problem> {
    let Served { store, members, name, write_registry, connections } = served;
    let failed = |why: &dyn std::fmt::Display| {
        Problem::new(
            "serve etcd's API",
            why,
            "check DATA/server/tls/etcd, or switch it off with --etcd-listen off",
        )
    };
    let address = listener.local_addr().map_err(|error| failed(&error))?;
    let tls = agent::keys::server_with_required_client(&pki.authority.certificate_der, pki.slot.clone())
        .map_err(|error| failed(&chain(&error)))?;
    let limiter = ConnectionLimiter::new(connections);
    let mut options = Options {
        gate: Some(Arc::new(move |address| {
            let admission = limiter.admit(address)?;
            Some(Box::new(Connection(admission)) as Box<dyn Place>)
        })),
        name: name.to_string(),
        client_urls: vec![format!("https://{address}")],
        members: Some(members),
        ..Options::default()
    };
    if write_registry {
        options.protected.clear();
    }
    let url = format!("https://{address}");
    tracing::info!(%url, "etcd's API is served");
    let stopping = stage.stopping();
    stage.spawn("etcd's API", OnExit::Done, async move {
        let stop = stopping.cancelled_owned();
        if let Err(error) = serve(store, listener, Some(Arc::new(tls)), options, stop).await {
            tracing::error!(error = chain(&error), "etcd's API has ended");
        }
    });
    Ok(url)
}

#[cfg(test)]
mod tests;
