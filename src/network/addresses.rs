//! Tells when addresses or routes of this network namespace change, as the kernel tells it.

use futures::StreamExt;
use rtnetlink::MulticastGroup;
use supervisor::{OnExit, Stage};
use tokio::sync::watch;

use crate::error::NetworkError;

/// A receiver that sees a change for every change of addresses and routes (several may be seen as one).
pub fn address_changes(stage: &Stage) -> Result<watch::Receiver<u64>, NetworkError> {
    let groups = [
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let failed = |source| NetworkError::Run { program: "netlink".to_string(), source };
    let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&groups).map_err(failed)?;
    stage.spawn_cancellable("netlink", OnExit::Done, connection);
    let (sender, receiver) = watch::channel(0);
    stage.spawn_cancellable("address changes", OnExit::Done, async move {
        while messages.next().await.is_some() {
            sender.send_modify(|count| *count += 1);
        }
    });
    Ok(receiver)
}
