//! Pruning: fields that the schema does not know go, their paths are told.

use serde_json::Value;

use super::node::{Additional, Structural};
use crate::bounds::MAX_FAULTS;
use crate::validation::Path;

impl Structural {
    /// Drops what is not specified from an object of this schema; returns the first hundred paths, in the
    /// object's order.
    pub fn prune(&self, tree: &mut Value) -> Vec<String> {
        let mut gone = Vec::new();
        prune(self, tree, true, &Path::new(""), &mut gone);
        gone
    }

    /// The same for a value that is a whole object only if the schema says so.
    pub(super) fn prune_value(&self, value: &mut Value) -> Vec<String> {
        let mut gone = Vec::new();
        prune(self, value, false, &Path::new(""), &mut gone);
        gone
    }
}

fn prune(node: &Structural, value: &mut Value, root: bool, path: &Path<'_>, gone: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            let own =
                |name: &str| (root || node.embedded) && matches!(name, "apiVersion" | "kind" | "metadata");
            let keeps = node.preserve_unknown || matches!(node.additional, Additional::Any);
            members.retain(|name, value| {
                if own(name) {
                    return true;
                }
                let Some(child) = node.member(name) else {
                    if !keeps && gone.len() < MAX_FAULTS {
                        gone.push(path.child(name).into());
                    }
                    return keeps;
                };
                prune(child, value, false, &path.child(name), gone);
                true
            });
        }
        Value::Array(list) => {
            let Some(items) = &node.items else { return };
            for (at, one) in list.iter_mut().enumerate() {
                prune(items, one, false, &path.index(at), gone);
            }
        }
        _ => {}
    }
}
