//! The three-way merge: from `original` (applied before), `modified` (wanted) and `current` (on the server)
//! to a patch that takes away what was dropped from the configuration, sets what it says, and leaves what
//! others set alone.
//!
//! With a schema the result is a strategic merge patch (lists by key, `$patch: delete`,
//! `$deleteFromPrimitiveList`, `$setElementOrder`, `$retainKeys`), without one a JSON merge patch. Pure.

use api::schema::{Field, TypeRef};
use serde_json::{Map, Value, json};

/// An empty object means nothing is to be done.
pub(crate) fn patch(ty: Option<TypeRef>, original: &Value, modified: &Value, current: &Value) -> Value {
    let none = Map::new();
    let map = |value: &'_ Value| value.as_object().cloned().unwrap_or_default();
    let (original, modified, current) = (map(original), map(modified), map(current));
    let original = if original.is_empty() { &none } else { &original };
    Value::Object(maps(Level { ty, strategic: ty.is_some() }, original, &modified, &current))
}

/// What is known about the map being compared.
#[derive(Clone, Copy)]
struct Level {
    ty: Option<TypeRef>,
    /// Lists may be merged by key; outside of a schema they are replaced.
    strategic: bool,
}

impl Level {
    fn field(self, key: &str) -> Option<&'static Field> {
        self.ty.and_then(|ty| ty.field(key))
    }

    /// The level below a field: its object type, or for maps of objects that type for every key.
    fn below(self, field: Option<&'static Field>) -> Level {
        Level { ty: field.and_then(Field::object), strategic: self.strategic }
    }
}

fn maps(
    level: Level,
    original: &Map<String, Value>,
    modified: &Map<String, Value>,
    current: &Map<String, Value>,
) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, wanted) in modified {
        let before = original.get(key).unwrap_or(&Value::Null);
        let field = level.field(key);
        match (wanted, current.get(key)) {
            (Value::Null, None) => {}
            (wanted, None) => {
                patch.insert(key.clone(), wanted.clone());
            }
            (Value::Object(wanted_map), Some(Value::Object(there))) => {
                map_field(level, field, key, before, wanted_map, there, &mut patch);
            }
            (Value::Array(wanted_list), Some(Value::Array(there))) => {
                list_field(level, field, key, before, (wanted_list, there), &mut patch);
            }
            (wanted, Some(there)) if same(wanted, there) => {}
            (wanted, Some(_)) => {
                patch.insert(key.clone(), wanted.clone());
            }
        }
    }
    for key in original.keys().filter(|key| !modified.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    patch
}

/// Numbers are the same whether they are written as integers or not.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left == right || left.as_f64() == right.as_f64(),
        (left, right) => left == right,
    }
}

fn map_field(
    level: Level,
    field: Option<&'static Field>,
    key: &str,
    before: &Value,
    wanted: &Map<String, Value>,
    there: &Map<String, Value>,
    patch: &mut Map<String, Value>,
) {
    let none = Map::new();
    let strategy = field.map(|field| field.patch).unwrap_or_default();
    if level.strategic && strategy.replace {
        if wanted != there {
            let mut whole = wanted.clone();
            whole.insert("$patch".to_string(), json!("replace"));
            patch.insert(key.to_string(), Value::Object(whole));
        }
        return;
    }
    let is_map_of_values = field.is_some_and(|field| field.ty.shape == api::schema::Shape::Map);
    let below = if is_map_of_values { map_of(level, field) } else { level.below(field) };
    let mut inner = maps(below, before.as_object().unwrap_or(&none), wanted, there);
    if inner.is_empty() {
        return;
    }
    if level.strategic && strategy.retain_keys {
        let keys: Vec<&String> = wanted.keys().collect();
        inner.insert("$retainKeys".to_string(), json!(keys));
    }
    patch.insert(key.to_string(), Value::Object(inner));
}

/// Keys of a map are no fields: nothing is known below them. (No map of objects in the API has lists with
/// merge keys.)
fn map_of(level: Level, _field: Option<&'static Field>) -> Level {
    Level { ty: None, strategic: level.strategic }
}

