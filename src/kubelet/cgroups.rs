//! Cgroups of pods: `PARENT/[burstable|besteffort]/podUID`. The runtime puts containers below.
//!
//! Two drivers, and the runtime says which it uses itself: directories made in the file system, or slices of
//! systemd asked for over D-Bus (on version 2 with systemd, nobody else should write to the tree). Absent:
//! limits of huge pages, memory protection (`memory.min`), resizing.

mod systemd;
pub(crate) mod tree;

use std::io;
use std::sync::{Arc, OnceLock};

use api::qos::QosClass;
use k8s_openapi::api::core::v1::Pod;

use self::systemd::{Slices, SystemdError};
use self::tree::MIN_SHARES;
use crate::files;
use crate::host::Host;
use crate::spec::PodExt;
use crate::spec::resources::{self, PodLimits};

/// Who makes cgroups on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Directories in the cgroup file system.
    Cgroupfs,
    /// systemd, asked for slices.
    Systemd,
}

/// A cgroup that could not be made, limited or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error("cgroup {cgroup}: {source}")]
    Files { cgroup: String, source: io::Error },
    #[error(transparent)]
    Systemd(#[from] SystemdError),
}

pub(crate) struct Cgroups {
    host: Arc<dyn Host>,
    /// Such as `kubepods`.
    parent: String,
    /// Slices if systemd is the driver. Unset until the runtime has said so, which is before the first pod.
    slices: OnceLock<Option<Slices>>,
}

/// Position of a cgroup: the parent, the class, the pod.
struct Name(Vec<String>);

impl Name {
    fn path(&self) -> String {
        self.0.join("/")
    }
}

impl Cgroups {
    pub(crate) fn new(host: Arc<dyn Host>, parent: &str) -> Self {
        Cgroups { host, parent: parent.trim_matches('/').to_string(), slices: OnceLock::new() }
    }

    pub(crate) fn is_v2(&self) -> bool {
        self.host.has_cgroups_v2()
    }

    /// Follows the runtime's choice; what is chosen first stays.
    pub(crate) fn use_driver(&self, driver: Driver) {
        let slices = (driver == Driver::Systemd).then(Slices::default);
        let _ = self.slices.set(slices);
    }

    fn slices(&self) -> Option<&Slices> {
        self.slices.get().and_then(Option::as_ref)
    }

    fn class(&self, qos: QosClass) -> Name {
        let mut parts = vec![self.parent.clone()];
        match qos {
            QosClass::Guaranteed => {}
            QosClass::Burstable => parts.push("burstable".to_string()),
            QosClass::BestEffort => parts.push("besteffort".to_string()),
        }
        Name(parts)
    }

    fn pod(&self, qos: QosClass, uid: &str) -> Name {
        let Name(mut parts) = self.class(qos);
        parts.push(format!("pod{uid}"));
        Name(parts)
    }

    /// Makes a cgroup, or gives one that is there new limits.
    async fn ensure(&self, name: &Name, limits: PodLimits) -> Result<(), CgroupError> {
        if let Some(slices) = self.slices() {
            return Ok(slices.ensure(&systemd::unit(&name.0), limits).await?);
        }
        let (host, cgroup) = (self.host.clone(), name.path());
        files::blocking(move || {
            host.ensure_cgroup(&cgroup, limits).map_err(|source| CgroupError::Files { cgroup, source })
        })
        .await
    }

    /// Makes the parents of all pods' cgroups.
    pub(crate) async fn ensure_parents(&self, milli_cpus: i64) -> Result<(), CgroupError> {
        let all = PodLimits { shares: resources::shares(milli_cpus), quota: None, memory: None };
        let least = PodLimits { shares: MIN_SHARES, quota: None, memory: None };
        self.ensure(&self.class(QosClass::Guaranteed), all).await?;
        self.ensure(&self.class(QosClass::Burstable), least).await?;
        self.ensure(&self.class(QosClass::BestEffort), least).await
    }

    /// Burstable pods together weigh what they request together.
    pub(crate) async fn weigh_burstable(&self, pods: impl Iterator<Item = &Pod>) -> Result<(), CgroupError> {
        let total: i64 = pods
            .filter(|pod| resources::class_of(pod) == QosClass::Burstable)
            .map(|pod| resources::requested(pod).0)
            .fold(0, i64::saturating_add);
        let limits = PodLimits { shares: resources::shares(total), quota: None, memory: None };
        self.ensure(&self.class(QosClass::Burstable), limits).await
    }

    /// A pod's cgroup, as the runtime takes it.
    pub(crate) fn of_pod(&self, pod: &Pod) -> String {
        let name = self.pod(resources::class_of(pod), pod.uid());
        match self.slices() {
            Some(_) => systemd::unit(&name.0),
            None => format!("/{}", name.path()),
        }
    }

    pub(crate) async fn create_pod(&self, pod: &Pod) -> Result<(), CgroupError> {
        self.ensure(&self.pod(resources::class_of(pod), pod.uid()), resources::of_pod(pod)).await
    }

    /// Removes a pod's cgroup, wherever it is.
    pub(crate) async fn remove_pod(&self, uid: &str) -> Result<(), CgroupError> {
        for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            let name = self.pod(qos, uid);
            let (host, slice) = (self.host.clone(), systemd::path(&name.0));
            if let Some(slices) = self.slices()
                && files::blocking(move || host.cgroup_exists(&slice)).await
            {
                slices.remove(&systemd::unit(&name.0)).await?;
            }
            let (host, cgroup) = (self.host.clone(), name.path());
            files::blocking(move || {
                host.remove_cgroup(&cgroup).map_err(|source| CgroupError::Files { cgroup, source })
            })
            .await?;
        }
        Ok(())
    }

    /// Uids of pods that have a cgroup.
    pub(crate) async fn present(&self) -> Vec<String> {
        let classes = [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort];
        let names = classes.map(|qos| self.class(qos));
        let host = self.host.clone();
        files::blocking(move || {
            let mut uids = Vec::new();
            for name in names {
                let directories = host.cgroups_below(&name.path());
                uids.extend(
                    directories.iter().filter_map(|name| name.strip_prefix("pod").map(str::to_string)),
                );
                let slices = host.cgroups_below(&systemd::path(&name.0));
                uids.extend(slices.iter().filter_map(|unit| systemd::pod_uid(unit)));
            }
            uids.sort();
            uids.dedup();
            uids
        })
        .await
    }
}

/// The slice of systemd in which all cgroups of a parent are, if systemd is the driver: for uninstalling.
pub(crate) fn slice_of(parent: &str) -> String {
    systemd::unit(&[parent.trim_matches('/').to_string()])
}

#[cfg(test)]
mod tests;
