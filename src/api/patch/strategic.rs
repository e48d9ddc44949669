//! Strategic merge: JSON merge that knows by which key lists merge.
//!
//! Directives in a patch: `$patch` (`replace`, `delete`) in a map or list element, `$retainKeys` in a map,
//! and beside a list `$deleteFromPrimitiveList/NAME` and `$setElementOrder/NAME`. Order of merged lists
//! follows upstream: elements the patch names come in the patch's order, others keep their place relative to
//! those the server's list already had.
//!
//! Elements are found by an index of their keys: lists of ten thousands merge in about the time it takes to
//! read them.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::{Member, Place};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

type Merged<T> = Result<T, PatchError>;
type Object = Map<String, Value>;

/// Merges `patch` into `tree`, an object whose schema begins at `root`.
pub(crate) fn strategic_merge<'a>(root: impl Into<Place<'a>>, tree: &mut Value, patch: &Value) -> Merged<()> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::Malformed("the patch is not a JSON object".to_string()));
    };
    let Value::Object(original) = tree else {
        return Err(PatchError::Malformed("the object is not a JSON object".to_string()));
    };
    merge_map(root.into(), original, patch.clone())
}

fn rejected(why: impl Into<String>) -> PatchError {
    PatchError::Rejected(why.into())
}

fn merge_map(known: Place<'_>, original: &mut Object, mut patch: Object) -> Merged<()> {
    match patch.get(PATCH).map(Value::as_str) {
        None => {}
        Some(Some("replace")) => {
            patch.remove(PATCH);
            *original = patch;
            return Ok(());
        }
        Some(Some("delete")) => {
            original.clear();
            return Ok(());
        }
        Some(other) => {
            return Err(rejected(format!("unknown patch type found: {}", other.unwrap_or_default())));
        }
    }
    retain_keys(original, &mut patch)?;
    merge_ordered(known, original, &mut patch)?;
    for (name, value) in patch {
        merge_member(known, original, &name, value)?;
    }
    Ok(())
}

/// `$retainKeys`: what is not listed goes from the original.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Merged<()> {
    let Some(listed) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || PatchError::Malformed("invalid patch format of retainKeys".to_string());
    let listed = listed.as_array().ok_or_else(bad)?;
    let listed: HashSet<&str> = listed.iter().filter_map(Value::as_str).collect();
    let is_listed = |name: &str| listed.contains(name);
    let is_directive = |name: &str| name.starts_with(DELETE_FROM) || name.starts_with(SET_ORDER);
    if patch.iter().any(|(name, value)| !value.is_null() && !is_directive(name) && !is_listed(name)) {
        return Err(bad());
    }
    original.retain(|name, _| is_listed(name));
    Ok(())
}

/// Lists with a `$setElementOrder` beside them: merged here and taken out of the patch.
fn merge_ordered(known: Place<'_>, original: &mut Object, patch: &mut Object) -> Merged<()> {
    let ordered: Vec<String> =
        patch.keys().filter_map(|key| key.strip_prefix(SET_ORDER)).map(str::to_string).collect();
    for name in ordered {
        let bad = || PatchError::Malformed("invalid patch format of setElementOrder list".to_string());
        let Some(Value::Array(order)) = patch.remove(&format!("{SET_ORDER}{name}")) else {
            return Err(bad());
        };
        let member = known.member(&name);
        let list_of = |value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(bad()),
        };
        if patch.get(&name).is_some_and(Value::is_null) {
            continue;
        }
        let before = list_of(original.remove(&name))?;
        let change = list_of(patch.remove(&name))?;
        let order = Positions::of(&order, member.merge_key);
        // Items to delete do not have to be in the order list; all others must.
        for item in change.iter().flatten().filter(|item| item.get(PATCH).is_none()) {
            if order.find(item).is_none() {
                return Err(rejected(format!(
                    "The order in patch list doesn't match $setElementOrder list: {name}"
                )));
            }
        }
        let places = Positions::of(before.as_deref().unwrap_or_default(), member.merge_key);
        let removals = patch.remove(&format!("{DELETE_FROM}{name}"));
        let mut merged = match (before, change) {
            (None, None) => continue,
            (Some(before), None) => before,
            (None, Some(change)) => {
                without_directives(Value::Array(change)).and_then(into_list).unwrap_or_default()
            }
            (Some(before), Some(change)) if member.merged_list => merge_list(&member, before, change)?,
            (_, Some(change)) => change,
        };
        if let Some(Value::Array(gone)) = &removals {
            remove_all(&mut merged, gone);
        }
        original.insert(name, Value::Array(in_order(merged, &order, &places)));
    }
    Ok(())
}

fn remove_all(list: &mut Vec<Value>, gone: &[Value]) {
    let gone: HashSet<&Value> = gone.iter().collect();
    list.retain(|item| !gone.contains(item));
}

fn into_list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) => Some(list),
        _ => None,
    }
}

fn merge_member(known: Place<'_>, original: &mut Object, name: &str, value: Value) -> Merged<()> {
    if let Some(name) = name.strip_prefix(DELETE_FROM) {
        let Value::Array(gone) = value else {
            return Err(PatchError::Malformed("invalid patch format of primitive list".to_string()));
        };
        if let Some(Value::Array(list)) = original.get_mut(name) {
            remove_all(list, &gone);
        }
        return Ok(());
    }
    if value.is_null() {
        original.remove(name);
        return Ok(());
    }
    let member = known.member(name);
    match (original.get_mut(name), value) {
        (Some(Value::Object(before)), Value::Object(change)) if !member.replaced => {
            merge_map(member.place, before, change)
        }
        (Some(Value::Array(before)), Value::Array(change)) if member.merged_list => {
            *before = merge_list(&member, std::mem::take(before), change)?;
            Ok(())
        }
        (_, value) => {
            if let Some(value) = without_directives(value) {
                original.insert(name.to_string(), value);
            }
            Ok(())
        }
    }
}

