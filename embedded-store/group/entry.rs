//! openraft's types over ours: entries are records, and indexes are shifted, because openraft counts records
//! from 0, we from 1.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use openraft::entry::{FromAppData, RaftEntry, RaftPayload};
use openraft::log_id::RaftLogId;
use openraft::{BasicNode, CommittedLeaderId, Membership, TokioRuntime};

use crate::consensus::ids;
use crate::group::machine::Body;
use crate::log::record::{Record, Request};
use crate::state::ApplyOutcome;
use crate::types::StoreError;

pub(crate) type MemberId = u64;
pub(crate) type LogId = openraft::LogId<MemberId>;
pub(crate) type Vote = openraft::Vote<MemberId>;
pub(crate) type Raft = openraft::Raft<Types>;

/// What a member asks of the group, and what it is told.
#[derive(Debug)]
pub(crate) struct Proposal {
    /// The clock of the leader that proposes it, in milliseconds.
    pub(crate) time: u64,
    pub(crate) request: Request,
}

#[derive(Debug)]
pub(crate) struct Answer(pub(crate) Result<ApplyOutcome, StoreError>);

openraft::declare_raft_types!(
    pub(crate) Types:
        D = Proposal, R = Answer, NodeId = MemberId, Node = BasicNode, Entry = Entry,
        SnapshotData = Body, AsyncRuntime = TokioRuntime
);

/// A record, with what openraft wants to borrow of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    id: LogId,
    membership: Option<Membership<MemberId, BasicNode>>,
}

impl Entry {
    /// `None` for what is before all records.
    pub(crate) fn of(record: Record) -> Option<Entry> {
        let membership = match &record.request {
            Request::Members(membership) => Some(theirs(membership)),
            _ => None,
        };
        Some(Entry { id: their_id(record.id())?, membership, record })
    }

    fn new(id: LogId, time: u64, request: Request) -> Entry {
        let ids::LogId { term, index } = our_id(id);
        let membership = match &request {
            Request::Members(membership) => Some(theirs(membership)),
            _ => None,
        };
        Entry { id, membership, record: Record { term, index, time, request } }
    }
}

pub(crate) fn our_id(id: LogId) -> ids::LogId {
    ids::LogId { term: id.leader_id.term, index: id.index + 1 }
}

pub(crate) fn their_id(id: ids::LogId) -> Option<LogId> {
    (id.index > 0).then(|| LogId::new(CommittedLeaderId::new(id.term, 0), id.index - 1))
}

pub(crate) fn our_vote(vote: &Vote) -> ids::Vote {
    let member = vote.leader_id.voted_for.unwrap_or_default();
    ids::Vote { term: vote.leader_id.term, member, committed: vote.committed }
}

pub(crate) fn their_vote(vote: ids::Vote) -> Vote {
    match vote.committed {
        true => Vote::new_committed(vote.term, vote.member),
        false => Vote::new(vote.term, vote.member),
    }
}

pub(crate) fn ours(membership: &Membership<MemberId, BasicNode>) -> ids::Membership {
    let configs = membership.get_joint_config().iter().map(|config| config.iter().copied().collect());
    let members = membership.nodes().map(|(member, node)| (*member, node.addr.clone().into()));
    ids::Membership { configs: configs.collect(), members: members.collect() }
}

pub(crate) fn theirs(membership: &ids::Membership) -> Membership<MemberId, BasicNode> {
    let configs = membership.configs.iter().map(|config| config.iter().copied().collect::<BTreeSet<_>>());
    let node = |address: &[u8]| BasicNode::new(String::from_utf8_lossy(address));
    let members: BTreeMap<_, _> = membership.members.iter().map(|(id, at)| (*id, node(at))).collect();
    Membership::new(configs.collect(), members)
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of term {}", self.record.index, self.record.term)
    }
}

impl FromAppData<Proposal> for Entry {
    fn from_app_data(proposal: Proposal) -> Self {
        Entry::new(LogId::default(), proposal.time, proposal.request)
    }
}

impl RaftLogId<MemberId> for Entry {
    fn get_log_id(&self) -> &LogId {
        &self.id
    }

    fn set_log_id(&mut self, id: &LogId) {
        let ids::LogId { term, index } = our_id(*id);
        (self.id, self.record.term, self.record.index) = (*id, term, index);
    }
}

impl RaftPayload<MemberId, BasicNode> for Entry {
    fn is_blank(&self) -> bool {
        self.record.request == Request::Blank
    }

    fn get_membership(&self) -> Option<&Membership<MemberId, BasicNode>> {
        self.membership.as_ref()
    }
}

impl RaftEntry<MemberId, BasicNode> for Entry {
    fn new_blank(id: LogId) -> Self {
        Entry::new(id, 0, Request::Blank)
    }

    fn new_membership(id: LogId, membership: Membership<MemberId, BasicNode>) -> Self {
        Entry::new(id, 0, Request::Members(ours(&membership)))
    }
}
