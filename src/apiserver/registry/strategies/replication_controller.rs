//! Replication controllers.

use std::borrow::Cow;

use serde_json::Value;

use super::count;
use crate::strategy::{Str, Strategy, fields};

pub(super) struct ReplicationControllers;

impl Strategy for ReplicationControllers {
    fn has_generation(&self) -> bool {
        true
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> Vec<Str> {
        fields(&["status.replicas"])
    }

    fn field_value<'a>(&self, tree: &'a Value, path: &str) -> Cow<'a, str> {
        count(tree, path)
    }
}
