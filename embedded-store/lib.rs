//! An embedded MVCC store with etcd's model and promises, on an append-only log and sled.
//!
//! [`Store`] is the whole interface; the API server and the etcd gRPC front use just this. Knows nothing of Kubernetes
//! and uses none of the other crates; it owns its threads.

mod types;

mod check;
mod clock;
mod core;
mod history;
mod lease;
mod record;
mod state;
mod watch;

mod embedded;
mod memory;

pub use check::MAX_REQUEST_BYTES;
pub use clock::{Clock, SystemClock};
pub use embedded::{Config, EmbeddedStore, OpenError, Recovery};
pub use history::HistoryLimits;
pub use memory::MemoryStore;
pub use types::{
    Compare, CompareOp, CompareTarget, Durability, Event, KeyValue, LeaseGrant, LeaseId, LeaseInfo, Leases,
    Observer, Op, OpResult, RangeRequest, RangeResult, Store, StoreError, Txn, TxnResult, WatchBatch,
    WatchRequest, WatchStream,
};
