//! Three stores in one process that openraft keeps alike, over a network in memory that can be cut.
//!
//! Everything but the agreement is what a single server runs: the writer, the log, checkpoints, watches,
//! leases. So what is proved here is the seam: [`Consensus`](crate::consensus::Consensus) can be a group. It
//! is not a server yet: there is no transport and no way to change the members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::{BasicNode, Raft, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::raft::adapter::{Group, Machine, SharedLog, Storage};
use crate::consensus::storage::StateMachine;
use crate::embedded::{self, Loaded};
use crate::log::disk::Disk;
use crate::log::disk::fake::FakeDisk;
use crate::state::core::Core;
use crate::types::{Leases, Store, StoreError, Txn, TxnResult};
use crate::{Config, EmbeddedStore};

mod agreement;
mod network;
mod tests;

use agreement::{Agreement, Reads};
use network::Network;

const MEMBERS: [u64; 3] = [1, 2, 3];

/// A store and the engine that drives it.
struct Member {
    store: Arc<EmbeddedStore>,
    raft: Raft<Group>,
    /// Carry proposals and news between the two; end with it.
    tasks: JoinSet<()>,
}

/// Three members, of which some may be down.
struct Cluster {
    dirs: BTreeMap<u64, tempfile::TempDir>,
    disks: BTreeMap<u64, FakeDisk>,
    members: BTreeMap<u64, Member>,
    network: Network,
    settings: Settings,
}

#[derive(Clone, Copy)]
struct Settings {
    /// A lazy write waits so long for a sync of others.
    lazy: Duration,
    /// A write that has not been agreed on by then is given up.
    timeout: Duration,
    /// Records between two snapshots.
    snapshot: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { lazy: Duration::from_millis(20), timeout: Duration::from_secs(20), snapshot: 1000 }
    }
}

impl Cluster {
    /// Three empty members; the first leads.
    async fn new(settings: Settings) -> Cluster {
        let dirs = MEMBERS.map(|id| (id, tempfile::tempdir().unwrap())).into_iter().collect();
        let disks = MEMBERS.map(|id| (id, FakeDisk::default())).into_iter().collect();
        let network = Network::default();
        let mut cluster = Cluster { dirs, disks, members: BTreeMap::new(), network, settings };
        for id in MEMBERS {
            cluster.start(id).await;
        }
        let nodes: BTreeMap<u64, BasicNode> =
            MEMBERS.map(|id| (id, BasicNode::new(id))).into_iter().collect();
        cluster.members[&1].raft.initialize(nodes).await.unwrap();
        cluster.leader().await;
        cluster
    }

    /// Opens a member on what its disks hold.
    async fn start(&mut self, id: u64) {
        let config = self.config(id);
        let disk: Arc<dyn Disk> = Arc::new(self.disks[&id].clone());
        let loaded: Loaded = embedded::load(&config, &disk, false).unwrap();
        let mut parts = None;
        let (settings, network) = (self.settings, self.network.clone());
        let (store, _) = EmbeddedStore::start(config, disk, None, loaded, |member| {
            let log: SharedLog = Arc::new(Mutex::new(Box::new(member.log)));
            let (applied, ..) = member.shared.core.applied();
            let committed = Arc::new(Mutex::new(applied));
            let reads = Arc::new(Reads { id, network, timeout: settings.timeout });
            let (agreement, proposals) =
                Agreement::new(Arc::clone(&log), Arc::clone(&committed), Arc::clone(&reads), settings.lazy);
            parts = Some((member.shared, member.stamps, log, committed, proposals));
            Ok(Box::new(agreement))
        })
        .unwrap();
        let (shared, stamps, log, committed, proposals) = parts.unwrap();
        // Until it is known who leads.
        shared.lessor.demote(None);
        let state: Arc<dyn StateMachine> = Arc::<Core>::clone(&shared.core);
        let machine = Machine { state, newest: Arc::default(), store: Some(Arc::clone(&shared)), committed };
        let storage = Storage { log, makes_room: false };
        let config = Arc::new(self.raft_config().validate().unwrap());
        let raft = Raft::new(id, config, self.network.from(id), storage, machine).await.unwrap();
        self.network.join(id, raft.clone());
        let mut tasks = JoinSet::new();
        let timeout = self.settings.timeout;
        tasks.spawn(agreement::propose_all(raft.clone(), proposals, stamps, timeout));
        tasks.spawn(agreement::follow_leadership(raft.clone(), shared));
        self.members.insert(id, Member { store, raft, tasks });
    }

