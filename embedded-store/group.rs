//! A group of stores that agree on every write, by openraft.
//!
//! A store that is alone becomes a group of one while it runs (`EmbeddedStore::found_group`); further
//! members begin empty (`EmbeddedStore::open_member`), are added as learners, caught up and promoted
//! ([`Group::add`]). Everything but the agreement is what a single store runs: the writer, the log,
//! checkpoints, watches, leases. Messages travel as bytes through a [`Transport`], which is the server's, as
//! are who may join and how members know each other.
//!
//! Members are known by the identity of their store. Absent: a snapshot that is not held in memory while it
//! is sent or received.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::clock::Stamps;
use crate::consensus::ids::LogId;
use crate::consensus::storage::{LogStorage, StateMachine};
use crate::state::core::Core;
use crate::writer::batch::Batch;
use crate::writer::queue::Shared;

mod agreement;
mod engine;
pub(crate) mod entry;
pub(crate) mod forward;
pub(crate) mod machine;
pub(crate) mod marker;
mod network;
mod reads;
pub(crate) mod storage;
mod wire;

use agreement::Agreement;
pub use engine::LONGEST_MESSAGE;
use engine::{Engine, Timeouts};
use entry::{MemberId, Raft};
use forward::Forwards;
use machine::{Machine, ReadSnapshot};
pub use marker::{Identity, identity};
use network::Peers;
pub use network::{CallError, Transport};
use reads::{Asked, Reads};
use storage::{SharedLog, Storage};
use wire::{Message, Reply};

/// How a group behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often the leader says that it is there.
    pub heartbeat: Duration,
    /// A member that has heard nothing for so long, and a random time more, stands for election.
    pub election: Duration,
    /// A write that has not been agreed on by then is given up.
    pub write_timeout: Duration,
    /// The same of a current read.
    pub read_timeout: Duration,
    /// A lazy write waits so long for a sync of others.
    pub lazy: Duration,
    /// Records that are kept for members that lag, beyond what a checkpoint covers.
    pub kept_records: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            heartbeat: Duration::from_millis(150),
            election: Duration::from_millis(600),
            write_timeout: Duration::from_millis(2500),
            read_timeout: Duration::from_millis(2500),
            lazy: Duration::from_secs(1),
            kept_records: 5000,
        }
    }
}

/// A sync may take this part of a heartbeat: the leader says nothing while it waits for one, and a follower
/// answers no sooner.
const SYNCS_PER_HEARTBEAT: u32 = 4;

impl Settings {
    /// Wider on a disk that is slow to sync.
    fn fitted(&self, sync: Duration) -> Settings {
        let heartbeat = self.heartbeat.max(sync * SYNCS_PER_HEARTBEAT).min(Duration::from_secs(5));
        let factor = heartbeat.as_secs_f64() / self.heartbeat.as_secs_f64().max(0.001);
        Settings { heartbeat, election: self.election.mul_f64(factor), ..self.clone() }
    }

    fn raft(&self) -> openraft::Config {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        openraft::Config {
            cluster_name: "minik8s".to_string(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election),
            election_timeout_max: millis(self.election + self.election / 4),
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.kept_records,
            purge_batch_size: 1,
            replication_lag_threshold: self.kept_records.max(50),
            install_snapshot_timeout: 300_000,
            ..openraft::Config::default()
        }
    }
}

/// Why a group does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// Only the leader changes the members.
    #[error("this server does not lead the group")]
    NotLeader {
        /// Its identity and its address, if it is known.
        leader: Option<(u64, String)>,
    },
    #[error("no majority of the group's servers has agreed to it in time")]
    NoQuorum,
    #[error("the server {0:016x} is no member of the group")]
    Unknown(u64),
    #[error("the server {0:016x} cannot be brought up to date: it does not answer, or it is too slow")]
    Lagging(u64),
    #[error("the group cannot be without its last voting server")]
    LastVoter,
    #[error("the server {0:016x} has no vote and cannot lead")]
    NoVoter(u64),
    #[error("the store is a member of a group already")]
    Member,
    #[error("the store cannot be written: {0}")]
    Io(#[from] io::Error),
    #[error("the group's engine has failed: {0}")]
    Failed(String),
}

