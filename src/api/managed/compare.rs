//! What a write changed: two objects compared along their schema, in one pass.
//!
//! Objects are granular unless the schema says atomic, lists are atomic unless it says `set` or `map`.
//! Upstream compares Go's values, in which fields that are not pointers exist even if nothing was said of
//! them; [`Member::always_there`] says which, and where one is missing here it counts as present and empty.
//! That is why creating a Pod with labels adds `f:labels` with its own path, and its `f:spec` without.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::reset::Reset;
use super::set::{self, Fields};
use crate::schema::{ListType, Member, Place};

/// What differs between two objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Added or modified.
    pub changed: Fields,
    pub removed: Fields,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    /// Without what the server resets in such a write.
    pub fn without(mut self, reset: &Reset) -> Self {
        reset.filter(&mut self.changed);
        reset.filter(&mut self.removed);
        self
    }
}

/// One side of a comparison; none if there is nothing.
type Side<'a> = Option<&'a Value>;

/// What there is where upstream's value is never absent.
static EMPTY: Value = Value::Null;

/// Compares two objects of the kind whose schema begins at `root`. There is no old one when an object is
/// created.
pub fn compare(root: Place<'_>, old: Option<&Value>, new: &Value) -> Delta {
    let mut delta = Delta::default();
    members(root, old.or(Some(&EMPTY)), Some(new), true, &mut delta);
    delta
}

/// The two sets below one place, before they are put under its name.
#[derive(Default)]
struct Found {
    delta: Delta,
    changed: bool,
    removed: bool,
}

impl Found {
    /// Hangs what was found below `key`.
    fn hang(self, key: impl FnOnce() -> String, into: &mut Delta) {
        let changed = set::node(self.changed, self.delta.changed.0);
        let removed = set::node(self.removed, self.delta.removed.0);
        if changed.is_none() && removed.is_none() {
            return;
        }
        let key = key();
        if let Some(removed) = removed {
            into.removed.0.insert(key.clone(), removed);
        }
        if let Some(changed) = changed {
            into.changed.0.insert(key, changed);
        }
    }

    /// Compares a value that is owned as a whole.
    fn leaf(&mut self, old: Side<'_>, new: Side<'_>, is_value: bool) {
        match (old, new) {
            (None, Some(_)) => self.changed = true,
            (Some(_), None) => self.removed = true,
            (Some(old), Some(new)) if old == new || (is_value && is_zero(old) && is_zero(new)) => {}
            (Some(_), Some(_)) => self.changed = true,
            (None, None) => {}
        }
    }
}

/// How a value is owned.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    /// Absent or null: whatever the other side is.
    Any,
    Leaf,
    Map,
    List,
}

pub(crate) fn shape(side: Side<'_>, member: &Member<'_>) -> Shape {
    match side {
        None | Some(Value::Null) => Shape::Any,
        Some(Value::Object(_)) if !member.atomic_map && !is_atomic(member) => Shape::Map,
        Some(Value::Array(_)) if matches!(member.list_type, Some(ListType::Set | ListType::Map)) => {
            Shape::List
        }
        Some(_) => Shape::Leaf,
    }
}

/// Whether an object here is atomic by its type. Of a list, its elements are meant.
fn is_atomic(member: &Member<'_>) -> bool {
    member.list_type.is_none() && member.place.is_atomic()
}

/// Whether nothing stands for an object that has members of its own even then.
fn is_map_by_type(member: &Member<'_>) -> bool {
    let is_granular = member.list_type.is_none() && !member.atomic_map && !member.place.is_atomic();
    member.always_there && is_granular && member.place.always_there().next().is_some()
}

fn value(member: &Member<'_>, old: Side<'_>, new: Side<'_>) -> Found {
    let mut found = Found::default();
    match (shape(old, member), shape(new, member)) {
        (Shape::Any, shape) | (shape, Shape::Any) => typed(shape, member, old, new, &mut found),
        (one, other) if one == other => typed(one, member, old, new, &mut found),
        // A value of another shape: what was below is gone, and the place itself has changed.
        (one, other) => {
            typed(one, member, old, None, &mut found);
            typed(other, member, None, new, &mut found);
            (found.changed, found.removed) = (true, false);
        }
    }
    found
}