    fn config(&self, id: u64) -> Config {
        super::config(self.dirs[&id].path())
    }

    fn raft_config(&self) -> openraft::Config {
        openraft::Config {
            heartbeat_interval: 100,
            election_timeout_min: 400,
            election_timeout_max: 700,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.settings.snapshot),
            max_in_snapshot_log_to_keep: 10,
            purge_batch_size: 1,
            replication_lag_threshold: 50,
            install_snapshot_timeout: 30_000,
            ..openraft::Config::default()
        }
    }

    /// Takes a member's power: what its log's disk had not synced is gone, or half there.
    async fn cut_power(&mut self, id: u64, keep: impl FnMut() -> bool) {
        let left = self.disks[&id].lose_power(keep);
        self.stop(id).await;
        self.disks.insert(id, left);
    }

    async fn stop(&mut self, id: u64) {
        let Some(mut member) = self.members.remove(&id) else { return };
        self.network.leave(id);
        let _ = member.raft.shutdown().await;
        member.tasks.shutdown().await;
        let store = member.store;
        tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    }

    async fn stop_all(&mut self) {
        for id in MEMBERS {
            self.stop(id).await;
        }
    }

    /// The member that leads, as it says itself and a majority knows.
    async fn leader(&self) -> u64 {
        self.eventually("somebody leads", || {
            let metrics =
                self.members.iter().map(|(id, member)| (*id, member.raft.metrics().borrow().clone()));
            let metrics: Vec<_> = metrics.collect();
            let (id, _) = metrics.iter().find(|(_, metrics)| metrics.state == ServerState::Leader)?;
            let follow = metrics.iter().filter(|(_, metrics)| metrics.current_leader == Some(*id)).count();
            // Its lease clock runs, too.
            (follow >= 2
                && !matches!(self.members[id].store.keep_alive(1), Err(StoreError::NotLeader { .. })))
            .then_some(*id)
        })
        .await
    }

    fn store(&self, id: u64) -> &Arc<EmbeddedStore> {
        &self.members[&id].store
    }

    /// Waits for what happens by itself.
    async fn eventually<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        eventually(what, look).await
    }

    /// Writes through whichever member leads. An error means that it is not known whether it was done.
    async fn write(&self, txn: &Txn) -> Result<TxnResult, StoreError> {
        write(&self.stores(), txn).await
    }

    fn stores(&self) -> Vec<Arc<EmbeddedStore>> {
        self.members.values().map(|member| Arc::clone(&member.store)).collect()
    }

    /// All members that are up hold the same, once they have caught up.
    async fn agree(&self) -> u32 {
        self.eventually("all members hold the same", || {
            let hashes: BTreeSet<_> = self.stores().iter().map(|store| store.hash(0).unwrap()).collect();
            (hashes.len() == 1).then(|| hashes.first().unwrap().0)
        })
        .await
    }
}

async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        loop {
            looks.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), found).await.unwrap_or_else(|_| panic!("{what}"))
}

/// Asks one after the other until one takes it.
async fn write(stores: &[Arc<EmbeddedStore>], txn: &Txn) -> Result<TxnResult, StoreError> {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..3000 {
        for store in stores {
            match store.txn(txn.clone()).await {
                Err(StoreError::NotLeader { .. }) => {}
                other => return other,
            }
        }
        looks.tick().await;
    }
    Err(StoreError::NotLeader { leader: None })
}

fn our_index(id: Option<super::raft::adapter::LogId>) -> u64 {
    id.map_or(0, |id| super::raft::adapter::our_id(id).index)
}
