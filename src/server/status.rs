//! What a server tells of itself on its admin socket, for `minik8s status`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agent::Problem;
use agent::problem::chain;
use agent::status::collect::{NodeSource, ProcessSource, second, settle};
use agent::status::outlook;
use agent::status::report::{Api, Cluster, Etcd, Finding, Recovery, Report, Snapshot, Snapshots, Store};
use apiserver::ApiServer;
use client::ObjectApi;
use client::https::{HttpsApi, HttpsConfig};
use embedded_store::{EmbeddedStore, Recovery as Found};
use jiff::Timestamp;

use crate::group::Servers;
use crate::snapshot::{Saver, Schedule, list};

/// Everything there is to look at. Clones share it.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) process: ProcessSource,
    pub(crate) server: Arc<ApiServer>,
    pub(crate) url: String,
    pub(crate) advertised: tokio::sync::watch::Receiver<std::net::IpAddr>,
    pub(crate) port: u16,
    /// Then nobody but this machine is meant to reach it.
    pub(crate) listens_on_loopback: bool,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) recovery: Found,
    pub(crate) servers: Arc<Servers>,
    pub(crate) etcd: Etcd,
    pub(crate) schedule: Schedule,
    pub(crate) saver: Saver,
    /// Set once the node has been started; there is none with `--disable-agent`.
    pub(crate) node: Arc<OnceLock<NodeSource>>,
    pub(crate) runs_node: bool,
    /// The API as one who may read everything.
    pub(crate) api: Arc<dyn ObjectApi>,
    pub(crate) ca_pem: String,
}

/// The own port answers at once; a connection that goes astray must not keep the rest from being shown.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
const LOOK_TIMEOUT: Duration = Duration::from_secs(4);

impl Source {
    pub(crate) async fn report(self) -> Result<Report, Problem> {
        let mut report = self.process.report();
        let problems = &mut report.problems;
        report.starting = self.runs_node && self.node.get().is_none();
        report.api = Some(self.api(problems));
        problems.extend(self.unreachable().await);
        report.store = Some(self.store(problems));
        if let Some(why) = &self.etcd.off
            && self.etcd.url.is_none()
        {
            problems.push(Finding::new(
                "etcd's API is off",
                why.clone(),
                "stop what uses the port and restart, or choose another with --etcd-listen (or off)",
            ));
        }
        report.servers = self.servers.report(problems);
        report.etcd = Some(self.etcd.clone());
        report.snapshots = Some(self.snapshots(problems));
        if let Some(node) = self.node.get() {
            report.node = Some(node.report(problems).await.0);
        }
        report.cluster = self.cluster(problems).await;
        settle(&mut report);
        Ok(report)
    }

    fn api(&self, problems: &mut Vec<Finding>) -> Api {
        let checks = self.server.readiness();
        for (name, ok) in &checks {
            if !ok {
                let why = "its check of /readyz fails".to_string();
                problems.push(Finding::new(format!("the API is not ready: {name}"), why, "see the log"));
            }
        }
        let advertised = SocketAddr::new(*self.advertised.borrow(), self.port);
        Api {
            url: self.url.clone(),
            advertised: Some(advertised.to_string()),
            ready: checks.iter().all(|(_, ok)| *ok),
            checks: checks.into_iter().map(|(name, ok)| (name.to_string(), ok)).collect(),
            kubeconfig: Some(self.kubeconfig.clone()),
        }
    }

    /// Where nodes and pods reach the API somebody else may answer: a pod with that host port, a rule of a
    /// firewall. The certificate tells.
    async fn unreachable(&self) -> Option<Finding> {
        if self.listens_on_loopback {
            return None;
        }
        let address = SocketAddr::new(*self.advertised.borrow(), self.port);
        let config = HttpsConfig {
            ca_pem: Some(self.ca_pem.clone().into_bytes()),
            connect_timeout: PROBE_TIMEOUT,
            ..HttpsConfig::new(format!("https://{address}"))
        };
        let probe = async {
            let api = HttpsApi::new(config).map_err(|error| chain(&error))?;
            let request = http::Request::get("/livez").body(Default::default());
            let request = request.map_err(|error| chain(&error))?;
            api.request(request).await.map(drop).map_err(|error| chain(&error))
        };
        let late = || Err(format!("no answer within {} s", PROBE_TIMEOUT.as_secs()));
        let why = tokio::time::timeout(PROBE_TIMEOUT, probe).await.unwrap_or_else(|_| late()).err()?;
        let what = format!("the API is not reached at {address}, where nodes and pods look for it");
        let advice =
            "check for a pod with that host port and for firewalls, or give another --advertise-address";
        Some(Finding::new(what, why, advice))
    }

