//! Merging a configuration into an object.
//!
//! Nothing is removed. Maps are merged member by member, sets and lists with keys element by element,
//! everything else is replaced. Elements take the order of the configuration as far as it speaks of them; the
//! others keep their places among them.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::managed::{self, Shape};
use crate::schema::{Member, Place};

/// Merges `patch` into `live`.
pub fn merge(root: Place<'_>, live: &mut Value, patch: &Value) {
    match (live, patch) {
        (Value::Object(live), Value::Object(patch)) => members(root, live, patch, true),
        (live, patch) => *live = patch.clone(),
    }
}

fn members(place: Place<'_>, live: &mut Map<String, Value>, patch: &Map<String, Value>, is_root: bool) {
    for (name, wanted) in patch {
        match live.get_mut(name) {
            None => drop(live.insert(name.clone(), wanted.clone())),
            Some(there) if there == wanted => {}
            Some(there) => {
                let member = if is_root { place.root_member(name) } else { place.member(name) };
                value(&member, there, wanted);
            }
        }
    }
}

fn value(member: &Member<'_>, live: &mut Value, patch: &Value) {
    let shape = managed::shape(Some(live), member);
    let is_same = shape == managed::shape(Some(patch), member);
    match (live, patch) {
        // Null and the empty list take nothing away from what has parts.
        (Value::Object(there), Value::Null) if shape == Shape::Map && !there.is_empty() => {}
        (Value::Array(there), Value::Null) if shape == Shape::List && !there.is_empty() => {}
        (Value::Object(there), Value::Object(wanted)) if shape == Shape::Map && is_same => {
            members(member.place, there, wanted, false);
        }
        (Value::Array(there), Value::Array(wanted))
            if shape == Shape::List && is_same && !there.is_empty() =>
        {
            let merged = elements(member, std::mem::take(there), wanted);
            *there = merged;
        }
        (live, patch) => *live = patch.clone(),
    }
}

fn elements(list: &Member<'_>, live: Vec<Value>, patch: &[Value]) -> Vec<Value> {
    let keys: Vec<Option<String>> = live.iter().map(|item| managed::element_of(list, item)).collect();
    let wanted: Vec<Option<String>> = patch.iter().map(|item| managed::element_of(list, item)).collect();
    // None: it occurs several times, so that nothing is known of it but that it is there.
    let mut there: HashMap<&str, Option<usize>> = HashMap::new();
    for (at, key) in keys.iter().enumerate() {
        let Some(key) = key.as_deref() else { continue };
        there.entry(key).and_modify(|at| *at = None).or_insert(Some(at));
    }
    let is_wanted: HashSet<&str> = wanted.iter().flatten().map(String::as_str).collect();
    let mut live: Vec<Option<Value>> = live.into_iter().map(Some).collect();
    let mut shared = wanted.iter().flatten().map(String::as_str).filter(|key| there.contains_key(key));
    let mut next = shared.next();
    let mut done: HashSet<&str> = HashSet::new();
    let mut result = Vec::with_capacity(live.len().max(patch.len()));
    let (mut left, mut right) = (0, 0);
    while left < keys.len() || right < wanted.len() {
        let key = keys.get(left).map(|key| key.as_deref().filter(|key| is_wanted.contains(key)));
        if let (Some(Some(key)), Some(want)) = (key, wanted.get(right)) {
            let is_next = want.as_deref() == Some(key);
            if !is_next && next.is_some_and(|next| next != key) {
                // It is shared, but not the one whose turn it is.
                left += 1;
                continue;
            }
        }
        match key {
            // It is only in the object.
            Some(None) => {
                result.extend(live[left].take());
                left += 1;
                continue;
            }
            Some(Some(key)) if wanted.get(right).and_then(Option::as_deref) == Some(key) => left += 1,
            Some(Some(key)) if done.contains(key) => left += 1,
            _ => {}
        }
        let Some(want) = wanted.get(right) else { continue };
        let mut merged = patch[right].clone();
        if let Some(want) = want.as_deref() {
            done.insert(want);
            let at = there.get(want).copied().flatten();
            if let Some(mut item) = at.and_then(|at| live[at].take()) {
                value(&list.element(), &mut item, &patch[right]);
                merged = item;
            }
            if next == Some(want) {
                next = shared.next();
            }
        }
        result.push(merged);
        right += 1;
    }
    result
}
