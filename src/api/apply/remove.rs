//! Taking the fields of a set out of an object.

use serde_json::{Map, Value};

use crate::managed::{self, Fields, Shape};
use crate::schema::{Member, Place};

/// Takes what is in the set out of an object. What held it stays, empty if need be.
pub(super) fn remove(root: Place<'_>, tree: &mut Value, fields: &Fields) {
    if let Value::Object(map) = tree {
        members(root, map, &fields.0, true);
    }
}

fn members(place: Place<'_>, map: &mut Map<String, Value>, set: &Map<String, Value>, is_root: bool) {
    for (key, node) in set {
        let (Some(name), Value::Object(node)) = (key.strip_prefix("f:"), node) else { continue };
        if managed::is_member(node) {
            map.remove(name);
        } else if let Some(value) = map.get_mut(name) {
            let member = if is_root { place.root_member(name) } else { place.member(name) };
            below(&member, value, node);
        }
    }
}

fn below(member: &Member<'_>, value: &mut Value, set: &Map<String, Value>) {
    match (managed::shape(Some(value), member), value) {
        (Shape::Map, Value::Object(map)) => members(member.place, map, set, false),
        (Shape::List, Value::Array(list)) => elements(member, list, set),
        // What is owned as a whole has no parts that could stay.
        (_, Value::Object(map)) => map.clear(),
        (_, Value::Array(list)) => list.clear(),
        _ => {}
    }
}

fn elements(list: &Member<'_>, items: &mut Vec<Value>, set: &Map<String, Value>) {
    items.retain_mut(|item| {
        let node = managed::element_of(list, item).and_then(|key| set.get(&key));
        let Some(Value::Object(node)) = node else { return true };
        if managed::is_member(node) {
            return false;
        }
        below(&list.element(), item, node);
        true
    });
}
