//! Component statuses have columns and no rules: they are never written.

use jiff::Timestamp;
use serde_json::Value;

use crate::printers;
use crate::strategy::{Cell, Column, Strategy};

pub(super) struct ComponentStatuses;

impl Strategy for ComponentStatuses {
    fn deprecation(&self) -> Option<&str> {
        Some("v1 ComponentStatus is deprecated in v1.19+")
    }

    fn columns(&self) -> &'static [Column] {
        printers::core::COMPONENT_STATUS
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::core::component_status(tree, now)
    }
}
