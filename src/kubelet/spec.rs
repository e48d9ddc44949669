//! From a pod's specification to what the runtime is asked for. Pure: what is read from the API or the disk
//! comes in as arguments.

pub(crate) mod amount;
pub(crate) mod container;
pub(crate) mod dns;
pub(crate) mod env;
pub(crate) mod fields;
pub(crate) mod hosts;
pub(crate) mod resources;
pub(crate) mod sandbox;
pub(crate) mod security;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// Which container of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    Init(usize),
    Main(usize),
}

impl Slot {
    pub(crate) fn of(self, pod: &Pod) -> Option<&Container> {
        match self {
            Self::Init(index) => pod.init_containers().get(index),
            Self::Main(index) => pod.containers().get(index),
        }
    }
}

/// Short ways into a pod whose optional parts may be absent.
pub(crate) trait PodExt {
    fn uid(&self) -> &str;
    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn spec_ref(&self) -> &PodSpec;
    /// `NAME_NAMESPACE(UID)`, as messages show a pod.
    fn described(&self) -> String;
    fn host_network(&self) -> bool;
    fn is_deleted(&self) -> bool;
    /// Succeeded or Failed.
    fn is_finished(&self) -> bool;
    fn restart_policy(&self) -> &str;
    fn containers(&self) -> &[Container];
    fn init_containers(&self) -> &[Container];
    fn find_container(&self, name: &str) -> Option<&Container>;
}

static EMPTY_SPEC: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

impl PodExt for Pod {
    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or("")
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or("")
    }

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or("default")
    }

    fn spec_ref(&self) -> &PodSpec {
        self.spec.as_ref().unwrap_or(&EMPTY_SPEC)
    }

    fn described(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }

    fn host_network(&self) -> bool {
        self.spec_ref().host_network.unwrap_or(false)
    }

    fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn is_finished(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    fn restart_policy(&self) -> &str {
        self.spec_ref().restart_policy.as_deref().unwrap_or("Always")
    }

    fn containers(&self) -> &[Container] {
        &self.spec_ref().containers
    }

    fn init_containers(&self) -> &[Container] {
        self.spec_ref().init_containers.as_deref().unwrap_or_default()
    }

    fn find_container(&self, name: &str) -> Option<&Container> {
        self.containers().iter().chain(self.init_containers()).find(|one| one.name == name)
    }
}

pub(crate) use api::resources::is_restartable_init as is_sidecar;
