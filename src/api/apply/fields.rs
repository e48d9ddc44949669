//! Which fields a configuration names: the set that whoever applies it owns.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::managed::{self, Fields, Shape};
use crate::schema::{Member, Place};

/// The fields of an object.
pub(super) fn of(root: Place<'_>, tree: &Value) -> Fields {
    match tree {
        Value::Object(map) => Fields(members(root, map, true)),
        _ => Fields::default(),
    }
}

fn members(place: Place<'_>, map: &Map<String, Value>, is_root: bool) -> Map<String, Value> {
    let mut set = Map::new();
    for (name, value) in map {
        let member = if is_root { place.root_member(name) } else { place.member(name) };
        let (own, below) = below(&member, value);
        // A field of a schema that has members is not owned by itself; a key of a map is.
        let is_empty = match value {
            Value::Null => true,
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if let Some(node) = managed::node(own || is_empty || !member.is_named, below) {
            set.insert(managed::field(name), node);
        }
    }
    set
}

/// Whether a value is owned by itself, and what below it is.
fn below(member: &Member<'_>, value: &Value) -> (bool, Map<String, Value>) {
    match (managed::shape(Some(value), member), value) {
        (Shape::Map, Value::Object(map)) => (false, members(member.place, map, false)),
        (Shape::List, Value::Array(list)) => (false, elements(member, list)),
        (Shape::Any, _) => (false, Map::new()),
        _ => (true, Map::new()),
    }
}

/// Elements that share a key are owned as one, whatever is in them.
fn elements(list: &Member<'_>, items: &[Value]) -> Map<String, Value> {
    let keys: Vec<Option<String>> = items.iter().map(|item| managed::element_of(list, item)).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for key in keys.iter().flatten() {
        *counts.entry(key).or_default() += 1;
    }
    let mut set = Map::new();
    for (key, item) in keys.iter().zip(items) {
        let Some(key) = key else { continue };
        let below = match counts.get(&**key) {
            Some(1) => below(&list.element(), item).1,
            _ => Map::new(),
        };
        if let Some(node) = managed::node(true, below) {
            set.insert(key.clone(), node);
        }
    }
    set
}

/// The same set with every field of a schema in it that has paths below it.
pub(super) fn with_named(root: Place<'_>, fields: &Fields) -> Fields {
    let mut all = fields.clone();
    name_members(root, &mut all.0, true);
    all
}

fn name_members(place: Place<'_>, set: &mut Map<String, Value>, is_root: bool) {
    for (key, node) in set.iter_mut() {
        let Value::Object(node) = node else { continue };
        if node.is_empty() || key == managed::SELF {
            continue;
        }
        let Some(name) = key.strip_prefix("f:") else { continue };
        let member = if is_root { place.root_member(name) } else { place.member(name) };
        if member.is_named {
            node.insert(managed::SELF.to_string(), Value::Object(Map::new()));
        }
        name_below(&member, node);
    }
}

fn name_below(member: &Member<'_>, node: &mut Map<String, Value>) {
    name_members(member.place, node, false);
    for (_, node) in node.iter_mut().filter(|(key, _)| key.starts_with("k:")) {
        if let Value::Object(node) = node {
            name_members(member.place, node, false);
        }
    }
}