/// A member, as this one knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    pub id: u64,
    pub address: String,
    pub voter: bool,
    pub leads: bool,
    /// The newest record that the leader knows it to have. Only the leader knows.
    pub matched: Option<u64>,
}

/// What this member knows of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub own: u64,
    pub cluster: u64,
    pub leader: Option<u64>,
    pub term: u64,
    pub last_index: u64,
    pub members: Vec<MemberInfo>,
    /// For a leader: how long ago a majority last answered.
    pub quorum_ago: Option<Duration>,
}

/// Where a member stands in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub cluster: u64,
    pub member: u64,
    pub leader: Option<u64>,
    pub term: u64,
    pub voter: bool,
}

/// A running member of a group.
pub struct Group {
    identity: Identity,
    engine: Arc<Engine>,
    /// End with it.
    tasks: Mutex<JoinSet<()>>,
}

/// What a member is made of before its engine runs.
pub(crate) struct Prepared {
    identity: Identity,
    shared: Arc<Shared>,
    stamps: Arc<Stamps>,
    log: Arc<SharedLog>,
    machine: Machine,
    covered: Arc<Notify>,
    proposals: mpsc::UnboundedReceiver<Vec<Batch>>,
    asked: Asked,
}

/// Prepares a member on its log and state: what the writer holds of it, and what the engine will need.
pub(crate) fn prepare(
    identity: Identity,
    shared: &Arc<Shared>,
    stamps: &Arc<Stamps>,
    log: Box<dyn LogStorage>,
    lazy: Duration,
    read: ReadSnapshot,
) -> (Agreement, Prepared) {
    let log = SharedLog::new(log);
    let (applied, ..) = shared.core.applied();
    let committed: Arc<Mutex<LogId>> = Arc::new(Mutex::new(applied));
    let (reads, asked) = Reads::new();
    let (covered, checkpointing) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (agreement, proposals) = Agreement::new(
        Arc::clone(&log),
        Arc::clone(&committed),
        reads,
        Arc::clone(&covered),
        Arc::clone(&checkpointing),
        lazy,
    );
    let state: Arc<dyn StateMachine> = Arc::<Core>::clone(&shared.core);
    let forwards = Arc::new(Forwards::new(identity.member));
    let machine =
        Machine { state, store: Some(Arc::clone(shared)), committed, forwards, checkpointing, read };
    let (shared, stamps) = (Arc::clone(shared), Arc::clone(stamps));
    (agreement, Prepared { identity, shared, stamps, log, machine, covered, proposals, asked })
}

