//! An embedded MVCC store with etcd's model and promises, on an append-only log and sled.
//!
//! [`Store`] is the whole interface; the API server and the etcd gRPC front use just this. Knows nothing of Kubernetes
//! and uses none of the other crates; it owns its threads.

mod types;

pub use types::{
    Compare, CompareOp, CompareTarget, Durability, Event, KeyValue, LeaseId, Observer, Op, OpResult, RangeRequest,
    RangeResult, Store, StoreError, Txn, TxnResult, WatchBatch, WatchRequest, WatchStream,
};
