//! A server among others: it founds the group when the first one joins, and changes the members.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agent::problem::chain;
use agent::{Instance, Problem};
use apiserver::OtherServers;
use embedded_store::EmbeddedStore;
use embedded_store::group::{Group, GroupError, Settings};
use parking_lot::Mutex;
use supervisor::Stage;
use tokio::sync::{Notify, watch};

use super::join;
use super::peers::Peers;
use super::watching::{Answering, PING_TIMEOUT};
use super::{Answer, Flags, Place, Request, identity_text, parse_identity, tls};
use crate::pki::Pki;

pub(super) struct Running {
    pub(super) group: Arc<Group>,
    pub(super) peers: Peers,
}

/// This server, as one that may be one of several.
pub(crate) struct Servers {
    pub(super) instance: Instance,
    pki: Arc<Pki>,
    pub(super) flags: Flags,
    store: OnceLock<Arc<EmbeddedStore>>,
    running: OnceLock<Running>,
    /// Told when the group runs.
    pub(super) founded: Notify,
    /// Where others reach this server.
    place: Place,
    founding: tokio::sync::Mutex<()>,
    pub(super) group_tls: Arc<rustls::ServerConfig>,
    pub(super) join_tls: Arc<rustls::ServerConfig>,
    pub(super) stage: Stage,
    pub(super) others: watch::Sender<OtherServers>,
    /// The members that answer, while this server leads.
    pub(super) answering: Mutex<Answering>,
    /// Where etcd's API is served.
    pub(super) etcd_url: OnceLock<String>,
}

/// A leader that is not known yet, or has just gone, is asked again.
const RETRY: Duration = Duration::from_millis(300);
/// So often, for a change of the members.
const PATIENCE: u32 = 40;

impl Servers {
    pub(crate) fn new(
        instance: Instance,
        pki: Arc<Pki>,
        place: Place,
        flags: Flags,
        stage: Stage,
    ) -> Result<Arc<Servers>, Problem> {
        let (group_tls, join_tls) = (Arc::new(tls::server(&pki)?), Arc::new(tls::join_server(&pki)?));
        Ok(Arc::new(Servers {
            instance,
            pki,
            flags,
            store: OnceLock::new(),
            running: OnceLock::new(),
            founded: Notify::new(),
            place,
            founding: tokio::sync::Mutex::default(),
            group_tls,
            join_tls,
            stage,
            others: watch::Sender::new(OtherServers::KeptHere(Vec::new())),
            answering: Mutex::default(),
            etcd_url: OnceLock::new(),
        }))
    }

    /// The store is open, alone or as a member.
    pub(crate) fn set_store(&self, store: Arc<EmbeddedStore>) {
        let _ = self.store.set(store);
    }

    pub(crate) fn set_group(&self, group: Group, peers: Peers) {
        peers.set_own(group.identity().member);
        self.run(group, peers);
    }

    fn run(&self, group: Group, peers: Peers) -> &Running {
        let running = self.running.get_or_init(|| Running { group: Arc::new(group), peers });
        self.founded.notify_one();
        running
    }

    pub(super) fn store(&self) -> Option<&Arc<EmbeddedStore>> {
        self.store.get()
    }

    pub(super) fn running(&self) -> Option<&Running> {
        self.running.get()
    }

    pub(crate) fn group(&self) -> Option<&Arc<Group>> {
        self.running.get().map(|running| &running.group)
    }

    /// Whether a server of this name is there already.
    pub(super) fn is_known(&self, name: &str) -> bool {
        let members = self.group().map(|group| group.view().members).unwrap_or_default();
        self.place.name == name || members.iter().any(|info| Place::parse(&info.address).name == name)
    }

    /// Whether it is a member of this group.
    pub(super) fn has_member(&self, cluster: &str, member: &str) -> bool {
        let Some(view) = self.group().map(|group| group.view()) else { return false };
        let is_it = |id: u64| identity_text(id) == member;
        identity_text(view.cluster) == cluster && view.members.iter().any(|info| is_it(info.id))
    }

    /// Takes the members of this name out of the group, so that another one can have it. One that answers
    /// stays.
    pub(super) async fn make_room(&self, name: &str) -> Result<(), Problem> {
        let taken =
            |why: &str, advice: &str| Problem::new(format!("replace the server {name:?}"), why, advice);
        if self.place.name == name {
            return Err(taken("it is the one that was asked", "give --node-name, or another --server"));
        }
        let Some(running) = self.running.get() else { return Ok(()) };
        for info in running.group.view().members {
            if Place::parse(&info.address).name != name {
                continue;
            }
            let asked = running.peers.ask(info.id, &info.address, &Request::Ping);
            if tokio::time::timeout(PING_TIMEOUT, asked).await.is_ok_and(|answer| answer.is_ok()) {
                return Err(taken("it runs", "stop it first, or give --node-name"));
            }
            tracing::warn!(
                server = identity_text(info.id),
                name,
                "a server is replaced by another of its name"
            );
            self.change(Request::Remove { member: identity_text(info.id) }).await?;
        }
        Ok(())
    }

