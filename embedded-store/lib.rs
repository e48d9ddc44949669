//! An embedded MVCC store with etcd's model and promises, on an append-only log and sled.
//!
//! [`Store`] is the whole interface; the API server and the etcd gRPC front use just this. Knows nothing of
//! Kubernetes and uses none of the other crates; it owns its threads.

mod types;

mod check;
mod clock;
mod identity;
mod lease;
mod metrics;
mod state;

mod log;

mod checkpoint;
mod consensus;
mod writer;

mod embedded;
pub mod group;
mod memory;

pub mod etcd;
pub mod snapshot;
mod wire;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod proof;

#[doc(hidden)]
pub mod fuzzing;

pub use clock::Clock;
pub use embedded::{Config, DetachError, EmbeddedStore, OpenError, Recovery, Status, detach};
pub use memory::MemoryStore;
pub use state::history::HistoryLimits;
pub use types::{
    Compare, CompareOp, CompareTarget, Durability, Event, KeyValue, LeaseGrant, LeaseId, LeaseInfo, Leases,
    Observer, Op, OpResult, RangeRequest, RangeResult, Store, StoreError, Txn, TxnResult, WatchBatch,
    WatchRequest, WatchStream,
};
pub use writer::queue::Alarms;
