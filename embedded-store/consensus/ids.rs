//! Identifiers in a group: of records, votes and members.

use bytes::Bytes;

/// Identifies a record. Two logs that have a record of the same id are equal up to it. Index 0 is before all
/// records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogId {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

/// A member's vote in a term. It is on disk before anybody learns of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) term: u64,
    pub(crate) member: u64,
    /// A majority gave the same vote: the member leads.
    pub(crate) committed: bool,
}

/// The members of the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Voters; two lists while the group changes from one to the other.
    pub(crate) configs: Vec<Vec<u64>>,
    /// All members, learners too, and how they are reached.
    pub(crate) members: Vec<(u64, Bytes)>,
}
