//! The watch cache: every current object, by kind, fed by the store before a write is acknowledged.

use std::sync::Arc;

use api::{KindRow, Object};

/// All kinds' objects. Reads never block writes for long and never touch the disk.
pub struct Caches {}

impl Caches {
    /// One object, as stored.
    pub fn get(&self, _row: &KindRow, _namespace: Option<&str>, _name: &str) -> Option<Arc<Object>> {
        None
    }

    /// All objects of a kind, or of one namespace of it, in key order.
    pub fn list(&self, _row: &KindRow, _namespace: Option<&str>) -> Vec<Arc<Object>> {
        Vec::new()
    }

    /// Objects whose indexed field has this value ([`crate::registry::Strategy::indexed_fields`]).
    pub fn indexed(&self, _row: &KindRow, _field: &str, _value: &str) -> Vec<Arc<Object>> {
        Vec::new()
    }

    /// Revision of the newest change of any object of a kind: cheap to compare, for those who derive something from
    /// all of them.
    pub fn last_change(&self, _row: &KindRow) -> u64 {
        0
    }
}