    /// Makes this server, which is alone, the first of a group.
    async fn found(&self) -> Result<&Running, Problem> {
        let failed =
            |why: &dyn std::error::Error| Problem::new("found a group of servers", chain(why), "see the log");
        let _turn = self.founding.lock().await;
        if let Some(running) = self.running.get() {
            return Ok(running);
        }
        let starting = || Problem::plain("the server is starting: try again");
        let store = self.store.get().ok_or_else(starting)?;
        let own = store.status().store;
        let peers = Peers::new(self.pki.clone(), own);
        peers.set_own(own);
        let transport = Arc::new(peers.clone());
        let group = store.found_group(&self.place.text(), transport, &Settings::default()).await;
        let group = group.map_err(|error| failed(&error))?;
        tracing::info!(server = identity_text(own), "another server joins: this one is a group from now on");
        Ok(self.run(group, peers))
    }

    /// Carries out a request where the leader is.
    pub(crate) async fn change(&self, request: Request) -> Result<(), Problem> {
        let Some(running) = self.running.get() else {
            let why = "this server is the only one";
            return Err(Problem::new("change the servers", why, "nothing has to be done"));
        };
        let mut last = Problem::plain("no server leads the group: too few of them are there");
        for _ in 0..PATIENCE {
            let mut answer = self.carry_out(&request).await;
            if let Answer::NotLeader { leader: Some((id, address)) } = &answer {
                match running.peers.ask(parse_identity(id)?, address, &request).await {
                    Ok(other) => answer = other,
                    Err(problem) => last = problem,
                }
            }
            match answer {
                Answer::Done => return Ok(()),
                Answer::Refused(why) => return Err(Problem::plain(why)),
                Answer::EtcdUrl(_) => return Err(Problem::plain("another server's answer makes no sense")),
                Answer::NotLeader { .. } => tokio::time::sleep(RETRY).await,
            }
        }
        Err(last)
    }

    /// Carries out a request here, if this server leads.
    pub(super) async fn carry_out(&self, request: &Request) -> Answer {
        let outcome = match request {
            Request::Ping => Ok(Answer::Done),
            Request::EtcdUrl => Ok(Answer::EtcdUrl(self.etcd_url.get().cloned())),
            Request::Join { member, address } => self.add(member, address).await,
            Request::Remove { member } => {
                self.with(member, async |group, member| group.remove(member).await).await
            }
            Request::Promote { member } => {
                self.with(member, async |group, member| group.promote(member).await).await
            }
        };
        match outcome {
            Ok(answer) => answer,
            Err(problem) => Answer::Refused(problem.to_string()),
        }
    }

    async fn add(&self, member: &str, address: &str) -> Result<Answer, Problem> {
        let member = parse_identity(member)?;
        let running = self.found().await?;
        tracing::info!(server = identity_text(member), address, "a server joins");
        let outcome = running.group.add(member, address).await;
        if outcome.is_ok() {
            tracing::info!(server = identity_text(member), "the server is a member with a vote");
        }
        Ok(answer_of(outcome))
    }

    async fn with(
        &self,
        member: &str,
        change: impl AsyncFnOnce(&Group, u64) -> Result<(), GroupError>,
    ) -> Result<Answer, Problem> {
        let member = parse_identity(member)?;
        match self.group() {
            Some(group) => Ok(answer_of(change(group, member).await)),
            None => Err(Problem::plain("the server is not one of several")),
        }
    }

    /// Makes this server, which runs as a member, one that the others know: at first, and when its address
    /// has changed.
    pub(crate) async fn announce(&self, server: Option<&str>) -> Result<(), Problem> {
        let Some(running) = self.running.get() else { return Ok(()) };
        let view = running.group.view();
        let own = identity_text(view.own);
        let text = self.place.text();
        if view.members.iter().any(|info| info.id == view.own && info.address == text) {
            return Ok(());
        }
        let request = Request::Join { member: own, address: text };
        if !view.members.is_empty() {
            return self.change(request).await;
        }
        let Some(server) = server else {
            let why = "this server is no member yet";
            return Err(Problem::new("join a group of servers", why, "give --server https://HOST:PORT"));
        };
        let (mut id, mut at) = (0, join::authority(server)?);
        for _ in 0..PATIENCE {
            match running.peers.ask(id, &at, &request).await? {
                Answer::Done => return Ok(()),
                Answer::Refused(why) => {
                    return Err(Problem::new(format!("join {server}"), why, "see the other servers' logs"));
                }
                Answer::NotLeader { leader: Some((leader, address)) } => {
                    (id, at) = (parse_identity(&leader)?, address);
                }
                Answer::NotLeader { leader: None } => tokio::time::sleep(RETRY).await,
                Answer::EtcdUrl(_) => {
                    return Err(Problem::new(
                        format!("join {server}"),
                        "its answer makes no sense",
                        "upgrade that server",
                    ));
                }
            }
        }
        Err(Problem::new(format!("join {server}"), "no server leads the group", "start more of its servers"))
    }
}

fn answer_of(outcome: Result<(), GroupError>) -> Answer {
    match outcome {
        Ok(()) => Answer::Done,
        Err(GroupError::NotLeader { leader }) => {
            Answer::NotLeader { leader: leader.map(|(id, address)| (identity_text(id), address)) }
        }
        Err(error) => Answer::Refused(chain(&error)),
    }
}
