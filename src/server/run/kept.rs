//! What is kept in the data directory, opened: the store, keys and secrets.

use std::path::PathBuf;
use std::sync::Arc;

use agent::addresses::Addresses;
use agent::problem::chain;
use agent::{Instance, Problem, keys};
use embedded_store::{EmbeddedStore, OpenError, Recovery};

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
}

/// Opens the store, and meanwhile keys and secrets; what is missing is made.
pub(super) async fn open_kept(plan: &ServerPlan, addresses: &Addresses) -> Result<Kept, Problem> {
    let instance = plan.instance.clone();
    let quota = plan.arguments.quota_backend_bytes;
    let opening = tokio::task::spawn_blocking(move || open_store(&instance, quota));
    let (pki, clients) = Pki::open(&tls_dir(plan), plan.serving_names(addresses)?, keys::now())?;
    let agents = kept_secrets(plan, &pki.server_ca.certificate_pem)?;
    let opening = opening.await;
    let (store, recovery) =
        opening.map_err(|error| Problem::new("open the store", error, "see the messages above"))??;
    Ok(Kept { pki: Arc::new(pki), clients, agents, store, recovery })
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

fn open_store(instance: &Instance, quota: Option<u64>) -> Result<(Arc<EmbeddedStore>, Recovery), Problem> {
    let folder = instance.server_dir().join("store");
    let quota_bytes = quota.unwrap_or_else(|| default_quota(memory()));
    let config = embedded_store::Config { quota_bytes, ..embedded_store::Config::new(&folder) };
    let opened = EmbeddedStore::open(config);
    let (store, recovery) = opened.map_err(|error| match &error {
        OpenError::Io { path, source } if source.kind() == std::io::ErrorKind::StorageFull => {
            let what = format!("open the store in {}", path.display());
            Problem::new(what, source, "free some space on its disk and start again: nothing is lost")
        }
        _ => Problem::plain(format!("cannot open the store: {}", chain(&error))),
    })?;
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
    Ok((store, recovery))
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
