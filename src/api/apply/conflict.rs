//! Conflicts: fields that others own and an apply would change.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::go;
use crate::ApiError;
use crate::bounds::MAX_FAULTS;
use crate::managed::{self, Entry, Fields, Operation};

/// The fields that are in conflict, by the entries that own them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conflicts(Vec<(Entry, Fields)>);

impl Conflicts {
    pub(super) fn add(&mut self, owner: &Entry, fields: Fields) {
        if !fields.is_empty() {
            self.0.push((Entry { fields: Fields::default(), ..owner.clone() }, fields));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out what may be changed in spite of its owners.
    pub(super) fn allow(&mut self, fields: &Fields) {
        for (_, own) in &mut self.0 {
            own.subtract(fields);
        }
        self.0.retain(|(_, fields)| !fields.is_empty());
    }

    /// Owners, in upstream's order, with the paths that are theirs.
    pub fn paths(&self) -> Vec<(&Entry, Vec<String>)> {
        let mut owners: Vec<(&Entry, Vec<String>)> = self
            .0
            .iter()
            .map(|(owner, fields)| {
                let mut paths = Vec::new();
                walk(&fields.0, "", &mut paths);
                (owner, paths)
            })
            .collect();
        owners.sort_by_cached_key(|(owner, _)| identifier(owner));
        owners
    }
}

/// What upstream sorts owners by.
fn identifier(owner: &Entry) -> String {
    let mut text = format!("{{\"manager\":{:?},\"operation\":\"{:?}\"", owner.manager, owner.operation);
    if owner.operation == Operation::Update {
        text.push_str(&format!(",\"apiVersion\":{:?}", owner.api_version));
    }
    if !owner.subresource.is_empty() {
        text.push_str(&format!(",\"subresource\":{:?}", owner.subresource));
    }
    text.push('}');
    text
}

fn name(owner: &Entry) -> String {
    let mut name = format!("{:?}", owner.manager);
    if !owner.subresource.is_empty() {
        name.push_str(&format!(" with subresource {:?}", owner.subresource));
    }
    if owner.operation == Operation::Update {
        name.push_str(&format!(" using {}", owner.api_version));
    }
    name
}

/// Paths of a set: what is in it at one level, then what is below.
fn walk(set: &Map<String, Value>, prefix: &str, paths: &mut Vec<String>) {
    let mut nodes: Vec<(&String, &Map<String, Value>)> = set
        .iter()
        .filter(|(key, _)| *key != managed::SELF)
        .filter_map(|(key, node)| Some((key, node.as_object()?)))
        .collect();
    nodes.sort_by(|(one, _), (other, _)| compare(one, other));
    let at = |key: &str| format!("{prefix}{}", go::element(key));
    paths.extend(nodes.iter().filter(|(_, node)| managed::is_member(node)).map(|(key, _)| at(key)));
    for (key, node) in nodes {
        walk(node, &at(key), paths);
    }
}

/// Fields come by name, elements by their values rather than by the text of these.
fn compare(one: &str, other: &str) -> Ordering {
    let value = |key: &str| key.get(2..).and_then(|text| serde_json::from_str::<Value>(text).ok());
    if one.starts_with("f:") || one.get(..2) != other.get(..2) {
        return one.cmp(other);
    }
    match (value(one), value(other)) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let pairs = one.iter().zip(other.iter()).map(|((name, value), (other, theirs))| {
                name.cmp(other).then_with(|| compare_values(value, theirs))
            });
            let first = pairs.into_iter().find(|ordering| ordering.is_ne());
            first.unwrap_or_else(|| one.len().cmp(&other.len()))
        }
        (Some(one), Some(other)) => compare_values(&one, &other),
        _ => one.cmp(other),
    }
}

fn compare_values(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one.as_f64().partial_cmp(&other.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Value::String(one), Value::String(other)) => one.cmp(other),
        (Value::Number(_), _) => Ordering::Less,
        (_, Value::Number(_)) => Ordering::Greater,
        _ => one.to_string().cmp(&other.to_string()),
    }
}

impl From<Conflicts> for ApiError {
    fn from(conflicts: Conflicts) -> Self {
        let mut owners = conflicts.paths();
        let count: usize = owners.iter().map(|(_, paths)| paths.len()).sum();
        // Every path of every owner would make the answer hundreds of times as large as the request.
        let mut left = MAX_FAULTS;
        for (_, paths) in &mut owners {
            paths.truncate(left);
            left -= paths.len();
        }
        owners.retain(|(_, paths)| !paths.is_empty());
        let mut message =
            format!("Apply failed with {count} conflict{}: ", if count == 1 { "" } else { "s" });
        if let ([(owner, paths)], 1) = (&*owners, count) {
            message.push_str(&format!("conflict with {}: {}", name(owner), paths.concat()));
        } else {
            let lines = owners.iter().map(|(owner, paths)| {
                let paths: String = paths.iter().map(|path| format!("\n- {path}")).collect();
                format!("conflicts with {}:{paths}", name(owner))
            });
            message.push_str(&lines.collect::<Vec<_>>().join("\n"));
            if count > MAX_FAULTS {
                message.push_str(&format!("\nand {} more", count - MAX_FAULTS));
            }
        }
        let mut error = ApiError::new(409, "Conflict", message);
        for (owner, paths) in &owners {
            let why = format!("conflict with {}", name(owner));
            for path in paths {
                error = error.with_cause("FieldManagerConflict", Some(path), &why);
            }
        }
        error
    }
}
