//! The servers of its cluster that an agent knows: the one it was given, and those that it learned of from
//! the endpoints of the service `kubernetes`. They are remembered on disk, so that an agent starts while the
//! server that it was given is gone.
//!
//! The agent stays with a server that works. One that no longer answers, or says that it is not ready, is
//! given up if another one is: watches end with its connections and begin again there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::{FieldSelector, LabelSelector};
use client::https::{self, HttpsApi, HttpsConfig, authority_of};
use client::{Change, Informers, ObjectApi};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;
use supervisor::{OnExit, Stage};

use crate::problem::chain;
use crate::{Problem, files};

/// Where the servers are told, by a server's name for it.
const NAMESPACE: &str = "default";
const SERVICE: &str = "kubernetes";
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// A cluster has seven servers at most; those that have gone are remembered behind those that are there.
const REMEMBERED: usize = 16;

/// How often the server in use is asked whether it is ready.
const LOOK: Duration = Duration::from_secs(8);
/// One that was not is asked again after this, before it is given up.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The servers that this agent knows.
pub(crate) struct KnownServers {
    /// `HOST:PORT` of the one that it was given.
    given: String,
    file: PathBuf,
    /// Learned, those that are there now first.
    learned: Mutex<Vec<String>>,
    list: Arc<https::Servers>,
}

impl KnownServers {
    /// The server that is given by its URL, and those that an earlier start has learned of.
    pub(crate) fn open(folder: &Path, url: &str) -> Result<Arc<Self>, Problem> {
        let given = authority_of(url).map_err(|error| {
            Problem::new(format!("use the server {url}"), chain(&error), "give --server https://HOST:PORT")
        })?;
        let file = folder.join("servers");
        let text = files::read(&file)?.unwrap_or_default();
        let learned: Vec<String> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect();
        let list = https::Servers::new([given.clone()].into_iter().chain(learned.iter().cloned()));
        Ok(Arc::new(KnownServers { given, file, learned: Mutex::new(learned), list }))
    }

    /// For clients.
    pub(crate) fn list(&self) -> Arc<https::Servers> {
        self.list.clone()
    }

    /// The URL of the one in use.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.list.current().unwrap_or_else(|| self.given.clone()))
    }

    /// Learns which servers there are now, and notes them.
    fn learn(&self, now: Vec<String>) {
        if now.is_empty() {
            // No server says that there is none.
            return;
        }
        let text = {
            let mut learned = self.learned.lock();
            let before = std::mem::take(&mut *learned);
            let gone: Vec<String> = before.iter().filter(|address| !now.contains(address)).cloned().collect();
            *learned = now;
            learned.extend(gone);
            learned.truncate(REMEMBERED);
            self.list.set([self.given.clone()].into_iter().chain(learned.iter().cloned()));
            learned.iter().map(|address| format!("{address}\n")).collect::<String>()
        };
        if let Err(problem) = files::write(&self.file, text.as_bytes(), 0o600) {
            tracing::warn!(%problem, "the cluster's servers are not remembered");
        }
    }

    /// Learns of servers, and looks after the one in use, as long as the stage runs. `api` may read slices.
    pub(crate) fn follow(self: &Arc<Self>, api: Arc<dyn ObjectApi>, ca_pem: &str, stage: &Stage) {
        let labels = LabelSelector::from_map(&[(SERVICE_LABEL.to_string(), SERVICE.to_string())].into());
        let informers = Informers::new(api, stage.clone());
        let slices = informers.selected::<EndpointSlice>(Some(NAMESPACE), labels, FieldSelector::default());
        let (servers, seen) = (self.clone(), slices.clone());
        slices.on_change(move |_: &Change<EndpointSlice>| {
            servers.learn(seen.list(Some(NAMESPACE)).iter().flat_map(|slice| addresses(slice)).collect());
        });
        let (servers, ca_pem) = (self.clone(), ca_pem.as_bytes().to_vec());
        stage.spawn_cancellable("health of the server in use", OnExit::Stop, async move {
            servers.look_after(&ca_pem).await;
        });
    }

    async fn look_after(&self, ca_pem: &[u8]) {
        // Its connection is kept from one look to the next.
        let mut asked: Option<(String, HttpsApi)> = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let known = self.list.in_order();
            let Some(current) = self.list.current().filter(|_| known.len() > 1) else { continue };
            if asked.as_ref().is_none_or(|(address, _)| *address != current) {
                asked = asking(&current, ca_pem).map(|api| (current.clone(), api));
            }
            let Some((_, api)) = &asked else { continue };
            if is_ready(api).await {
                continue;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            if is_ready(api).await || self.list.current().as_ref() != Some(&current) {
                continue;
            }
            if let Some(other) = self.other(&current, ca_pem).await {
                tracing::warn!(server = current, other, "the server is not ready: another one is used");
                self.list.give_up(&current);
            }
        }
    }

    /// The first other server that is ready. Those before it are tried late from now on.
    async fn other(&self, current: &str, ca_pem: &[u8]) -> Option<String> {
        for address in self.list.in_order().into_iter().filter(|address| address != current) {
            match asking(&address, ca_pem) {
                Some(api) if is_ready(&api).await => return Some(address),
                _ => self.list.give_up(&address),
            }
        }
        None
    }
}

/// A client of one server alone.
fn asking(address: &str, ca_pem: &[u8]) -> Option<HttpsApi> {
    let config =
        HttpsConfig { ca_pem: Some(ca_pem.to_vec()), ..HttpsConfig::new(format!("https://{address}")) };
    HttpsApi::new(config).ok()
}

async fn is_ready(api: &HttpsApi) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Default::default()) else { return false };
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, api.request(request)).await;
    answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status().is_success()))
}

/// Addresses and ports of a slice.
fn addresses(slice: &EndpointSlice) -> Vec<String> {
    let ports = slice.ports.iter().flatten();
    let Some(port) = ports.filter_map(|port| port.port).find_map(|port| u16::try_from(port).ok()) else {
        return Vec::new();
    };
    let parsed = slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses);
    let parsed = parsed.filter_map(|address| address.parse().ok());
    parsed.map(|address| std::net::SocketAddr::new(address, port).to_string()).collect()
}

#[cfg(test)]
mod tests;
