//! Pruning: fields that the schema does not know go, their paths are told.

use std::fmt::Write;

use serde_json::Value;

use super::{Additional, Structural};
use crate::bounds::{MAX_FAULTS, MAX_PATH, cut};

impl Structural {
    /// Drops what is not specified from an object of this schema; returns the first hundred paths, in the object's order.
    pub fn prune(&self, tree: &mut Value) -> Vec<String> {
        let mut gone = Vec::new();
        prune(self, tree, true, &mut String::new(), &mut gone);
        gone
    }
}

fn prune(node: &Structural, value: &mut Value, root: bool, path: &mut String, gone: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            let own =
                |name: &str| (root || node.embedded) && matches!(name, "apiVersion" | "kind" | "metadata");
            let keeps = node.preserve_unknown || matches!(node.additional, Additional::Any);
            members.retain(|name, value| {
                let length = path.len();
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                let kept = match node.member(name) {
                    _ if own(name) => true,
                    Some(child) => {
                        prune(child, value, false, path, gone);
                        true
                    }
                    None if keeps => true,
                    None => {
                        if gone.len() < MAX_FAULTS {
                            gone.push(cut(path.clone(), MAX_PATH));
                        }
                        false
                    }
                };
                path.truncate(length);
                kept
            });
        }
        Value::Array(list) => {
            let Some(items) = &node.items else { return };
            for (at, one) in list.iter_mut().enumerate() {
                let length = path.len();
                let _ = write!(path, "[{at}]");
                prune(items, one, false, path, gone);
                path.truncate(length);
            }
        }
        _ => {}
    }
}
