//! Three stores in one process that a group keeps alike, over a network in memory that can be cut.
//!
//! The first begins alone and becomes a group while it runs; the others join it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;

use crate::group::{self, Group};
use crate::log::disk::Disk;
use crate::log::disk::fake::FakeDisk;
use crate::types::{Leases, Store, StoreError, Txn, TxnResult};
use crate::{Config, EmbeddedStore};

mod network;
mod tests;

use network::Network;

/// Their numbers are their addresses. By identity they are known to the group only.
const MEMBERS: [u64; 3] = [1, 2, 3];

/// A store and the group as it sees it.
struct Member {
    store: Arc<EmbeddedStore>,
    group: Arc<Group>,
}

/// Three members, of which some may be down.
struct Cluster {
    dirs: BTreeMap<u64, tempfile::TempDir>,
    disks: BTreeMap<u64, FakeDisk>,
    members: BTreeMap<u64, Member>,
    network: Network,
    settings: Settings,
    id: u64,
}

#[derive(Clone, Copy)]
struct Settings {
    /// A lazy write waits so long for a sync of others.
    lazy: Duration,
    /// A write that has not been agreed on by then is given up.
    timeout: Duration,
    /// Records that are kept beyond a checkpoint.
    kept: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { lazy: Duration::from_millis(20), timeout: Duration::from_secs(20), kept: 1000 }
    }
}

impl Cluster {
    /// Three members; the first leads.
    async fn new(settings: Settings) -> Cluster {
        let mut cluster = Cluster::one(settings).await;
        for id in [2, 3] {
            cluster.start(id).await;
            let group = &cluster.members[&id].group;
            cluster.members[&1].group.add(group.identity().member, &id.to_string()).await.unwrap();
        }
        cluster.leader().await;
        cluster
    }

    /// The first as a group of its own.
    async fn one(settings: Settings) -> Cluster {
        let dirs = MEMBERS.map(|id| (id, tempfile::tempdir().unwrap())).into_iter().collect();
        let disks = MEMBERS.map(|id| (id, FakeDisk::default())).into_iter().collect();
        let network = Network::default();
        let mut cluster = Cluster { dirs, disks, members: BTreeMap::new(), network, settings, id: 0 };
        let store = cluster.alone();
        let group = store.found_group("1", cluster.network.from(1), &cluster.times()).await.unwrap();
        cluster.id = group.identity().cluster;
        cluster.join(1, store, group);
        cluster
    }

    /// The first member before it has become one.
    fn alone(&self) -> Arc<EmbeddedStore> {
        let disk: Arc<dyn Disk> = Arc::new(self.disks[&1].clone());
        EmbeddedStore::open_on(self.config(1), disk, None).unwrap().0
    }

    /// Opens a member on what its disks hold.
    async fn start(&mut self, id: u64) {
        let disk: Arc<dyn Disk> = Arc::new(self.disks[&id].clone());
        let lazy = self.settings.lazy;
        let (store, _, prepared) =
            EmbeddedStore::load_member(self.config(id), disk, None, self.id, lazy).unwrap();
        let group = prepared.launch(self.network.from(id), &self.times()).await.unwrap();
        self.join(id, store, group);
    }

    fn join(&mut self, id: u64, store: Arc<EmbeddedStore>, group: Group) {
        let group = Arc::new(group);
        self.network.join(id, Arc::clone(&group));
        self.members.insert(id, Member { store, group });
    }

    fn config(&self, id: u64) -> Config {
        super::config(self.dirs[&id].path())
    }

    fn times(&self) -> group::Settings {
        group::Settings {
            heartbeat: Duration::from_millis(100),
            election: Duration::from_millis(400),
            write_timeout: self.settings.timeout,
            read_timeout: self.settings.timeout,
            lazy: self.settings.lazy,
            kept_records: self.settings.kept,
        }
    }

    /// Takes a member's power: what its log's disk had not synced is gone, or half there.
    async fn cut_power(&mut self, id: u64, keep: impl FnMut() -> bool) {
        let left = self.disks[&id].lose_power(keep);
        self.stop(id).await;
        self.disks.insert(id, left);
    }

    async fn stop(&mut self, id: u64) {
        let Some(member) = self.members.remove(&id) else { return };
        self.network.leave(id);
        member.group.stop().await;
        let store = member.store;
        tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    }

    async fn stop_all(&mut self) {
        for id in MEMBERS {
            self.stop(id).await;
        }
    }

    /// Nobody stands for election from now on.
    fn settle(&self) {
        self.members.values().for_each(|member| member.group.raft().runtime_config().elect(false));
    }

    /// The number of the member that leads, as it says itself and a majority knows.
    async fn leader(&self) -> u64 {
        self.eventually("somebody leads", || {
            let metrics =
                self.members.iter().map(|(id, member)| (*id, member.group.raft().metrics().borrow().clone()));
            let metrics: Vec<_> = metrics.collect();
            let (id, found) = metrics.iter().find(|(_, metrics)| metrics.state == ServerState::Leader)?;
            let follow =
                metrics.iter().filter(|(_, metrics)| metrics.current_leader == Some(found.id)).count();
            // Its lease clock runs, too.
            (follow >= 2
                && !matches!(self.members[id].store.keep_alive(1), Err(StoreError::NotLeader { .. })))
            .then_some(*id)
        })
        .await
    }

    /// The number of the member that leads, once every member that is up knows. One that has voted hears from
    /// the new leader only later who won.
    async fn known_leader(&self) -> u64 {
        self.eventually("everybody knows who leads", || {
            let known = |member: &Member| member.group.raft().metrics().borrow().current_leader;
            let leaders: BTreeSet<_> = self.members.values().map(known).collect();
            (leaders.len() == 1).then_some(leaders.first().copied().flatten()?)
        })
        .await;
        self.leader().await
    }

    fn identity(&self, id: u64) -> u64 {
        self.members[&id].group.identity().member
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
