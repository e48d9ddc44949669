//! The extension points as traits, and how a plugin says which of them it implements.
//!
//! The traits are object-safe: a profile holds a list per extension point. Methods of the scheduling cycle
//! are synchronous and must not block, because the scheduler's lock is held; PreBind and Bind may take their
//! time.

use std::sync::Arc;
use std::time::Duration;

use client::events::Recorder;
use client::{BoxFuture, ObjectApi};

use super::event::{Actions, EventToRegister, Resource};
use super::{Cycle, CycleState, Diagnosis, Profile, Status, WaitingPods};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::storage::Storage;

/// Scores are between 0 and this, after normalisation.
pub const MAX_NODE_SCORE: i64 = 100;

/// What plugins are made with.
#[derive(Clone)]
pub struct Handle {
    /// `spec.schedulerName` of the profile's pods.
    pub scheduler_name: String,
    /// Acts as the scheduler.
    pub api: Arc<dyn ObjectApi>,
    pub recorder: Recorder,
    /// Pods that wait for Permit plugins, of all profiles.
    pub waiting: Arc<WaitingPods>,
    /// Claims, volumes and classes.
    pub storage: Arc<Storage>,
}

/// What all plugins have.
pub trait Plugin: Send + Sync + 'static {
    /// Kubernetes' name of it, unique in a profile.
    fn name(&self) -> &'static str;

    /// Adds the plugin to the lists of the extension points that it implements.
    fn register(self: Arc<Self>, points: &mut Points);

    /// Events that may make a pod schedulable that this plugin rejected. Asked of plugins that can reject;
    /// without an answer every event counts, so that no pod is forgotten.
    fn events_to_register(&self) -> Vec<EventToRegister> {
        vec![EventToRegister::always(Resource::WildCard, Actions::ALL)]
    }
}

/// Decides whether a pod may enter the queue. Called with the queue's lock held: it must be quick.
pub trait PreEnqueuePlugin: Send + Sync {
    fn pre_enqueue(&self, pod: &PodInfo) -> Status;
}

/// The nodes that a PreFilter plugin leaves, all if none are named.
#[derive(Clone, Debug, Default)]
pub struct PreFilterResult {
    pub node_names: Option<Vec<String>>,
}

/// Looks at the pod once before nodes are looked at. `Skip` leaves the plugin's Filter out.
pub trait PreFilterPlugin: Send + Sync {
    fn pre_filter(&self, cycle: &mut Cycle<'_>) -> (PreFilterResult, Status);
}

/// Decides whether the pod may be on a node.
pub trait FilterPlugin: Send + Sync {
    fn filter(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Status;

    /// The answer depends on nothing but the node's own object and the pod's [requirements](PodInfo), so that
    /// it can be kept for all pods that require the same until the node changes.
    fn only_node(&self) -> bool {
        false
    }
}

/// Whether the pod is promised a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Nominating {
    /// As it was.
    #[default]
    Keep,
    Clear,
    Node(String),
}

/// What a PostFilter plugin comes to.
#[derive(Default)]
pub struct PostFilterResult {
    pub nominating: Nominating,
    /// What is to be done outside, after the pod has been told.
    pub follow_up: Option<BoxFuture<'static, ()>>,
}

/// Tries to make a pod schedulable that no node will do for. The first success ends it, as does an error or
/// `UnschedulableAndUnresolvable`.
pub trait PostFilterPlugin: Send + Sync {
    /// `profile` runs the filters over a cluster changed in thought.
    fn post_filter(
        &self,
        cycle: &mut Cycle<'_>,
        profile: &Profile,
        diagnosis: &Diagnosis,
    ) -> (PostFilterResult, Status);
}

/// Looks at the nodes that will do before they are scored. `Skip` leaves the plugin's Score out.
pub trait PreScorePlugin: Send + Sync {
    /// `nodes` are indices of the cache's nodes.
    fn pre_score(&self, cycle: &mut Cycle<'_>, nodes: &[u32]) -> Status;
}

pub trait ScorePlugin: Send + Sync {
    /// The more the better; any number if the scores are normalised.
    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<i64, Status>;

    /// Brings the scores of all nodes between 0 and [`MAX_NODE_SCORE`].
    fn normalize_score(&self, cycle: &Cycle<'_>, scores: &mut [i64]) -> Status {
        let _ = (cycle, scores);
        Status::success()
    }

    /// As with [`FilterPlugin::only_node`].
    fn only_node(&self) -> bool {
        false
    }
}

/// Keeps something for a pod that has got a node, in memory.
pub trait ReservePlugin: Send + Sync {
    /// The pod is assumed to be on the node. A failure undoes the reservations of all plugins.
    fn reserve(&self, state: &mut CycleState, pod: &PodInfo, node: &str) -> Status;

