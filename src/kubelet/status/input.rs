//! What a pod's status is made from.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::pods::resize::Progress;
use crate::probes::ProbeView;
use crate::runtime::state::PodRuntime;

/// Why a container could not be started last time: reason and message of its `waiting` state.
pub(crate) type Reasons = HashMap<String, (String, String)>;

pub(crate) struct StatusInput<'a> {
    pub(crate) pod: &'a Pod,
    /// The newest status that the API has, which may be newer than the pod's.
    pub(crate) old: &'a PodStatus,
    pub(crate) runtime: &'a PodRuntime,
    pub(crate) reasons: &'a Reasons,
    /// How far the pod's resize has come.
    pub(crate) progress: &'a Progress,
    pub(crate) probes: &'a dyn ProbeView,
    pub(crate) host_ips: &'a [String],
    pub(crate) now: Timestamp,
    /// All containers have ended and none will be started again.
    pub(crate) ended: bool,
    /// Why the kubelet ended the pod, such as `DeadlineExceeded`: reason and message. Makes it Failed.
    pub(crate) failed: Option<&'a (String, String)>,
    /// Why the node takes the pod away, if that is to be told in a condition.
    pub(crate) disruption: Option<&'a str>,
}
