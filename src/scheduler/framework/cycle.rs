//! One pod's way through the plugins: what they see, and what they keep for one another.

use std::any::{Any, TypeId};
use std::sync::Arc;

use super::{PluginSet, Status};
use crate::cache::Cache;
use crate::pod::PodInfo;

/// What plugins keep from one extension point to the next, by its type: a plugin's private type is its own, a
/// public one is shared. It goes with the pod into the binding cycle and ends with it.
#[derive(Default)]
pub struct CycleState {
    // A handful of entries: comparing their types is quicker than hashing them.
    entries: Vec<(TypeId, Box<dyn Any + Send + Sync>)>,
    /// Plugins whose Filter, Score or PreBind has nothing to do for this pod.
    pub(crate) skip_filter: PluginSet,
    pub(crate) skip_score: PluginSet,
    pub(crate) skip_pre_bind: PluginSet,
}

impl CycleState {
    pub fn write<T: Any + Send + Sync>(&mut self, value: T) {
        let (id, value) = (TypeId::of::<T>(), Box::new(value));
        match self.entries.iter_mut().find(|(known, _)| *known == id) {
            Some((_, old)) => *old = value,
            None => self.entries.push((id, value)),
        }
    }

    pub fn read<T: Any>(&self) -> Option<&T> {
        let id = TypeId::of::<T>();
        let (_, value) = self.entries.iter().find(|(known, _)| *known == id)?;
        value.downcast_ref()
    }

    /// What the plugin must have written at an earlier extension point; the error is the answer if it did
    /// not.
    pub fn expect<T: Any>(&self) -> Result<&T, Status> {
        let missing = || {
            Status::error(format!("reading {} from the cycle's state: not found", std::any::type_name::<T>()))
        };
        self.read().ok_or_else(missing)
    }
}

/// What plugins of the scheduling cycle see. It is theirs alone: nothing changes while they look.
pub struct Cycle<'a> {
    pub pod: &'a Arc<PodInfo>,
    pub state: CycleState,
    pub(crate) cache: &'a mut Cache,
}

impl<'a> Cycle<'a> {
    pub(crate) fn new(cache: &'a mut Cache, pod: &'a Arc<PodInfo>) -> Self {
        Cycle { pod, state: CycleState::default(), cache }
    }

    /// The parts, to be changed side by side.
    pub(crate) fn parts(&mut self) -> (&PodInfo, &mut CycleState, &mut Cache) {
        (self.pod, &mut self.state, self.cache)
    }
}
