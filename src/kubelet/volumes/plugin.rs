//! What a kind of volume is to the kubelet.
//!
//! A plugin sets a volume up for one pod and tears it down again; what has to be done once per node for a
//! volume that several pods may use (a device that is attached, formatted and mounted) is staging. Absent:
//! finding what an earlier process had staged for pods that went while no kubelet ran; a plugin that stages
//! lists it at its start.

use std::path::PathBuf;

use api::ApiError;
use api::volumes::NotMadeForPod;
use client::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use nix::errno::Errno;

use super::claim::ClaimError;
use crate::files::tree::GroupChange;
use crate::spec::amount::Resources;
use crate::spec::fields::FieldRefError;

/// Where a volume of one pod is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumePlace {
    /// What containers see.
    pub(crate) path: PathBuf,
    /// What the plugin notes of it, which containers do not see.
    pub(crate) notes: PathBuf,
}

/// A volume to be set up.
pub(crate) struct VolumeRequest<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) volume: &'a Volume,
    pub(crate) place: VolumePlace,
    pub(crate) allocatable: &'a Resources,
    pub(crate) now: Timestamp,
    /// The pod's `fsGroup`.
    pub(crate) group: Option<u32>,
    pub(crate) change: GroupChange,
}

/// Why a volume is not as it should be; the text ends in an event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("no volume plugin matched")]
    NoPlugin,
    #[error("cannot {verb} {}: {source}", .path.display())]
    File { verb: &'static str, path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("{kind} {name:?} not found")]
    NoObject { kind: &'static str, name: String },
    #[error("references non-existent config key: {0}")]
    NoKey(String),
    #[error("container {0} not found")]
    NoContainer(String),
    #[error(transparent)]
    Field(#[from] FieldRefError),
    #[error("failed to fetch token: {0}")]
    Token(#[source] ApiError),
    #[error("this source of a projected volume is not supported")]
    Source,
    #[error("cannot mount tmpfs on {}: {source}", .path.display())]
    Memory { path: PathBuf, source: Errno },
    #[error("subPath {0:?} must be a relative path without '..'")]
    PartOutside(String),
    #[error("failed to prepare subPath {part:?}: {step}: {source}")]
    Part { part: String, step: &'static str, source: std::io::Error },
    #[error("hostPath type check failed: {} is not a {wanted}", .path.display())]
    HostPath { path: PathBuf, wanted: &'static str },
    #[error("{0} is an invalid volume type")]
    HostPathType(String),
    #[error("error processing PVC {claim}: {why}")]
    Claim { claim: String, why: ClaimError },
    #[error(transparent)]
    NotMadeForPod(#[from] NotMadeForPod),
    #[error("volume {volume} has volumeMode {mode}, but is specified in {kind}")]
    Mode { volume: String, mode: String, kind: &'static str },
    #[error("no matching NodeSelectorTerms")]
    OtherNode { volume: String },
    #[error("path {path:?} does not exist")]
    NoDirectory { volume: String, path: PathBuf },
    #[error("this node has no support for raw block volumes")]
    Device,
}

/// A volume on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountedVolume {
    pub(crate) path: PathBuf,
    /// Containers can only ever read it.
    pub(crate) read_only: bool,
}

/// A volume that is set up, and when it must be looked at again (a token in it ends).
pub(crate) type SetUp = (MountedVolume, Option<Timestamp>);

pub(crate) trait VolumePlugin: Send + Sync {
    /// As upstream names it; the pod's directory of such volumes is `kubernetes.io~NAME`.
    fn name(&self) -> &'static str;

    fn supports(&self, volume: &Volume) -> bool;

    /// What is in the volume was there before the pod, and stays after it.
    fn outlives_pods(&self) -> bool {
        false
    }

    /// What has to be staged on the node before a pod can have the volume, if anything has to.
    fn staging_key(&self, _volume: &Volume) -> Option<String> {
        None
    }

    /// Stages for all pods of the node. Idempotent.
    fn stage<'a>(&'a self, _key: &'a str, _volume: &'a Volume) -> BoxFuture<'a, Result<(), VolumeError>> {
        Box::pin(async { Ok(()) })
    }

    /// Brings the volume to what it should be. Idempotent: every sync of a pod may call it.
    fn set_up<'a>(&'a self, request: VolumeRequest<'a>) -> BoxFuture<'a, Result<SetUp, VolumeError>>;

    /// Takes the volume from the pod. All that is known of it is its place. Idempotent.
    fn tear_down<'a>(
        &'a self,
        uid: &'a str,
        place: &'a VolumePlace,
    ) -> BoxFuture<'a, Result<(), VolumeError>>;

    /// Undoes staging, once no pod of the node uses it.
    fn unstage<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<(), VolumeError>> {
        Box::pin(async { Ok(()) })
    }

    /// All volumes of the pod are torn down.
    fn forget_pod(&self, _uid: &str) {}
}
