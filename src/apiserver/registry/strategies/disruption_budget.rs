//! Disruption budgets of pods.

use crate::strategy::Strategy;

pub(super) struct DisruptionBudgets;

impl Strategy for DisruptionBudgets {
    fn has_generation(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }
}
