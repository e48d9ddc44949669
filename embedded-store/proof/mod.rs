//! The proofs: suites that run whole stores, each in a short form by default and a long one with
//! `MINIK8S_LONG=1`.

mod base;
mod crash;
mod faults;
mod group;
mod linear;
mod model;
mod power;
mod raft;
mod retries;
mod suite;
mod unsynced;

use std::sync::Arc;

use bytes::Bytes;

use crate::types::{Op, RangeRequest, Store, StoreError, Txn, TxnResult};
use crate::{Config, EmbeddedStore};

/// How often a randomised test runs.
pub(crate) fn rounds(short: usize, long: usize) -> usize {
    if std::env::var_os("MINIK8S_LONG").is_some_and(|v| v == "1") { long } else { short }
}

/// Small numbers that look random and are the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A store that checkpoints often, so that short tests go through all of its life.
fn config(dir: &std::path::Path) -> Config {
    Config { segment_bytes: 16 << 10, checkpoint_bytes: 16 << 10, min_free_bytes: 0, ..Config::new(dir) }
}

fn put(key: &str, value: impl Into<Bytes>) -> Op {
    Op::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: value.into(), lease: 0 }
}

async fn run(store: &EmbeddedStore, ops: Vec<Op>) -> Result<TxnResult, StoreError> {
    store.txn(Txn { success: ops, ..Txn::default() }).await
}

fn get(store: &EmbeddedStore, key: &str) -> Option<Bytes> {
    let request = RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() };
    store.range(&request).unwrap().kvs.pop().map(|kv| kv.value)
}

/// A runtime with a few threads, as the store has callers from several.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

type Shared = Arc<EmbeddedStore>;

const ALONE: &str = "MINIK8S_STORE_ALONE";

/// Runs a test in a process of its own, where memory can be measured. `false` in the one that starts it,
/// which then has nothing more to do.
fn alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    false
}

/// Memory of this process, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