fn typed(shape: Shape, member: &Member<'_>, old: Side<'_>, new: Side<'_>, found: &mut Found) {
    let stands = is_map_by_type(member);
    let nothing = |side: Side<'_>| match side {
        Some(Value::Object(map)) => map.is_empty() && member.place.always_there().next().is_none(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Null) => !stands,
        other => other.is_none(),
    };
    let shape = if shape == Shape::Any && stands { Shape::Map } else { shape };
    if !matches!(shape, Shape::Map | Shape::List) || (nothing(old) && nothing(new)) {
        return found.leaf(old, new, member.always_there);
    }
    match shape {
        Shape::Map => members(member.place, old, new, false, &mut found.delta),
        _ => elements(member, old, new, &mut found.delta),
    }
    found.changed |= old.is_none();
    found.removed |= new.is_none();
}

/// Compares the members of two objects.
fn members(place: Place<'_>, old: Side<'_>, new: Side<'_>, is_root: bool, delta: &mut Delta) {
    let (before, after) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
    let mut one = |name: &str, was: Side<'_>, is: Side<'_>| {
        let member = if is_root { place.root_member(name) } else { place.member(name) };
        let there = |side: Side<'_>| Some(&EMPTY).filter(|_| member.always_there && side.is_some());
        value(&member, was.or_else(|| there(old)), is.or_else(|| there(new)))
            .hang(|| set::field(name), delta);
    };
    for (name, is) in after.into_iter().flatten() {
        let was = before.and_then(|before| before.get(name));
        if was != Some(is) {
            one(name, was, Some(is));
        }
    }
    for (name, was) in before.into_iter().flatten() {
        if after.is_none_or(|after| !after.contains_key(name)) {
            one(name, Some(was), None);
        }
    }
    if old.is_none() || new.is_none() {
        // An object comes or goes with all that such an object has.
        let missing = |side: Option<&Map<String, Value>>, name: &str| {
            side.is_none_or(|members| !members.contains_key(name))
        };
        place
            .always_there()
            .filter(|name| missing(before, name) && missing(after, name))
            .for_each(|name| one(name, None, None));
    }
}

/// Elements of two lists under one key.
#[derive(Default)]
struct Pair<'a> {
    old: Vec<&'a Value>,
    new: Vec<&'a Value>,
}

/// Compares the elements of two lists, by their keys or values. Several elements under one key are owned as a
/// whole.
fn elements(list: &Member<'_>, old: Side<'_>, new: Side<'_>, delta: &mut Delta) {
    let mut pairs: BTreeMap<String, Pair<'_>> = BTreeMap::new();
    for item in items(old) {
        if let Some(key) = element_of(list, item) {
            pairs.entry(key).or_default().old.push(item);
        }
    }
    for item in items(new) {
        if let Some(key) = element_of(list, item) {
            pairs.entry(key).or_default().new.push(item);
        }
    }
    for (key, pair) in pairs {
        let item = list.element();
        let mut found = Found::default();
        match (&*pair.old, &*pair.new) {
            ([] | [_], [] | [_]) => {
                let (was, is) = (pair.old.first().copied(), pair.new.first().copied());
                if was != is {
                    found = value(&item, was, is);
                }
            }
            ([_, _, ..], [_, _, ..]) => found.changed = pair.old != pair.new,
            ([_, _, ..], rest) => {
                if let Some(only) = rest.first() {
                    found = value(&item, None, Some(only));
                }
                found.removed = rest.is_empty();
            }
            (rest, _) => {
                if let Some(only) = rest.first() {
                    found = value(&item, Some(only), None);
                }
                found.removed = false;
                found.changed = true;
            }
        }
        found.hang(|| key, delta);
    }
}

fn items(side: Side<'_>) -> &[Value] {
    side.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The element of a path that leads to a list's item; none if the item has no key, which validation refuses.
pub(crate) fn element_of(list: &Member<'_>, item: &Value) -> Option<String> {
    if list.list_type == Some(ListType::Set) {
        return (!item.is_object() && !item.is_array() && !item.is_null()).then(|| set::element("v:", item));
    }
    let members = item.as_object()?;
    let key = |key: &&'_ str| {
        let value = members.get(*key).map(Cow::Borrowed);
        Some((key.to_string(), value.or_else(|| list.place.key_default(key).map(Cow::Owned))?))
    };
    let keys: BTreeMap<String, Cow<'_, Value>> = list.map_keys.iter().filter_map(key).collect();
    (!keys.is_empty()).then(|| set::element("k:", &keys))
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is) => !is,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
