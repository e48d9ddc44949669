//! The scheduling framework: what a plugin is, when each of its methods is called, and what their answers
//! mean.
//!
//! A pod passes PreEnqueue before it is queued; PreFilter, Filter, PostFilter (if no node will do), PreScore,
//! Score, Reserve and Permit in the scheduling cycle, which is one at a time and in memory; the wait that
//! Permit asked for, PreBind, Bind and PostBind in the binding cycle, many of which run at once. A plugin
//! implements what it needs and registers for it ([`Plugin::register`]); a [`Profile`] is the plugins that
//! pods of one `spec.schedulerName` pass. Names of extension points, codes and texts are Kubernetes' own, so
//! that its documentation holds here.
//!
//! What differs from kube-scheduler: a plugin reads the live cache under the scheduler's lock, not a copy of
//! it. PreFilter extensions (AddPod, RemovePod) are absent, because pods are put on and taken off that cache
//! to see what would be and PreFilter is run again. QueueSort is always PrioritySort. Extenders and
//! activation of other pods are absent.

mod config;
mod cycle;
mod diagnosis;
mod event;
mod plugin;
mod plugin_set;
mod profile;
mod profiles;
mod status;
mod waiting;

pub use config::{Config, ConfigError, ProfileConfig};
pub use cycle::{Cycle, CycleState};
pub use diagnosis::Diagnosis;
pub use event::{
    Actions, ClusterEvent, EventToRegister, ObservedEvent, QueueingHint, Resource, StorageChange,
};
pub use plugin::{
    BindPlugin, FilterPlugin, Handle, MAX_NODE_SCORE, Nominating, PermitPlugin, Plugin, Points,
    PostBindPlugin, PostFilterPlugin, PostFilterResult, PreBindPlugin, PreEnqueuePlugin, PreFilterPlugin,
    PreFilterResult, PreScorePlugin, ReservePlugin, ScorePlugin, default_normalize_score,
};
pub use plugin_set::PluginSet;
pub use profile::Profile;
pub use status::{Code, Status};
pub use waiting::{WaitingPod, WaitingPods};

pub use crate::node::NodeInfo;
pub use crate::pod::PodInfo;
pub use crate::storage::Storage;

pub(crate) use event::Recent;
pub(crate) use profile::{Confined, Requeue};
pub(crate) use profiles::Profiles;

#[cfg(test)]
mod tests;
