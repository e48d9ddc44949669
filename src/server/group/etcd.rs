//! The servers as members of etcd's API: `etcdctl member list`, `member remove|promote`, `move-leader`.

use std::time::Duration;

use embedded_store::etcd::{ListedMember, Members, MembersError};
use embedded_store::group::{GroupError, Position};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};

use super::members::Servers;
use super::{Answer, Place, Request, identity_text};

/// How long another server may take to say where its etcd API is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether a URL means the machine that it is used on.
fn is_loopback(url: &str) -> bool {
    let address = url.strip_prefix("https://").and_then(|rest| rest.parse::<std::net::SocketAddr>().ok());
    address.is_some_and(|address| address.ip().is_loopback())
}

impl Servers {
    /// Etcd's API is served here.
    pub(crate) fn set_etcd_url(&self, url: &str) {
        let _ = self.etcd_url.set(url.to_string());
    }

    async fn etcd_urls_of(&self, member: u64, address: &str) -> Vec<String> {
        let Some(running) = self.running() else { return Vec::new() };
        let asked = running.peers.ask(member, address, &Request::EtcdUrl);
        match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
            // Another machine's loopback address is nowhere from here.
            Ok(Ok(Answer::EtcdUrl(Some(url)))) if !is_loopback(&url) => vec![url],
            _ => Vec::new(),
        }
    }

    async fn listed(&self) -> Vec<ListedMember> {
        let Some(view) = self.group().map(|group| group.view()) else { return Vec::new() };
        let members = view.members.iter().map(async |info| {
            let place = Place::parse(&info.address);
            let client_urls = match info.id == view.own {
                true => self.etcd_url.get().cloned().into_iter().collect(),
                false => self.etcd_urls_of(info.id, &info.address).await,
            };
            let peer_urls = vec![format!("https://{}", place.address)];
            ListedMember { id: info.id, name: place.name, peer_urls, client_urls, learner: !info.voter }
        });
        join_all(members).await
    }

    /// Whether a member has a vote.
    fn has_vote(&self, member: u64) -> Result<bool, MembersError> {
        let members = self.group().map(|group| group.view().members).unwrap_or_default();
        let found = members.iter().find(|info| info.id == member);
        found.map(|info| info.voter).ok_or(MembersError::NotFound)
    }

    async fn changed(&self, request: Request) -> Result<(), MembersError> {
        self.change(request).await.map_err(|problem| MembersError::Failed(problem.to_string()))
    }
}

impl Members for Servers {
    fn position(&self) -> Option<Position> {
        self.group().map(|group| group.position())
    }

    fn list(&self) -> BoxFuture<'_, Vec<ListedMember>> {
        self.listed().boxed()
    }

    fn remove(&self, member: u64) -> BoxFuture<'_, Result<(), MembersError>> {
        async move {
            self.has_vote(member)?;
            self.changed(Request::Remove { member: identity_text(member) }).await
        }
        .boxed()
    }

    fn promote(&self, member: u64) -> BoxFuture<'_, Result<(), MembersError>> {
        async move {
            if self.has_vote(member)? {
                return Err(MembersError::NotLearner);
            }
            self.changed(Request::Promote { member: identity_text(member) }).await
        }
        .boxed()
    }

    fn move_leader(&self, to: u64) -> BoxFuture<'_, Result<(), MembersError>> {
        async move {
            let group = self.group().ok_or(MembersError::NotLeader)?;
            group.move_leader(to).await.map_err(|error| match error {
                GroupError::NotLeader { .. } => MembersError::NotLeader,
                GroupError::Unknown(_) => MembersError::NotFound,
                GroupError::NoVoter(_) => MembersError::NoVoter,
                other => MembersError::Failed(other.to_string()),
            })
        }
        .boxed()
    }
}
