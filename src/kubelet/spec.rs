//! From a pod's specification to what the runtime is asked for. Pure: what is read from the API or the disk
//! comes in as arguments.

pub(crate) mod amount;
pub(crate) mod container;
pub(crate) mod dns;
pub(crate) mod env;
pub(crate) mod env_file;
pub(crate) mod fields;
pub(crate) mod hosts;
pub(crate) mod resources;
pub(crate) mod sandbox;
pub(crate) mod security;

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

/// Which container of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    Init(usize),
    Main(usize),
    Ephemeral(usize),
}

impl Slot {
    pub(crate) fn of(self, pod: &Pod) -> Option<Cow<'_, Container>> {
        match self {
            Self::Init(index) => pod.init_containers().get(index).map(Cow::Borrowed),
            Self::Main(index) => pod.containers().get(index).map(Cow::Borrowed),
            Self::Ephemeral(index) => pod.ephemeral_containers().get(index).map(plain).map(Cow::Owned),
        }
    }

    /// The container whose processes this one is to see.
    pub(crate) fn target(self, pod: &Pod) -> Option<&str> {
        let Self::Ephemeral(index) = self else { return None };
        let target = pod.ephemeral_containers().get(index)?.target_container_name.as_deref();
        target.filter(|name| !name.is_empty())
    }
}

/// An ephemeral container as an ordinary one, which it is but for its target and the fields it may not
/// have.
pub(crate) fn plain(ephemeral: &EphemeralContainer) -> Container {
    let one = ephemeral.clone();
    Container {
        args: one.args,
        command: one.command,
        env: one.env,
        env_from: one.env_from,
        image: one.image,
        image_pull_policy: one.image_pull_policy,
        name: one.name,
        security_context: one.security_context,
        stdin: one.stdin,
        stdin_once: one.stdin_once,
        termination_message_path: one.termination_message_path,
        termination_message_policy: one.termination_message_policy,
        tty: one.tty,
        volume_devices: one.volume_devices,
        volume_mounts: one.volume_mounts,
        working_dir: one.working_dir,
        ..Container::default()
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
    /// Static, or of a priority of the system's own: nothing takes it from its node.
    fn is_critical(&self) -> bool;
    fn containers(&self) -> &[Container];
    fn init_containers(&self) -> &[Container];
    fn ephemeral_containers(&self) -> &[EphemeralContainer];
    /// An ordinary or init container.
    fn find_container(&self, name: &str) -> Option<&Container>;
    /// A container of whatever kind.
    fn any_container(&self, name: &str) -> Option<Cow<'_, Container>>;
}

/// On the mirror of a static pod: the uid of that.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
/// On a static pod: where it comes from.
pub(crate) const SOURCE: &str = "kubernetes.io/config.source";

pub(crate) fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// What the API shows of a static pod.
pub(crate) fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

/// A pod of a manifest of the node's own. Anybody may write the annotation on a pod of the API; but what
/// comes from there has a resource version, and what comes from a manifest has none.
pub(crate) fn is_static(pod: &Pod) -> bool {
    let is_of_api = pod.metadata.resource_version.is_some() || is_mirror(pod);
    !is_of_api && annotation(pod, SOURCE).is_some_and(|source| source != "api")
}

/// The least priority that is the system's own.
const SYSTEM_CRITICAL: i32 = 2_000_000_000;

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

    fn is_critical(&self) -> bool {
        self.spec_ref().priority.is_some_and(|priority| priority >= SYSTEM_CRITICAL) || is_static(self)
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

    fn ephemeral_containers(&self) -> &[EphemeralContainer] {
        self.spec_ref().ephemeral_containers.as_deref().unwrap_or_default()
    }

    fn any_container(&self, name: &str) -> Option<Cow<'_, Container>> {
        let ephemeral = || self.ephemeral_containers().iter().find(|one| one.name == name);
        self.find_container(name).map(Cow::Borrowed).or_else(|| ephemeral().map(plain).map(Cow::Owned))
    }
}

pub(crate) use api::resources::is_restartable_init as is_sidecar;
