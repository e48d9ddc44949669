//! A network in memory between the engines: every wire can be cut, in each direction, and what is under way
//! is lost then.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::Arc;

use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, Raft, Snapshot};
use parking_lot::Mutex;

use super::super::raft::adapter::{Group, Vote};

#[derive(Default)]
struct Wires {
    rafts: BTreeMap<u64, Raft<Group>>,
    /// From whom to whom nothing goes.
    cut: BTreeSet<(u64, u64)>,
    /// Snapshots that have arrived, by receiver.
    snapshots: BTreeMap<u64, u64>,
}

#[derive(Clone, Default)]
pub(super) struct Network(Arc<Mutex<Wires>>);

impl Network {
    pub(super) fn from(&self, id: u64) -> End {
        End { network: self.clone(), from: id }
    }

    pub(super) fn join(&self, id: u64, raft: Raft<Group>) {
        self.0.lock().rafts.insert(id, raft);
    }

    pub(super) fn leave(&self, id: u64) {
        self.0.lock().rafts.remove(&id);
    }

    /// Cuts a member off from all others.
    pub(super) fn isolate(&self, id: u64) {
        let others = super::MEMBERS.into_iter().filter(|other| *other != id);
        let mut wires = self.0.lock();
        wires.cut.extend(others.flat_map(|other| [(id, other), (other, id)]));
    }

    pub(super) fn heal(&self) {
        self.0.lock().cut.clear();
    }

    pub(super) fn snapshots(&self, id: u64) -> u64 {
        self.0.lock().snapshots.get(&id).copied().unwrap_or(0)
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        let wires = self.0.lock();
        from != to && (wires.cut.contains(&(from, to)) || wires.cut.contains(&(to, from)))
    }

    /// Calls another member; nothing comes back if the wire is cut before it has answered.
    pub(super) async fn call<T, F: Future<Output = T>>(
        &self,
        from: u64,
        to: u64,
        call: impl FnOnce(Raft<Group>) -> F,
    ) -> Result<T, Unreachable> {
        let lost = || Unreachable::new(&io::Error::from(io::ErrorKind::NotConnected));
        if self.is_cut(from, to) {
            return Err(lost());
        }
        let raft = self.0.lock().rafts.get(&to).cloned().ok_or_else(lost)?;
        let answer = call(raft).await;
        if self.is_cut(from, to) { Err(lost()) } else { Ok(answer) }
    }
}

/// Where one member's wires begin.
pub(super) struct End {
    network: Network,
    from: u64,
}

pub(super) struct Wire {
    network: Network,
    from: u64,
    to: u64,
}

impl RaftNetworkFactory<Group> for End {
    type Network = Wire;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Wire {
        Wire { network: self.network.clone(), from: self.from, to: target }
    }
}

type Failed = RPCError<u64, BasicNode, RaftError<u64>>;

/// A member that has failed does not answer.
fn silent(e: &(impl std::error::Error + 'static)) -> Unreachable {
    Unreachable::new(e)
}

impl RaftNetwork<Group> for Wire {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Group>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failed> {
        let call = async |raft: Raft<Group>| raft.append_entries(request).await;
        Ok(self.network.call(self.from, self.to, call).await?.map_err(|e| silent(&e))?)
    }

    async fn vote(&mut self, request: VoteRequest<u64>, _: RPCOption) -> Result<VoteResponse<u64>, Failed> {
        let call = async |raft: Raft<Group>| raft.vote(request).await;
        Ok(self.network.call(self.from, self.to, call).await?.map_err(|e| silent(&e))?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Group>,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Group, Fatal<u64>>> {
        let call = async |raft: Raft<Group>| raft.install_full_snapshot(vote, snapshot).await;
        let answer = self.network.call(self.from, self.to, call).await?.map_err(|e| silent(&e))?;
        *self.network.0.lock().snapshots.entry(self.to).or_default() += 1;
        Ok(answer)
    }
}