    /// The pod will not be on the node after all, for a reason of any later extension point. Called for all
    /// plugins, the last first, also for those that had nothing reserved; it cannot fail.
    fn unreserve(&self, state: &CycleState, pod: &PodInfo, node: &str);
}

/// Has the last word of the scheduling cycle: go on, wait at most so long (at most 15 minutes), or not.
pub trait PermitPlugin: Send + Sync {
    fn permit(&self, state: &CycleState, pod: &PodInfo, node: &str) -> (Status, Duration);
}

/// Prepares what the pod needs on its node, before it is bound.
pub trait PreBindPlugin: Send + Sync {
    /// Quick look ahead: `Skip` if there is nothing to do for this pod. If some plugin has work, the pod's
    /// status names the node while it is done.
    fn pre_bind_pre_flight(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Status {
        let _ = (state, pod, node);
        Status::success()
    }

    fn pre_bind<'a>(
        &'a self,
        state: &'a CycleState,
        pod: &'a PodInfo,
        node: &'a str,
    ) -> BoxFuture<'a, Status>;
}

/// Binds the pod. `Skip` hands it to the next plugin.
pub trait BindPlugin: Send + Sync {
    fn bind<'a>(&'a self, state: &'a CycleState, pod: &'a PodInfo, node: &'a str) -> BoxFuture<'a, Status>;
}

/// Is told that the pod is bound.
pub trait PostBindPlugin: Send + Sync {
    fn post_bind(&self, state: &CycleState, pod: &PodInfo, node: &str);
}

/// A plugin in the list of one extension point.
pub(crate) struct Slot<P: ?Sized> {
    /// The plugin's place in the profile.
    pub(crate) id: u8,
    pub(crate) name: &'static str,
    /// What its scores are multiplied by.
    pub(crate) weight: i64,
    pub(crate) plugin: Arc<P>,
}

/// The lists of a profile's plugins by extension point.
#[derive(Default)]
pub struct Points {
    /// The plugin that is being registered.
    id: u8,
    name: &'static str,
    weight: i64,
    pub(crate) pre_enqueue: Vec<Slot<dyn PreEnqueuePlugin>>,
    pub(crate) pre_filter: Vec<Slot<dyn PreFilterPlugin>>,
    pub(crate) filter: Vec<Slot<dyn FilterPlugin>>,
    pub(crate) post_filter: Vec<Slot<dyn PostFilterPlugin>>,
    pub(crate) pre_score: Vec<Slot<dyn PreScorePlugin>>,
    pub(crate) score: Vec<Slot<dyn ScorePlugin>>,
    pub(crate) reserve: Vec<Slot<dyn ReservePlugin>>,
    pub(crate) permit: Vec<Slot<dyn PermitPlugin>>,
    pub(crate) pre_bind: Vec<Slot<dyn PreBindPlugin>>,
    pub(crate) bind: Vec<Slot<dyn BindPlugin>>,
    pub(crate) post_bind: Vec<Slot<dyn PostBindPlugin>>,
}

macro_rules! extension_points {
    ($($point:ident: $plugin:ident),* $(,)?) => {
        impl Points {
            $(
                pub fn $point(&mut self, plugin: Arc<dyn $plugin>) -> &mut Self {
                    let (id, name, weight) = (self.id, self.name, self.weight);
                    self.$point.push(Slot { id, name, weight, plugin });
                    self
                }
            )*
        }
    };
}

extension_points! {
    pre_enqueue: PreEnqueuePlugin,
    pre_filter: PreFilterPlugin,
    filter: FilterPlugin,
    post_filter: PostFilterPlugin,
    pre_score: PreScorePlugin,
    score: ScorePlugin,
    reserve: ReservePlugin,
    permit: PermitPlugin,
    pre_bind: PreBindPlugin,
    bind: BindPlugin,
    post_bind: PostBindPlugin,
}

impl Points {
    pub(crate) fn add(&mut self, id: u8, weight: i64, plugin: Arc<dyn Plugin>) {
        (self.id, self.name, self.weight) = (id, plugin.name(), weight);
        plugin.register(self);
    }
}

/// Scales scores so that the largest becomes 100, or, `reverse`, so that 0 becomes 100.
pub fn default_normalize_score(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        *score = match most {
            0 if reverse => MAX_NODE_SCORE,
            0 => 0,
            _ if reverse => MAX_NODE_SCORE - MAX_NODE_SCORE * *score / most,
            _ => MAX_NODE_SCORE * *score / most,
        };
    }
}
