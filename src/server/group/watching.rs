//! The life of a server among others: it takes part, looks after who answers, says how the group is, and
//! hands over before it stops.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::Problem;
use agent::status::report::{Finding, Server};
use apiserver::OtherServers;
use embedded_store::group::View;
use embedded_store::{Store, StoreError};
use futures::future::join_all;
use supervisor::{OnExit, Stage};
use tokio::sync::watch;

use super::members::{Running, Servers};
use super::{Place, Request, ServersRequest, identity_text};

/// How often the leader asks the others whether they are there.
const PING: Duration = Duration::from_secs(3);
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the log says that the group has no leader.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// A leader that no majority has answered for so long does not lead.
const QUORUM_LOST: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

fn address(place: &str) -> Option<IpAddr> {
    Place::parse(place).address.parse::<SocketAddr>().ok().map(|address| address.ip())
}

impl Servers {
    /// The other servers, for the endpoints of the API.
    pub(crate) fn others(&self) -> watch::Receiver<OtherServers> {
        self.others.subscribe()
    }

    /// Looks after the group from when there is one.
    pub(crate) fn start(self: &Arc<Self>) {
        if self.group().is_some() {
            self.others.send_replace(OtherServers::KeptElsewhere);
        }
        let servers = self.clone();
        self.stage.spawn_cancellable("look after the other servers", OnExit::Done, async move {
            servers.founded.notified().await;
            while let Some(running) = servers.running() {
                servers.look(running).await;
                let changed = tokio::time::timeout(PING, running.group.leader_changes()).await;
                if changed == Ok(false) {
                    return;
                }
            }
        });
    }

    async fn look(&self, running: &Running) {
        let view = running.group.view();
        if view.leader != Some(view.own) {
            self.answering.lock().take();
            self.others.send_replace(OtherServers::KeptElsewhere);
            return;
        }
        let others = view.members.iter().filter(|info| info.id != view.own);
        let asked = others.map(async |info| {
            let asked = running.peers.ask(info.id, &info.address, &Request::Ping);
            let answers = tokio::time::timeout(PING_TIMEOUT, asked).await.is_ok_and(|answer| answer.is_ok());
            answers.then_some((info.id, address(&info.address)))
        });
        let answered: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        let addresses = answered.iter().filter_map(|(_, address)| *address).collect();
        *self.answering.lock() = Some(answered.iter().map(|(id, _)| *id).collect());
        let now = OtherServers::KeptHere(addresses);
        self.others.send_if_modified(|known| {
            *known != now && {
                *known = now;
                true
            }
        });
    }

    /// The members as this server knows them; none while it is alone.
    fn told(&self, view: &View) -> Vec<Server> {
        let answering = self.answering.lock().clone();
        let told = view.members.iter().map(|info| {
            let Place { address, name } = Place::parse(&info.address);
            let own = info.id == view.own;
            let role = match (info.leads, info.voter) {
                (true, _) => "leader",
                (_, true) => "voter",
                _ => "learner",
            };
            Server {
                id: identity_text(info.id),
                name,
                address,
                role: role.to_string(),
                answers: answering.as_ref().map(|answering| own || answering.contains(&info.id)),
                behind: info.matched.map(|matched| view.last_index.saturating_sub(matched)),
                own,
            }
        });
        told.collect()
    }

    /// How the group is, with what is to be done.
    pub(crate) fn report(&self, problems: &mut Vec<Finding>) -> Vec<Server> {
        let Some(group) = self.group() else { return Vec::new() };
        let view = group.view();
        let servers = self.told(&view);
        if view.leader.is_none() || view.quorum_ago.is_some_and(|ago| ago > QUORUM_LOST) {
            let voters = servers.iter().filter(|server| server.role != "learner").count();
            let why = format!("{} of {voters} servers with a vote have to reach each other", voters / 2 + 1);
            let advice = "start the others; see 'minik8s server list'";
            problems.push(Finding::new("writes are refused", why, advice));
        }
        for server in servers.iter().filter(|server| server.answers == Some(false)) {
            let what = format!("the server {} ({}) does not answer", server.name, server.address);
            let advice = format!("start it, or take it out with 'minik8s server remove {}'", server.name);
            problems.push(Finding::new(what, "it is down, or cut off".to_string(), advice));
        }
        if servers.iter().filter(|server| server.role != "learner").count() == 2 {
            let why = "both are needed for every write".to_string();
            let advice = "let a third server join";
            problems.push(Finding::new("two servers are no safer than one", why, advice));
        }
        servers
    }

    /// Carries out what a command asks, and answers with the servers as they are then.
    pub(crate) async fn carry_out_command(&self, request: ServersRequest) -> Result<Vec<Server>, Problem> {
        let member = |name: &str| -> Result<String, Problem> {
            let servers = self.group().map(|group| self.told(&group.view())).unwrap_or_default();
            let found: Vec<_> =
                servers.into_iter().filter(|server| server.id == name || server.name == name).collect();
            let wrong = |why: &str| {
                Problem::new(format!("find the server {name:?}"), why, "see 'minik8s server list'")
            };
            match found.as_slice() {
                [one] => Ok(one.id.clone()),
                [] => Err(wrong("there is none of this name or identity")),
                _ => Err(wrong("there are several of this name: give the identity")),
            }
        };
        match request {
            ServersRequest::List => {}
            ServersRequest::Remove(name) => self.change(Request::Remove { member: member(&name)? }).await?,
            ServersRequest::Promote(name) => self.change(Request::Promote { member: member(&name)? }).await?,
        }
        Ok(self.group().map(|group| self.told(&group.view())).unwrap_or_default())
    }

    /// A member becomes known to the others, and waits until the group has a leader.
    pub(crate) async fn take_part(&self, server: Option<&str>) -> Result<(), Problem> {
        let Some(group) = self.group() else { return Ok(()) };
        if !group.view().members.is_empty() {
            self.until_current().await?;
        }
        self.announce(server).await?;
        self.until_current().await
    }

    async fn until_current(&self) -> Result<(), Problem> {
        let Some(store) = self.store() else { return Ok(()) };
        let mut said = Instant::now();
        loop {
            match store.read_barrier().await {
                Ok(()) => return Ok(()),
                Err(StoreError::Stopped) => {
                    return Err(Problem::plain(
                        "this server takes no part in its group any more; see the log",
                    ));
                }
                Err(error) => {
                    if said.elapsed() > SAY_AGAIN {
                        said = Instant::now();
                        let refused = self.running().and_then(|running| running.peers.refused());
                        tracing::warn!(%error, refused, "this server waits for the others of its group");
                    }
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    /// When the stage stops, another server is asked to lead. The stage is the newest: everything still runs.
    pub(crate) fn hand_over_at_stop(self: &Arc<Self>, stage: &Stage) {
        let (servers, stopping) = (self.clone(), stage.stopping());
        stage.spawn("hand over the lead", OnExit::Done, async move {
            stopping.cancelled().await;
            let Some(group) = servers.group() else { return };
            let view = group.view();
            if view.leader == Some(view.own) && view.members.len() > 1 {
                let handed_over = group.hand_over().await;
                tracing::info!(handed_over, "this server stops to lead its group");
            }
        });
    }

    /// Ends this server's part in the group, before its store is closed.
    pub(crate) async fn stop(&self) {
        if let Some(group) = self.group() {
            group.stop().await;
        }
    }
}

/// Members by identity.
pub(super) type Answering = Option<BTreeSet<u64>>;
