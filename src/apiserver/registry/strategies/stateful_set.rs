//! Stateful sets.

use crate::strategy::Strategy;

pub(super) struct StatefulSets;

impl Strategy for StatefulSets {
    fn has_generation(&self) -> bool {
        true
    }
}
