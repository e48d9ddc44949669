//! Messages and services of etcd's API, generated from `proto/`. etcd's port speaks them, and snapshots hold
//! some.
#![allow(unreachable_pub, missing_docs, clippy::all, reason = "generated")]

pub(crate) mod mvccpb {
    tonic::include_proto!("mvccpb");
}
pub(crate) mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