fn list_field(
    level: Level,
    field: Option<&'static Field>,
    key: &str,
    before: &Value,
    (wanted, there): (&[Value], &[Value]),
    patch: &mut Map<String, Value>,
) {
    let before = before.as_array().map_or(&[][..], Vec::as_slice);
    let merges = level.strategic && field.is_some_and(|field| field.patch.merge);
    let merge_key = field.and_then(Field::merge_key);
    let all_keyed = |list: &[Value], merge_key: &str| {
        list.iter().all(|item| item.get(merge_key).is_some_and(|key| !key.is_object()))
    };
    match merge_key {
        Some(merge_key)
            if merges
                && all_keyed(wanted, merge_key)
                && all_keyed(there, merge_key)
                && all_keyed(before, merge_key) =>
        {
            keyed_lists(level.below(field), merge_key, key, before, (wanted, there), patch);
        }
        None if merges && !wanted.iter().chain(there).any(Value::is_object) => {
            primitive_lists(key, before, wanted, there, patch);
        }
        _ => {
            if wanted != there {
                patch.insert(key.to_string(), json!(wanted));
            }
        }
    }
}

fn keyed_lists(
    below: Level,
    merge_key: &str,
    key: &str,
    before: &[Value],
    (wanted, there): (&[Value], &[Value]),
    patch: &mut Map<String, Value>,
) {
    let none = Map::new();
    let object = |value: Option<&'_ Value>| value.and_then(Value::as_object).cloned();
    let find = |list: &'_ [Value], id: &Value| object(list.iter().find(|item| item[merge_key] == *id));
    let mut changes = Vec::new();
    for item in wanted {
        let id = &item[merge_key];
        let Some(present) = find(there, id) else {
            changes.push(item.clone());
            continue;
        };
        let own = item.as_object().unwrap_or(&none);
        let mut inner = maps(below, &find(before, id).unwrap_or_default(), own, &present);
        if !inner.is_empty() {
            inner.insert(merge_key.to_string(), id.clone());
            changes.push(Value::Object(inner));
        }
    }
    let dropped = before.iter().filter(|item| find(wanted, &item[merge_key]).is_none());
    changes.extend(dropped.map(|item| json!({"$patch": "delete", merge_key: item[merge_key]})));
    let ids = |list: &[Value]| list.iter().map(|item| item[merge_key].clone()).collect::<Vec<_>>();
    // Order counts as a change only if the user changed it, not if others added elements between.
    let reordered = !before.is_empty() && {
        let (old, new) = (ids(before), ids(wanted));
        let kept: Vec<&Value> = new.iter().filter(|id| old.contains(id)).collect();
        let was: Vec<&Value> = old.iter().filter(|id| new.contains(id)).collect();
        kept != was
    };
    if changes.is_empty() && !reordered {
        return;
    }
    let order: Vec<Value> = wanted.iter().map(|item| json!({merge_key: item[merge_key]})).collect();
    patch.insert(format!("$setElementOrder/{key}"), Value::Array(order));
    if !changes.is_empty() {
        patch.insert(key.to_string(), Value::Array(changes));
    }
}

fn primitive_lists(
    key: &str,
    before: &[Value],
    wanted: &[Value],
    there: &[Value],
    patch: &mut Map<String, Value>,
) {
    let added: Vec<&Value> = wanted.iter().filter(|item| !there.contains(item)).collect();
    let dropped: Vec<&Value> = before.iter().filter(|item| !wanted.contains(item)).collect();
    if added.is_empty() && dropped.is_empty() {
        return;
    }
    if !added.is_empty() {
        patch.insert(key.to_string(), json!(added));
    }
    if !dropped.is_empty() {
        patch.insert(format!("$deleteFromPrimitiveList/{key}"), json!(dropped));
    }
    patch.insert(format!("$setElementOrder/{key}"), json!(wanted));
}

#[cfg(test)]
mod tests;
