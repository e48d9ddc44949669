//! A network in memory between members: every wire can be cut, in each direction, and what is under way is
//! lost then. Messages are bytes, as on a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::group::{CallError, Group, Transport};

#[derive(Default)]
struct Wires {
    groups: BTreeMap<u64, Arc<Group>>,
    /// From whom to whom nothing goes.
    cut: BTreeSet<(u64, u64)>,
    /// Pieces of snapshots that have arrived, by receiver.
    pieces: BTreeMap<u64, u64>,
}

#[derive(Clone, Default)]
pub(super) struct Network(Arc<Mutex<Wires>>);

/// Where one member's wires begin.
pub(super) struct End {
    network: Network,
    from: u64,
}

impl Network {
    pub(super) fn from(&self, id: u64) -> Arc<End> {
        Arc::new(End { network: self.clone(), from: id })
    }

    pub(super) fn join(&self, id: u64, group: Arc<Group>) {
        self.0.lock().groups.insert(id, group);
    }

    pub(super) fn leave(&self, id: u64) {
        self.0.lock().groups.remove(&id);
    }

    /// Cuts a member off from all others.
    pub(super) fn isolate(&self, id: u64) {
        let others = super::MEMBERS.into_iter().filter(|other| *other != id);
        let mut wires = self.0.lock();
        wires.cut.extend(others.flat_map(|other| [(id, other), (other, id)]));
    }

    pub(super) fn heal(&self) {
        self.0.lock().cut.clear();
    }

    pub(super) fn pieces(&self, id: u64) -> u64 {
        self.0.lock().pieces.get(&id).copied().unwrap_or(0)
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        let wires = self.0.lock();
        from != to && (wires.cut.contains(&(from, to)) || wires.cut.contains(&(to, from)))
    }
}

/// The second byte of a message says what it is.
const PIECE: u8 = 2;

impl Transport for End {
    fn call(&self, _: u64, address: &str, message: Bytes) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let (network, from, to) = (self.network.clone(), self.from, address.parse::<u64>().unwrap());
        async move {
            let broken = || io::Error::from(io::ErrorKind::NotConnected);
            if network.is_cut(from, to) {
                return Err(CallError::NotSent(broken()));
            }
            let group = network.0.lock().groups.get(&to).cloned();
            let group = group.ok_or_else(|| CallError::NotSent(broken()))?;
            if message.get(1) == Some(&PIECE) {
                *network.0.lock().pieces.entry(to).or_default() += 1;
            }
            let answer = group.handle(from, &message).await;
            if network.is_cut(from, to) {
                return Err(CallError::Lost(broken()));
            }
            Ok(answer)
        }
        .boxed()
    }
}
