//! The machine's addresses as they are now: what certificates are for, and where the node is reached.
//!
//! The kernel tells of changes; nothing is polled. Which of the addresses is the node's is decided as at the
//! start: the one towards the default route, or the one that was given.

use std::net::IpAddr;

use supervisor::{OnExit, Stage};
use tokio::sync::watch;

use crate::machine;

/// Addresses of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The node's own.
    pub node: IpAddr,
    /// All under which other machines may reach this one.
    pub all: Vec<IpAddr>,
}

/// Follows the machine's addresses in a task of `stage`. `fixed` is the node's own if that does not follow
/// the default route, `first` what it is now; `bridge`, which is the pods', is left out.
pub fn follow(
    fixed: Option<IpAddr>,
    first: IpAddr,
    bridge: &str,
    stage: &Stage,
) -> watch::Receiver<Addresses> {
    let bridge = bridge.to_string();
    let look = move |last: IpAddr| Addresses {
        // Without a route for the moment, it is where it was.
        node: fixed.or_else(machine::default_address).unwrap_or(last),
        all: machine::addresses(&bridge),
    };
    // Listening first: what changes between the look and the first event must not be missed.
    let events = network::address_changes(stage);
    let (sender, receiver) = watch::channel(look(first));
    let mut events = match events {
        Ok(events) => events,
        Err(error) => {
            tracing::warn!(%error, "changes of this machine's addresses will be noticed at the next start only");
            return receiver;
        }
    };
    stage.spawn_cancellable("addresses", OnExit::Done, async move {
        while events.changed().await.is_ok() {
            let now = look(sender.borrow().node);
            let changed = sender.send_if_modified(|known| {
                let changed = *known != now;
                known.clone_from(&now);
                changed
            });
            if changed {
                tracing::info!(node = %now.node, all = ?now.all, "this machine's addresses have changed");
            }
        }
    });
    receiver
}

/// The node's own address alone.
pub fn node(mut addresses: watch::Receiver<Addresses>, stage: &Stage) -> watch::Receiver<IpAddr> {
    let (sender, receiver) = watch::channel(addresses.borrow().node);
    stage.spawn_cancellable("node address", OnExit::Done, async move {
        while addresses.changed().await.is_ok() {
            let now = addresses.borrow_and_update().node;
            sender.send_if_modified(|known| std::mem::replace(known, now) != now);
        }
        // The sender is dropped here: receivers learn that no change will come.
    });
    receiver
}
