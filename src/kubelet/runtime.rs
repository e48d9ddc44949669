//! The container runtime as the kubelet sees it: CRI calls ([`Cri`]), what is there of one pod ([`state`]) and what happens
//! to its containers ([`events`]).

mod cri;
pub(crate) mod events;
pub(crate) mod state;

pub(crate) use cri::{Cri, RuntimeError};

/// Labels and annotations on sandboxes and containers; the names are upstream's, so that tools that read them
/// (`crictl`, log shippers) work.
pub(crate) mod labels {
    pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
    pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
    pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    /// Ours: which node made it, for runtimes that several nodes share.
    pub(crate) const INSTANCE: &str = "io.minik8s.instance";

    pub(crate) const HASH: &str = "io.kubernetes.container.hash";
    pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    pub(crate) const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    pub(crate) const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    pub(crate) const POD_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
    pub(crate) const PORTS: &str = "io.kubernetes.container.ports";
}
