//! A copy of all of a state at one moment, taken while the state goes on changing.

use crate::log::record::Group;
use crate::state::State;
use crate::types::{KeyValue, LeaseId};

/// A consistent view of a store.
pub(crate) struct Frozen {
    pub(crate) kvs: Vec<KeyValue>,
    pub(crate) leases: Vec<(LeaseId, i64)>,
    pub(crate) revision: u64,
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// Time, ceiling and compacted revision.
    pub(crate) words: [u64; 3],
    pub(crate) group: Group,
}

impl Frozen {
    pub(crate) fn of(state: &State) -> Frozen {
        Frozen {
            kvs: state.keys.values().cloned().collect(),
            leases: state.leases.iter().map(|(id, lease)| (*id, lease.ttl)).collect(),
            revision: state.revision,
            index: state.index,
            term: state.term,
            words: [state.time, state.ceiling, state.compacted],
            group: state.group.clone(),
        }
    }
}
