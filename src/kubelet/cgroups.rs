//! Cgroups of pods: `PARENT/[burstable|besteffort]/podUID`. The runtime puts containers below.
//!
//! Two drivers, and the runtime says which it uses itself: directories made in the file system, or slices
//! of systemd asked for over D-Bus (on version 2 with systemd, nobody else should write to the tree).
//! Absent: limits of huge pages, memory protection (`memory.min`).

mod systemd;
pub(crate) mod tree;
pub(crate) mod usage;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};

use api::qos::QosClass;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

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
    /// What pods' cgroups were limited to, by uid.
    limited: Mutex<HashMap<String, PodLimits>>,
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
        Cgroups {
            host,
            parent: parent.trim_matches('/').to_string(),
            slices: OnceLock::new(),
            limited: Mutex::default(),
        }
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

    /// Makes a pod's cgroup, or brings the one that is there to the pod's limits.
    pub(crate) async fn create_pod(&self, pod: &Pod) -> Result<(), CgroupError> {
        self.limit_pod(pod, resources::of_pod(pod)).await
    }

    /// Whether a pod's cgroup has the limits that the pod has.
    pub(crate) fn fits(&self, pod: &Pod) -> bool {
        self.limited.lock().get(pod.uid()) == Some(&resources::of_pod(pod))
    }

    /// Gives a pod's cgroup room for what its containers have and for what they are to have.
    pub(crate) async fn widen_pod(&self, pod: &Pod) -> Result<(), CgroupError> {
        let wanted = resources::of_pod(pod);
        let known = self.limited.lock().get(pod.uid()).copied();
        let room = match known {
            Some(known) => known.widest(wanted),
            None => PodLimits { quota: None, memory: None, ..wanted },
        };
        if known == Some(room) { Ok(()) } else { self.limit_pod(pod, room).await }
    }

    async fn limit_pod(&self, pod: &Pod, limits: PodLimits) -> Result<(), CgroupError> {
        self.ensure(&self.pod(resources::class_of(pod), pod.uid()), limits).await?;
        self.limited.lock().insert(pod.uid().to_string(), limits);
        Ok(())
    }

    /// Where a pod's cgroup is in the file system, and how a container of it is named there.
    pub(crate) fn path_of(&self, pod: &Pod) -> String {
        let name = self.pod(resources::class_of(pod), pod.uid());
        match self.slices() {
            Some(_) => systemd::path(&name.0),
            None => name.path(),
        }
    }

    pub(crate) fn path_of_container(&self, pod: &Pod, id: &str) -> String {
        let pod = self.path_of(pod);
        match self.slices() {
            Some(_) => format!("{pod}/cri-containerd-{id}.scope"),
            None => format!("{pod}/{id}"),
        }
    }

    /// Where all pods are.
    pub(crate) fn path_of_pods(&self) -> String {
        let name = self.class(QosClass::Guaranteed);
        match self.slices() {
            Some(_) => systemd::path(&name.0),
            None => name.path(),
        }
    }

    /// Removes a pod's cgroup, wherever it is.
    pub(crate) async fn remove_pod(&self, uid: &str) -> Result<(), CgroupError> {
        self.limited.lock().remove(uid);
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