/// Merges two lists of maps by key, or of scalars as a set.
fn merge_list(member: &Member<'_>, original: Vec<Value>, patch: Vec<Value>) -> Merged<Vec<Value>> {
    let maps = original.iter().chain(&patch).filter(|item| item.is_object()).count();
    if maps == 0 {
        return Ok(merge_scalars(original, patch));
    }
    if maps < original.len() + patch.len() {
        return Err(rejected("list element types are not identical"));
    }
    let Some(key) = member.merge_key else { return Err(rejected("cannot merge lists without merge key")) };
    let (original, patch) = apply_special(key, original, patch)?;
    let (order, places) = (Positions::of(&patch, Some(key)), Positions::of(&original, Some(key)));
    let (mut merged, mut found) = (original, places.clone());
    for item in patch {
        let Some(value) = item.get(key) else {
            return Err(rejected(format!("map: {item} does not contain declared merge key: {key}")));
        };
        match (found.at.get(value).and_then(|at| merged.get_mut(*at)), item) {
            (Some(Value::Object(own)), Value::Object(change)) => merge_map(member.place, own, change)?,
            (_, item) => {
                let value = value_of(&item, key);
                let Some(new) = without_directives(item) else { continue };
                found.at.entry(value).or_insert(merged.len());
                merged.push(new);
            }
        }
    }
    Ok(in_order(merged, &order, &places))
}

fn value_of(item: &Value, key: &str) -> Value {
    item.get(key).cloned().unwrap_or_default()
}

fn merge_scalars(original: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
    let (order, places) = (Positions::of(&patch, None), Positions::of(&original, None));
    let mut merged = original;
    let mut seen = HashSet::new();
    for item in patch {
        if places.find(&item).is_none() && seen.insert(item.clone()) {
            merged.push(item);
        }
    }
    in_order(merged, &order, &places)
}

/// Elements with a `$patch`: deletes what they name, or replaces the list.
fn apply_special(key: &str, mut original: Vec<Value>, patch: Vec<Value>) -> Merged<(Vec<Value>, Vec<Value>)> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut gone = HashSet::new();
    let mut replace = false;
    for item in patch {
        match item.get(PATCH).map(Value::as_str) {
            None => plain.push(item),
            Some(Some("delete")) => {
                let Some(value) = item.get(key) else {
                    return Err(rejected(format!("map: {item} does not contain declared merge key: {key}")));
                };
                gone.insert(value.clone());
            }
            Some(Some("replace")) => replace = true,
            Some(other) => {
                return Err(rejected(format!("unknown patch type found: {}", other.unwrap_or_default())));
            }
        }
    }
    if !gone.is_empty() {
        original.retain(|own| own.get(key).is_none_or(|value| !gone.contains(value)));
    }
    Ok(if replace { (plain, Vec::new()) } else { (original, plain) })
}

/// Where the first element with each key (or, without a key, of each value) stands in a list.
#[derive(Clone)]
struct Positions<'a> {
    key: Option<&'a str>,
    at: HashMap<Value, usize>,
}

impl<'a> Positions<'a> {
    fn of(list: &[Value], key: Option<&'a str>) -> Self {
        let mut at = HashMap::with_capacity(list.len());
        for (index, item) in list.iter().enumerate() {
            if let Some(value) = identity(item, key) {
                at.entry(value.clone()).or_insert(index);
            }
        }
        Positions { key, at }
    }

    fn find(&self, item: &Value) -> Option<usize> {
        self.at.get(identity(item, self.key)?).copied()
    }
}

/// What tells elements of a list apart.
fn identity<'a>(item: &'a Value, key: Option<&str>) -> Option<&'a Value> {
    match key {
        Some(key) => item.get(key),
        None => Some(item),
    }
}

/// Puts merged elements in order: those in `order` as there, the others as in `before`, the two interleaved
/// by `before`.
fn in_order(merged: Vec<Value>, order: &Positions<'_>, before: &Positions<'_>) -> Vec<Value> {
    let placed = merged.into_iter().map(|item| (order.find(&item), before.find(&item), item));
    let (mut named, mut others): (Vec<_>, Vec<_>) = placed.partition(|(place, ..)| place.is_some());
    named.sort_by_key(|(place, ..)| *place);
    others.sort_by_key(|(_, was, _)| was.unwrap_or(usize::MAX));
    let mut sorted = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return sorted,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((_, other, _)), Some((_, name, _))) => {
                matches!((other, name), (Some(a), Some(b)) if a < b)
            }
        };
        let next = if other_first { others.next() } else { named.next() };
        sorted.extend(next.map(|(.., item)| item));
    }
}

/// What remains of a patch value that meets nothing in the original: directives and nulls go, and so do
/// elements that only say what to delete.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) => {
            if map.get(PATCH).and_then(Value::as_str) == Some("delete") {
                return None;
            }
            let is_directive = |name: &str| {
                name == PATCH
                    || name == RETAIN_KEYS
                    || name.starts_with(DELETE_FROM)
                    || name.starts_with(SET_ORDER)
            };
            let members = map.into_iter().filter(|(name, value)| !value.is_null() && !is_directive(name));
            let kept = members.filter_map(|(name, value)| Some((name, without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(list) => {
            let replaces = |item: &Value| {
                item.as_object().is_some_and(|map| {
                    map.len() == 1 && map.get(PATCH).and_then(Value::as_str) == Some("replace")
                })
            };
            let kept = list.into_iter().filter(|item| !replaces(item)).filter_map(without_directives);
            Some(Value::Array(kept.collect()))
        }
        value => Some(value),
    }
}
