//! Whether there is room for a request: on the disk, and within the quota of what the store may hold.
//!
//! Everything that is stored is also in memory, so the quota bounds both. Past it nothing new is accepted, as
//! with etcd's. Unlike there, what does not grow is still written, and transactions that may use the reserve
//! let small values grow in place until an eighth more is used: leases are renewed, statuses are told and
//! objects are marked for deletion while somebody makes room.

use crate::check;
use crate::log::record::Request;
use crate::state::State;
use crate::types::{Durability, Op, Txn};

/// A value that grows by more than this needs as much room as a new one.
const SMALL_GROWTH: usize = 4096;

/// The least free space on disk, and the most bytes of keys and values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) min_free: u64,
    pub(crate) quota: u64,
}

/// What there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) free: u64,
    pub(crate) used: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// It frees room, or takes none.
    Nothing,
    /// It grows a little what is there, and may use the reserve.
    Little,
    /// It brings something new, or grows what is there without a right to the reserve.
    Much,
}

impl Room {
    /// Why some requests are refused; none if all are accepted.
    pub(crate) fn lack(self, bounds: Bounds) -> Option<String> {
        let mib = |bytes: u64| bytes >> 20;
        if self.free < bounds.min_free {
            let (have, need) = (mib(self.free), mib(bounds.min_free));
            return Some(format!(
                "{have} MiB are free on the disk of the store, {need} MiB are kept in reserve"
            ));
        }
        (self.used > bounds.quota).then(|| {
            let (used, quota) = (mib(self.used), mib(bounds.quota));
            format!("the store holds {used} MiB, its quota is {quota} MiB; delete what is not needed")
        })
    }

    /// Whether a request is to be refused for want of room.
    pub(crate) fn is_short_for(self, request: &Request, bounds: Bounds, state: &State) -> bool {
        self.free < bounds.min_free && needs_disk(request, self.free, bounds.min_free)
            || self.used > bounds.quota && {
                let most = bounds.quota.saturating_add(bounds.quota / 8);
                let tolerated = if self.used > most { Need::Nothing } else { Need::Little };
                need(request, state) > tolerated
            }
    }
}

/// Lazy writes replace small values. They are accepted until three quarters of the reserve are used.
fn needs_disk(request: &Request, free: u64, min_free: u64) -> bool {
    match request {
        Request::Txn(txn) if txn.durability == Durability::Lazy => check::grows(txn) && free < min_free / 4,
        Request::Txn(txn) => check::grows(txn),
        Request::LeaseGrant { .. } => true,
        _ => false,
    }
}

fn need(request: &Request, state: &State) -> Need {
    match request {
        Request::Txn(txn) => need_of(txn, txn.may_use_reserve, state),
        Request::LeaseGrant { .. } => Need::Little,
        _ => Need::Nothing,
    }
}

fn need_of(txn: &Txn, may_use_reserve: bool, state: &State) -> Need {
    let of_value = |key: &bytes::Bytes, value: &bytes::Bytes| match state.keys.get(key) {
        Some(old) if value.len() <= old.value.len() => Need::Nothing,
        Some(old) if may_use_reserve && value.len() <= old.value.len() + SMALL_GROWTH => Need::Little,
        _ => Need::Much,
    };
    let of_op = |op: &Op| match op {
        Op::Put { key, value, .. } | Op::Update { key, value: Some(value), .. } => of_value(key, value),
        Op::Update { value: None, .. } | Op::Delete { .. } | Op::Range(_) => Need::Nothing,
        Op::Txn(inner) => need_of(inner, may_use_reserve, state),
    };
    txn.success.iter().chain(&txn.failure).map(of_op).max().unwrap_or(Need::Nothing)
}
