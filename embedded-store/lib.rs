//! An embedded MVCC store with etcd's model and promises, on an append-only log and sled.
//!
//! [`Store`] is the whole interface; the API server and the etcd gRPC front use just this. Knows nothing of Kubernetes
//! and uses none of the other crates; it owns its threads.

mod types;

mod check;
mod clock;
mod history;
mod record;
mod state;

mod core;
mod lease;
mod watch;

mod replica;

mod disk;
mod frame;
mod hard;
mod log;

mod barrier;
mod behind;
mod checkpoint;
mod desk;
mod inbox;

mod consensus;
mod writer;

mod embedded;
mod lock;
mod memory;
mod metrics;

pub mod etcd;
pub mod snapshot;

pub mod conformance;
#[cfg(test)]
mod proof;

#[doc(hidden)]
pub mod fuzzing;

pub use check::MAX_REQUEST_BYTES;
pub use clock::{Clock, SystemClock};
pub use embedded::{Config, EmbeddedStore, OpenError, Recovery, Status};
pub use history::HistoryLimits;
pub use inbox::Trouble;
pub use memory::MemoryStore;
pub use metrics::{Gauges, Histogram, Metrics};
pub use types::{
    Backend, Compare, CompareOp, CompareTarget, Durability, Event, KeyValue, LeaseGrant, LeaseId, LeaseInfo,
    Leases, Observer, Op, OpResult, RangeRequest, RangeResult, Store, StoreError, Txn, TxnResult, WatchBatch,
    WatchRequest, WatchStream,
};