impl Prepared {
    /// Starts the engine and the tasks between it and the store.
    pub(crate) async fn launch(
        self,
        transport: Arc<dyn Transport>,
        settings: &Settings,
    ) -> Result<Group, GroupError> {
        let Prepared { identity, shared, stamps, log, machine, covered, proposals, asked } = self;
        let failed = |e: &dyn std::fmt::Display| GroupError::Failed(e.to_string());
        let measured = Arc::clone(&log);
        let sync = tokio::task::spawn_blocking(move || measured.measure_sync()).await.unwrap_or_default();
        let settings = settings.fitted(sync);
        tracing::debug!(?sync, heartbeat = ?settings.heartbeat, election = ?settings.election, "times of the group");
        let config = Arc::new(settings.raft().validate().map_err(|e| failed(&e))?);
        let forwards = Arc::clone(&machine.forwards);
        let peers = Peers(Arc::clone(&transport));
        let raft = Raft::new(identity.member, config, peers, Storage(log), machine).await;
        let raft = raft.map_err(|e| failed(&e))?;
        // It has told what it has found once it answers: members, and who leads.
        raft.is_initialized().await.map_err(|e| failed(&e))?;
        let timeouts = Timeouts { write: settings.write_timeout, read: settings.read_timeout };
        let engine = Arc::new(Engine {
            id: identity.member,
            raft,
            transport,
            shared,
            stamps,
            forwards,
            timeouts,
            stopping: AtomicBool::new(false),
            receiving: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(agreement::propose_all(Arc::clone(&engine), proposals));
        tasks.spawn(agreement::follow_leadership(Arc::clone(&engine)));
        tasks.spawn(agreement::follow_checkpoints(Arc::clone(&engine), covered));
        tasks.spawn(reads::answer_all(Arc::clone(&engine), asked));
        Ok(Group { identity, engine, tasks: Mutex::new(tasks) })
    }
}

/// How long a new member may take to be caught up before it is promoted.
const CATCH_UP: Duration = Duration::from_secs(600);
/// How long a change of the members may take.
const CHANGE: Duration = Duration::from_secs(10);

impl Group {
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Answers a message of another member.
    pub async fn handle(&self, from: u64, message: &[u8]) -> Bytes {
        self.engine.handle(from, message).await.into()
    }

    /// The group as it stands.
    pub fn view(&self) -> View {
        let metrics = self.engine.raft.metrics();
        let now = metrics.borrow();
        let membership = now.membership_config.membership();
        let voters: std::collections::BTreeSet<MemberId> = membership.voter_ids().collect();
        let matched = |id: &MemberId| {
            let progress = now.replication.as_ref()?.get(id)?;
            Some(progress.map_or(0, |id| id.index + 1))
        };
        let members = membership.nodes().map(|(id, node)| MemberInfo {
            id: *id,
            address: node.addr.clone(),
            voter: voters.contains(id),
            leads: now.current_leader == Some(*id),
            matched: matched(id),
        });
        View {
            own: self.identity.member,
            cluster: self.identity.cluster,
            leader: now.current_leader,
            term: now.current_term,
            last_index: now.last_log_index.map_or(0, |index| index + 1),
            members: members.collect(),
            quorum_ago: now.millis_since_quorum_ack.map(Duration::from_millis),
        }
    }

    /// Resolves when another member leads, or there are other members; `false` once it has stopped.
    pub async fn leader_changes(&self) -> bool {
        let mut metrics = self.engine.raft.metrics();
        let look = |now: &openraft::RaftMetrics<MemberId, BasicNode>| {
            (now.current_leader, *now.membership_config.log_id())
        };
        let before = look(&metrics.borrow_and_update());
        while metrics.changed().await.is_ok() {
            if look(&metrics.borrow_and_update()) != before {
                return true;
            }
        }
        false
    }

    fn check_leader(&self) -> Result<(), GroupError> {
        if self.engine.leads() {
            return Ok(());
        }
        let leader = self.engine.raft.metrics().borrow().current_leader;
        let leader = leader.filter(|leader| *leader != self.identity.member);
        let known = leader.and_then(|id| Some((id, self.engine.node(id)?.addr)));
        Err(GroupError::NotLeader { leader: known })
    }

    /// Adds a member, which must be running: first as a learner, and as a voter once it is caught up.
    pub async fn add(&self, member: u64, address: &str) -> Result<(), GroupError> {
        self.add_learner(member, address).await?;
        self.promote(member).await
    }

    /// Adds a member that has no vote, or says where one is that is there already. Returns once it has all.
    pub async fn add_learner(&self, member: u64, address: &str) -> Result<(), GroupError> {
        self.check_leader()?;
        let node = BasicNode::new(address);
        match self.engine.node(member) {
            Some(known) if known == node => {}
            Some(_) => self.change(ChangeMembers::SetNodes(BTreeMap::from([(member, node)]))).await?,
            None => self.change(ChangeMembers::AddNodes(BTreeMap::from([(member, node)]))).await?,
        }
        let target = self.engine.raft.metrics().borrow().last_log_index;
        let wait = self.engine.raft.wait(Some(CATCH_UP));
        let caught_up = wait.metrics(
            |now| {
                let matched = now.replication.as_ref().and_then(|all| all.get(&member).copied().flatten());
                now.state != ServerState::Leader || matched.map(|id| id.index) >= target
            },
            "a new member is caught up",
        );
        caught_up.await.map_err(|_| GroupError::Lagging(member))?;
        self.check_leader()
    }

    /// Gives a learner a vote.
    pub async fn promote(&self, member: u64) -> Result<(), GroupError> {
        self.check_leader()?;
        if self.engine.node(member).is_none() {
            return Err(GroupError::Unknown(member));
        }
        self.change(ChangeMembers::AddVoterIds([member].into())).await
    }

    /// Takes a member out of the group. The leader hands over first, and leaves it to the next one.
    pub async fn remove(&self, member: u64) -> Result<(), GroupError> {
        self.check_leader()?;
        let view = self.view();
        let Some(info) = view.members.iter().find(|info| info.id == member) else {
            return Err(GroupError::Unknown(member));
        };
        if info.voter && view.members.iter().filter(|info| info.voter).count() == 1 {
            return Err(GroupError::LastVoter);
        }
        if info.leads {
            // A leader that takes itself out leaves the others without one until they notice.
            self.hand_over().await;
            return self.check_leader().and(Err(GroupError::NoQuorum));
        }
        if info.voter {
            self.change(ChangeMembers::RemoveVoters([member].into())).await?;
        }
        if self.engine.leads() && self.engine.node(member).is_some() {
            self.change(ChangeMembers::RemoveNodes([member].into())).await?;
        }
        Ok(())
    }

    async fn change(&self, change: ChangeMembers<MemberId, BasicNode>) -> Result<(), GroupError> {
        let changed = self.engine.raft.change_membership(change, false);
        let changed = tokio::time::timeout(CHANGE, changed).await.map_err(|_| GroupError::NoQuorum)?;
        match changed {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                self.check_leader().and(Err(GroupError::NotLeader { leader: None }))
            }
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(e))) => {
                Err(GroupError::Failed(e.to_string()))
            }
            Err(RaftError::Fatal(e)) => Err(GroupError::Failed(e.to_string())),
        }
    }

    /// Before this member stops: another one that is up to date is asked to lead, so that nobody has to wait
    /// for its absence to be noticed. Returns whether another one leads.
    pub async fn hand_over(&self) -> bool {
        let view = self.view();
        if view.leader != Some(self.identity.member) {
            return true;
        }
        let best =
            view.members.iter().filter(|info| info.voter && !info.leads).max_by_key(|info| info.matched);
        let Some(best) = best else { return false };
        let own = self.identity.member;
        self.ask_to_lead(best.id).await.is_some_and(|leader| leader != own)
    }

    /// Has another member lead instead of this one.
    pub async fn move_leader(&self, to: u64) -> Result<(), GroupError> {
        self.check_leader()?;
        let view = self.view();
        match view.members.iter().find(|info| info.id == to) {
            None => Err(GroupError::Unknown(to)),
            Some(info) if !info.voter => Err(GroupError::NoVoter(to)),
            Some(info) if info.leads => Ok(()),
            Some(_) => match self.ask_to_lead(to).await {
                Some(leader) if leader == to => Ok(()),
                _ => Err(GroupError::Lagging(to)),
            },
        }
    }

    /// Asks another member to lead. Returns who leads then; none if that has not changed.
    async fn ask_to_lead(&self, member: u64) -> Option<u64> {
        // It is given the votes only if nobody hears this leader any more.
        self.engine.raft.runtime_config().heartbeat(false);
        let asked = self.engine.call(member, Message::Lead.encode().into()).await;
        if !matches!(asked, Ok(Reply::Taken)) {
            self.engine.raft.runtime_config().heartbeat(true);
            return None;
        }
        let own = self.identity.member;
        let wait = self.engine.raft.wait(Some(Duration::from_secs(3)));
        let moved = wait
            .metrics(|now| now.current_leader.is_some_and(|leader| leader != own), "another member leads");
        let moved = moved.await.ok();
        self.engine.raft.runtime_config().heartbeat(true);
        moved?.current_leader
    }

    /// Where this member stands; cheap.
    pub fn position(&self) -> Position {
        let metrics = self.engine.raft.metrics();
        let now = metrics.borrow();
        let Identity { cluster, member } = self.identity;
        let voter = now.membership_config.membership().voter_ids().any(|id| id == member);
        Position { cluster, member, leader: now.current_leader, term: now.current_term, voter }
    }

    /// Stops the engine: from then on this member neither answers nor asks. The store is closed afterwards.
    pub async fn stop(&self) {
        self.engine.stopping.store(true, Ordering::Release);
        let _ = self.engine.raft.shutdown().await;
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
    }

    #[cfg(test)]
    pub(crate) fn raft(&self) -> &Raft {
        &self.engine.raft
    }
}
