//! Pod templates as objects of their own.

use crate::strategy::Strategy;

pub(super) struct PodTemplates;

impl Strategy for PodTemplates {
    fn has_generation(&self) -> bool {
        true
    }
}
