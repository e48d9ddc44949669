//! What is kept in the data directory, opened: the store, keys and secrets.

use std::path::PathBuf;
use std::sync::Arc;

use agent::addresses::Addresses;
use agent::problem::chain;
use agent::{Instance, Problem, files, keys};
use embedded_store::group::Settings;
use embedded_store::{EmbeddedStore, OpenError, Recovery};
use supervisor::Stage;

use crate::group::{self, Coming, NotJoined, Peers, Servers};
use crate::pki::{ClientPairs, Pki};
use crate::plan::ServerPlan;
use crate::secrets::{self, AgentToken};

/// What is kept in the data directory.
pub(super) struct Kept {
    pub(super) pki: Arc<Pki>,
    pub(super) clients: ClientPairs,
    pub(super) agents: AgentToken,
    pub(super) store: Arc<EmbeddedStore>,
    pub(super) recovery: Recovery,
    pub(super) servers: Arc<Servers>,
}

/// Opens the store, and meanwhile keys and secrets; what is missing is made. A server that joins others gets
/// the cluster's keys first.
pub(super) async fn open_kept(
    plan: &ServerPlan,
    addresses: &Addresses,
    port: u16,
    stage: &Stage,
) -> Result<Kept, Problem> {
    match cluster(plan).await? {
        None => open_alone(plan, addresses, port, stage).await,
        Some(cluster) => open_member(plan, addresses, port, cluster, stage).await,
    }
}

fn store_dir(instance: &Instance) -> PathBuf {
    instance.server_dir().join("store")
}

/// The cluster that this server is one of several of, or is going to be; `None` for one that is alone.
async fn cluster(plan: &ServerPlan) -> Result<Option<u64>, Problem> {
    let dir = store_dir(&plan.instance);
    let known = embedded_store::group::identity(&dir);
    let known = known.map_err(|error| {
        Problem::new(format!("read {}", dir.display()), error, "restore it, or join with another --data-dir")
    })?;
    let Some(server) = &plan.arguments.server else { return Ok(known.map(|known| known.cluster)) };
    let coming = match (known, plan.arguments.rejoin) {
        (Some(known), false) => return Ok(Some(known.cluster)),
        (None, _) if dir.exists() => {
            let what = format!("join {server} with {}", plan.instance.data_dir().display());
            let advice = "start it without --server, choose another --data-dir, or remove that one";
            return Err(Problem::new(what, "it holds a cluster of its own", advice));
        }
        (None, false) => Coming::New,
        (known, true) => Coming::Again(known),
    };
    let kept = files::read(&plan.instance.server_dir().join("token"))?;
    let token = plan.arguments.token.as_deref().or(kept.as_deref());
    let joined =
        group::join(&plan.instance, server, token, &plan.node_name, &plan.group_flags(), coming).await;
    match (joined, known) {
        (Ok(cluster), _) => Ok(Some(cluster)),
        (Err(NotJoined::Unreached(problem)), Some(known)) => {
            tracing::warn!(%problem, "this server stays the member that it was");
            Ok(Some(known.cluster))
        }
        (Err(why), _) => Err(why.into()),
    }
}

async fn open_alone(
    plan: &ServerPlan,
    addresses: &Addresses,
    port: u16,
    stage: &Stage,
) -> Result<Kept, Problem> {
    let config = store_config(plan);
    let opening =
        tokio::task::spawn_blocking(move || EmbeddedStore::open(config).map_err(|error| unopened(&error)));
    let (pki, clients) = Pki::open(&tls_dir(plan), plan.serving_names(addresses)?, keys::now())?;
    let pki = Arc::new(pki);
    let agents = kept_secrets(plan, &pki.server_ca.certificate_pem)?;
    let opening = opening.await;
    let (store, recovery) =
        opening.map_err(|error| Problem::new("open the store", error, "see the messages above"))??;
    tell(&recovery);
    let servers = servers(plan, &pki, port, stage)?;
    servers.set_store(store.clone());
    Ok(Kept { pki, clients, agents, store, recovery, servers })
}

