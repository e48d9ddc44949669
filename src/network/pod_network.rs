//! The node's own pod network: the kernel forwards, what leaves the cluster is masqueraded, and the runtime
//! knows the network. In this order: once the runtime has a network, pods start.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;
use crate::error::NetworkError;
use crate::host::{Host, HostCall};
use crate::parts::{NetworkPart, own_range};
use crate::routes::Peer;
use crate::{cni, masquerade};

/// Where the kernel keeps whether it forwards between interfaces.
pub(crate) const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// Notes that it did not before us.
pub(crate) const NOTE: &str = "forwarding-was-off";

pub(crate) struct PodNetwork {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) config: Config,
    /// The pod range that it was last set up for.
    pub(crate) applied: Option<String>,
}

impl NetworkPart for PodNetwork {
    fn name(&self) -> &'static str {
        "the pod network"
    }

    fn reconcile<'a>(&'a mut self, peers: &'a [Peer]) -> HostCall<'a, ()> {
        Box::pin(async move {
            let Some(cidr) = own_range(peers, &self.config.node_name) else { return Ok(()) };
            if self.applied.as_deref() == Some(cidr) {
                return Ok(());
            }
            enable_forwarding(&*self.host, &self.config)?;
            masquerade::apply(&*self.host, &self.config, cidr).await?;
            cni::write(&self.config, cidr)?;
            tracing::info!(%cidr, bridge = self.config.bridge, "pod network is configured");
            self.applied = Some(cidr.to_string());
            Ok(())
        })
    }
}

/// Pods reach other machines only if the kernel forwards. What was there before is noted, for uninstalling.
fn enable_forwarding(host: &dyn Host, config: &Config) -> Result<(), NetworkError> {
    let failed = |path: PathBuf| move |source| NetworkError::File { path, source };
    let before = host.sysctl(FORWARDING)?;
    if before == "1" {
        return Ok(());
    }
    std::fs::create_dir_all(&config.state_dir).map_err(failed(config.state_dir.clone()))?;
    let note = config.state_dir.join(NOTE);
    std::fs::write(&note, before).map_err(failed(note))?;
    host.set_sysctl(FORWARDING, "1")
}
