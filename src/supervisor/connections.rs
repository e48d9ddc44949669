//! Bounds on the connections of a port: in all, per address, per user, with places kept for those a cluster
//! cannot do without.
//!
//! A connection is a stranger until it has said whose it is. Strangers cost little and are many in a flood,
//! so a new one is never refused for the sake of an older one: the oldest of its address gives way, and where
//! the port is full, the oldest of all. Who completes a handshake in milliseconds thus gets in beside a
//! thousand who never do. Once a user is known the connection counts as that user's and gives way to nobody.
//! The last places are taken only by strangers, who may turn out to be anybody, and by users in
//! [`Standing::Reserved`].
//!
//! Absent: time-outs, which belong to the protocol that is spoken.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::WaitForCancellationFutureOwned;

/// What a port takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections in all.
    pub total: usize,
    /// How many of `total` are kept for nodes and administrators.
    pub reserved: usize,
    /// Strangers of one address (of IPv6, of one /64).
    pub per_address: usize,
    /// Connections of one user.
    pub per_user: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits { total: 8192, reserved: 512, per_address: 512, per_user: 1024 }
    }
}

/// Whether a user may take the places that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Ordinary,
    /// Nodes and administrators.
    Reserved,
}

/// Counts the connections of one port. Clones share the count.
#[derive(Clone)]
pub struct ConnectionLimiter {
    limits: ConnectionLimits,
    state: Arc<Mutex<State>>,
}

/// A connection that has a place; dropping it gives the place back.
pub struct Admission {
    limiter: ConnectionLimiter,
    number: u64,
    cut: CancellationToken,
    /// Empty for a stranger.
    user: Mutex<Option<Known>>,
}

struct Known {
    name: Arc<str>,
    standing: Standing,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Oldest first.
    strangers: BTreeMap<u64, (IpAddr, CancellationToken)>,
    /// The same by address.
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
    by_user: HashMap<Arc<str>, usize>,
    /// Known connections that are in no reserved place.
    ordinary: usize,
    known: usize,
    /// Connections that gave way or were refused, since the start.
    turned_away: u64,
}

impl State {
    fn remove_stranger(&mut self, number: u64) -> Option<CancellationToken> {
        let (address, cut) = self.strangers.remove(&number)?;
        if let Some(of_address) = self.by_address.get_mut(&address) {
            of_address.remove(&number);
            if of_address.is_empty() {
                self.by_address.remove(&address);
            }
        }
        Some(cut)
    }

    /// Makes room by cutting a stranger off; none for lack of strangers.
    fn evict(&mut self, number: Option<u64>) -> bool {
        let cut = number.and_then(|number| self.remove_stranger(number));
        if let Some(cut) = &cut {
            cut.cancel();
            self.turned_away += 1;
        }
        cut.is_some()
    }

    fn forget_user(&mut self, user: &Known) {
        self.known -= 1;
        self.ordinary -= usize::from(user.standing == Standing::Ordinary);
        if let Some(count) = self.by_user.get_mut(&user.name) {
            *count -= 1;
            if *count == 0 {
                self.by_user.remove(&user.name);
            }
        }
    }
}

/// The addresses that count as one client: a /64 of IPv6, since it is given to one network as a rule. An IPv4
/// address in the form of IPv6 is one of IPv4.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::from((six.to_bits() >> 64 << 64).to_be_bytes()),
        four => four,
    }
}

impl ConnectionLimiter {
    pub fn new(limits: ConnectionLimits) -> Self {
        ConnectionLimiter { limits, state: Arc::default() }
    }

    /// A place for a connection that was just accepted; none if every place is a known user's.
    pub fn admit(&self, from: IpAddr) -> Option<Admission> {
        let address = group(from);
        let mut state = self.state.lock();
        let of_address = state.by_address.get(&address);
        if let Some(of_address) = of_address.filter(|all| all.len() >= self.limits.per_address) {
            let oldest = of_address.first().copied();
            state.evict(oldest);
        }
        if state.known + state.strangers.len() >= self.limits.total {
            let oldest = state.strangers.keys().next().copied();
            if !state.evict(oldest) {
                state.turned_away += 1;
                return None;
            }
        }
        let number = state.next;
        state.next += 1;
        let cut = CancellationToken::new();
        state.strangers.insert(number, (address, cut.clone()));
        state.by_address.entry(address).or_default().insert(number);
        Some(Admission { limiter: self.clone(), number, cut, user: Mutex::new(None) })
    }

    /// Connections that gave way or were refused since the start.
    #[cfg(test)]
    fn turned_away(&self) -> u64 {
        self.state.lock().turned_away
    }

    /// Connections that there are.
    pub fn len(&self) -> usize {
        let state = self.state.lock();
        state.known + state.strangers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Admission {
    /// Counts the connection as a user's from now on. False if the user has as many as it may have, or only
    /// kept places are left: then it is to be closed. What is known already stays: a connection is one
    /// user's.
    pub fn identify(&self, name: &str, standing: Standing) -> bool {
        let mut user = self.user.lock();
        if user.is_some() {
            return true;
        }
        let limits = self.limiter.limits;
        let mut state = self.limiter.state.lock();
        if !state.strangers.contains_key(&self.number) {
            // It has given way in the meantime.
            return false;
        }
        let (key, count) = state
            .by_user
            .get_key_value(name)
            .map_or_else(|| (Arc::from(name), 0), |(key, count)| (key.clone(), *count));
        let full =
            standing == Standing::Ordinary && state.ordinary >= limits.total.saturating_sub(limits.reserved);
        if count >= limits.per_user || full {
            state.turned_away += 1;
            return false;
        }
        state.remove_stranger(self.number);
        state.by_user.insert(key.clone(), count + 1);
        state.known += 1;
        state.ordinary += usize::from(standing == Standing::Ordinary);
        *user = Some(Known { name: key, standing });
        true
    }

    /// Whether it is known whose the connection is.
    #[cfg(test)]
    fn is_identified(&self) -> bool {
        self.user.lock().is_some()
    }

    /// Completes when the connection is to give way to another.
    pub fn cut(&self) -> WaitForCancellationFutureOwned {
        self.cut.clone().cancelled_owned()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = self.limiter.state.lock();
        match self.user.get_mut() {
            Some(user) => state.forget_user(user),
            None => drop(state.remove_stranger(self.number)),
        }
    }
}

#[cfg(test)]
mod tests;