/// The store's default quota in a machine with so much memory. What is stored is held in memory too, and
/// decoded it takes several times its size.
fn default_quota(memory: Option<u64>) -> u64 {
    const MOST: u64 = 2 << 30;
    memory.map_or(MOST, |memory| MOST.min(memory / 8).max(64 << 20))
}

/// Bytes of memory that the machine has.
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// The store as flags and machine make it.
fn store_config(plan: &ServerPlan) -> embedded_store::Config {
    let quota_bytes = plan.arguments.quota_backend_bytes.unwrap_or_else(|| default_quota(memory()));
    embedded_store::Config { quota_bytes, ..embedded_store::Config::new(store_dir(&plan.instance)) }
}

async fn open_member(
    plan: &ServerPlan,
    addresses: &Addresses,
    port: u16,
    cluster: u64,
    stage: &Stage,
) -> Result<Kept, Problem> {
    let (pki, clients) = Pki::open(&tls_dir(plan), plan.serving_names(addresses)?, keys::now())?;
    let pki = Arc::new(pki);
    let agents = kept_secrets(plan, &pki.server_ca.certificate_pem)?;
    let servers = servers(plan, &pki, port, stage)?;
    let peers = Peers::new(pki.clone(), cluster);
    let config = store_config(plan);
    let (transport, settings) = (Arc::new(peers.clone()), Settings::default());
    let opened = EmbeddedStore::open_member(config, cluster, transport, &settings).await;
    let (store, recovery, group) = opened.map_err(|error| unopened(&error))?;
    tell(&recovery);
    servers.set_store(store.clone());
    servers.set_group(group, peers);
    Ok(Kept { pki, clients, agents, store, recovery, servers })
}

fn servers(plan: &ServerPlan, pki: &Arc<Pki>, port: u16, stage: &Stage) -> Result<Arc<Servers>, Problem> {
    Servers::new(plan.instance.clone(), pki.clone(), plan.place(port), plan.group_flags(), stage.clone())
}

fn unopened(error: &OpenError) -> Problem {
    match error {
        OpenError::Io { path, source } if source.kind() == std::io::ErrorKind::StorageFull => {
            let what = format!("open the store in {}", path.display());
            Problem::new(what, source, "free some space on its disk and start again: nothing is lost")
        }
        OpenError::Damaged { path, what } => {
            let advice = "move DATA/server away (DATA/agent and DATA/storage stay: they belong to the pods) and restore \
                          a snapshot with the key in its seal-key: 'minik8s snapshot restore FILE --seal-key KEY'";
            Problem::new("open the store", format!("it is damaged: {}: {what}", path.display()), advice)
        }
        _ => Problem::plain(format!("cannot open the store: {}", chain(error))),
    }
}

fn tell(recovery: &Recovery) {
    if let Some(torn) = &recovery.torn_tail {
        tracing::warn!(
            torn,
            "the end of the store's log was not whole and is cut off: nothing acknowledged is in it"
        );
    }
    if let Some(rebuilt) = &recovery.rebuilt {
        tracing::warn!(rebuilt, "the store's state was damaged and is rebuilt from the log");
    }
    tracing::info!(revision = recovery.revision, replayed = recovery.replayed, "the store is open");
}

/// Makes what is missing of the secrets in files, and answers with the one that lets machines join.
fn kept_secrets(plan: &ServerPlan, ca_pem: &str) -> Result<AgentToken, Problem> {
    secrets::server_token(&plan.instance, plan.arguments.token.as_deref(), ca_pem)?;
    secrets::ensure_seal_key(&plan.instance)?;
    AgentToken::open(&plan.instance, plan.arguments.agent_token.as_deref(), ca_pem)
}

pub(super) fn tls_dir(plan: &ServerPlan) -> PathBuf {
    plan.instance.server_dir().join("tls")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_store_is_told_with_what_stays() {
        let error = OpenError::Damaged { path: "/d/server/store/log/1".into(), what: "a frame".to_string() };
        let said = unopened(&error).to_string();
        assert!(said.contains("it is damaged: /d/server/store/log/1: a frame"), "{said}");
        assert!(said.contains("DATA/agent and DATA/storage stay") && said.contains("--seal-key"), "{said}");
    }
}