    async fn cluster(&self, problems: &mut Vec<Finding>) -> Option<Cluster> {
        let own = self.node.get().map(|node| node.name().to_string());
        let looking = outlook::look(self.api.clone(), own.as_deref(), problems);
        let why = match tokio::time::timeout(LOOK_TIMEOUT, looking).await {
            Ok(Ok(cluster)) => return Some(cluster),
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer within {} s", LOOK_TIMEOUT.as_secs()),
        };
        problems.push(Finding::new("the state of nodes and pods is not known", why, "see the log"));
        None
    }

    fn store(&self, problems: &mut Vec<Finding>) -> Store {
        let status = self.store.status();
        let mut alarms = Vec::new();
        let (free, reserve) = (status.free_on_disk, status.min_free_on_disk);
        let place = self.process.instance.server_dir().display().to_string();
        let full = format!(
            "{} MiB are free on the disk of the store, {} MiB are kept in reserve",
            free >> 20,
            reserve >> 20
        );
        if free < reserve {
            alarms.push("NOSPACE".to_string());
            let what = "writes are refused: the disk is nearly full";
            problems.push(Finding::new(what, full, format!("free some space on the disk of {place}")));
        } else if status.size_in_use > status.quota {
            alarms.push("NOSPACE".to_string());
            let why = format!(
                "the store holds {} MiB, its quota is {} MiB",
                status.size_in_use >> 20,
                status.quota >> 20
            );
            let advice = "delete what is not needed, or start with a larger --quota-backend-bytes";
            problems.push(Finding::new("new objects are refused: the store is full", why, advice));
        } else if free < 2 * reserve {
            let why = format!("{} MiB are free, writes stop below {} MiB", free >> 20, reserve >> 20);
            let advice = format!("free some space on the disk of {place}");
            problems.push(Finding::new("the disk of the store is getting full", why, advice));
        }
        if let Some(why) = &status.alarms.unwritable {
            alarms.push("UNWRITABLE".to_string());
            let what = "the store takes no more writes";
            problems.push(Finding::new(what, why.clone(), "check the disk, then restart the server"));
        }
        if let Some(why) = &status.alarms.checkpoint {
            alarms.push("CHECKPOINT".to_string());
            let what = "the store's applied state cannot be written, its log grows";
            let advice = "check the disk and the limit of open files; it is tried again by itself";
            problems.push(Finding::new(what, why.clone(), advice));
        }
        let time = |seconds: u64| Timestamp::from_second(i64::try_from(seconds).ok()?).ok().map(second);
        Store {
            revision: status.revision,
            compacted_revision: status.compacted_revision,
            keys: status.keys,
            size_in_use: status.size_in_use,
            size_on_disk: status.size_on_disk,
            log_size: status.log_size,
            free_on_disk: free,
            min_free_on_disk: reserve,
            quota: status.quota,
            watchers: status.watchers,
            last_checkpoint: status.last_checkpoint.and_then(time),
            recovery: Recovery {
                replayed_records: self.recovery.replayed,
                torn_tail: self.recovery.torn_tail.clone(),
                rebuilt: self.recovery.rebuilt.clone(),
            },
            alarms,
        }
    }

    fn snapshots(&self, problems: &mut Vec<Finding>) -> Snapshots {
        let outcomes = self.saver.past.outcomes();
        for failure in [&outcomes.failure, &outcomes.upload_failure].into_iter().flatten() {
            let what = format!("the last snapshot ({}) is not kept as it should be", failure.at);
            let advice = "then try 'minik8s snapshot save'";
            problems.push(Finding::new(what, failure.why.clone(), advice));
        }
        let folder = self.saver.folder.clone();
        let found = list(&folder).unwrap_or_default();
        let last = found.last().map(|entry| Snapshot {
            name: entry.name.clone(),
            at: Timestamp::try_from(entry.modified).map(second).unwrap_or_default(),
            size: entry.size,
        });
        Snapshots {
            schedule: self.schedule.text.clone(),
            retention: self.schedule.keep,
            folder,
            count: found.len(),
            last,
            next: self.schedule.next(),
            last_failure: outcomes.failure,
            upload_to: self.saver.upload.as_ref().map(|client| client.target().to_string()),
            last_upload: outcomes.upload,
            last_upload_failure: outcomes.upload_failure,
        }
    }
}
