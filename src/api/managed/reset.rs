//! Fields that the server resets whatever a write says of them: whoever sends them does not own them.

use serde_json::{Map, Value};

use super::set::Fields;
use crate::KindRow;

/// What of an object a write to it, or to a subresource of it, cannot change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// These paths, with all below them.
    Paths(&'static [&'static [&'static str]]),
    /// All but what lies on these paths; `*` stands for any element.
    AllBut(&'static [&'static [&'static str]]),
}

const NONE: Reset = Reset::Paths(&[]);
const STATUS: Reset = Reset::Paths(&[&["f:status"]]);
const SPEC: Reset = Reset::Paths(&[&["f:spec"]]);
const ALL_BUT_STATUS: Reset = Reset::Paths(&[&["f:metadata"], &["f:spec"]]);

/// Groups whose kinds have a status that is written without the metadata.
const STATUS_ALONE: &[&str] = &[
    "admissionregistration.k8s.io",
    "apiregistration.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

impl Reset {
    /// Upstream's rule for a kind. `is_custom` says that a definition made it.
    pub fn of(row: &KindRow, subresource: Option<&str>, is_custom: bool) -> Reset {
        let has_status = row.subresource("status").is_some();
        match (&*row.group, &*row.plural, subresource) {
            ("certificates.k8s.io", "certificatesigningrequests", None) => {
                Reset::Paths(&[&["f:spec"], &["f:status"]])
            }
            ("certificates.k8s.io", "certificatesigningrequests", Some("status")) => {
                Reset::Paths(&[&["f:spec"], &["f:status", "f:conditions"]])
            }
            ("certificates.k8s.io", "certificatesigningrequests", Some("approval")) => {
                Reset::Paths(&[&["f:spec"], &["f:status", "f:certificate"]])
            }
            ("", "pods", Some("status")) => Reset::Paths(&[
                &["f:spec"],
                &["f:metadata", "f:deletionTimestamp"],
                &["f:metadata", "f:ownerReferences"],
            ]),
            ("", "pods", Some("ephemeralcontainers")) => {
                Reset::AllBut(&[&["f:spec", "f:ephemeralContainers"]])
            }
            ("", "pods", Some("resize")) => Reset::AllBut(&[
                &["f:spec", "f:containers", "*", "f:resources"],
                &["f:spec", "f:containers", "*", "f:resizePolicy"],
                &["f:spec", "f:initContainers", "*", "f:resources"],
                &["f:spec", "f:initContainers", "*", "f:resizePolicy"],
            ]),
            ("", "namespaces", Some("finalize")) => STATUS,
            ("apps", "deployments", Some("status")) => {
                Reset::Paths(&[&["f:spec"], &["f:metadata", "f:labels"]])
            }
            ("apiextensions.k8s.io", _, Some("status")) => ALL_BUT_STATUS,
            ("networking.k8s.io", "servicecidrs", Some("status")) => ALL_BUT_STATUS,
            (group, _, Some("status")) if is_custom || STATUS_ALONE.contains(&group) => ALL_BUT_STATUS,
            (_, _, Some("status")) => SPEC,
            (_, _, None) if has_status => STATUS,
            _ => NONE,
        }
    }

    pub(crate) fn filter(&self, fields: &mut Fields) {
        match self {
            Reset::Paths(paths) => paths.iter().for_each(|path| fields.drop_below(path)),
            Reset::AllBut(patterns) => {
                let all = std::mem::take(&mut fields.0);
                fields.0 = matching(all, patterns);
            }
        }
    }
}

/// What of a set lies on one of the patterns, or below the end of one.
fn matching(node: Map<String, Value>, patterns: &[&[&str]]) -> Map<String, Value> {
    let mut result = Map::new();
    for (key, below) in node {
        let rests: Vec<&[&str]> = patterns
            .iter()
            .filter_map(|pattern| pattern.split_first())
            .filter(|(first, _)| **first == "*" || **first == key)
            .map(|(_, rest)| rest)
            .collect();
        if rests.iter().any(|rest| rest.is_empty()) {
            result.insert(key, below);
        } else if !rests.is_empty()
            && let Value::Object(below) = below
        {
            let own = below.is_empty() || below.contains_key(super::set::SELF);
            if let Some(node) = super::set::node(own, matching(below, &rests)) {
                result.insert(key, node);
            }
        }
    }
    result
}
