//! The parts of a node's network, each a loop of its own: one that fails is tried again and keeps no other
//! from its work.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::error::chain;
use crate::host::HostCall;
use crate::routes::Peer;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Something of the network that follows what the nodes' objects say.
pub(crate) trait NetworkPart: Send + 'static {
    /// For messages: "NAME: not set up".
    fn name(&self) -> &'static str;

    /// Nothing but the nodes' objects changes what there is to do. Else it is looked at again every minute.
    fn is_watched(&self) -> bool {
        true
    }

    /// Brings the machine to what the nodes say. Idempotent.
    fn reconcile<'a>(&'a mut self, peers: &'a [Peer]) -> HostCall<'a, ()>;
}

/// The range of this node's pods, once it has one.
pub(crate) fn own_range<'a>(peers: &'a [Peer], own_name: &str) -> Option<&'a str> {
    peers.iter().find(|peer| peer.name == own_name).and_then(|own| own.pod_cidr.as_deref())
}

/// Keeps one part for ever. `changed` tells that `peers` may answer something else.
pub(crate) async fn keep(mut part: impl NetworkPart, peers: impl Fn() -> Vec<Peer>, changed: Arc<Notify>) {
    let mut delay = FIRST_RETRY;
    loop {
        let wait = match part.reconcile(&peers()).await {
            Ok(()) => {
                delay = FIRST_RETRY;
                (!part.is_watched()).then_some(LOOK_AGAIN)
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), retry = ?delay, "{}: not set up", part.name());
                let wait = delay;
                delay = (delay * 2).min(LONGEST_RETRY);
                Some(wait)
            }
        };
        match wait {
            // Over or not: it is time to look.
            Some(wait) => {
                let _ = tokio::time::timeout(wait, changed.notified()).await;
            }
            None => changed.notified().await,
        }
    }
}

#[cfg(test)]
mod tests;
