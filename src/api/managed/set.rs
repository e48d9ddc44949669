//! Sets of field paths in the form of `FieldsV1`.
//!
//! A node is an object. Its members are elements of paths (`f:` a field, `k:` the keys of a list's element,
//! `v:` a value of a set); `.` says that the node's own path is in the set too, and so does a node without
//! members.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::entry::EntryError;

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fields(pub(crate) Map<String, Value>);

/// Marks that the path that leads to a node is in the set.
pub(crate) const SELF: &str = ".";

/// Paths that are nobody's: what says which object this is, and what the server counts.
const STRIPPED: &[&[&str]] = &[
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:clusterName"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
];

impl Fields {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The set of one path of field names.
    pub fn of_path(path: &[&str]) -> Self {
        let node = path.iter().rev().fold(None, |below: Option<Map<String, Value>>, name| {
            Some(Map::from_iter([(field(name), Value::Object(below.unwrap_or_default()))]))
        });
        Fields(node.unwrap_or_default())
    }

    /// Adds all paths of another set; whether there was one among them that was not here.
    pub fn unite(&mut self, other: Fields) -> bool {
        unite(&mut self.0, other.0)
    }

    /// Takes all paths of another set away; whether there was one among them that was here.
    pub(crate) fn subtract(&mut self, other: &Fields) -> bool {
        subtract(&mut self.0, &other.0)
    }

    /// Whether no path of the other set is missing here.
    pub fn covers(&self, other: &Fields) -> bool {
        let mut rest = other.clone();
        rest.subtract(self);
        rest.is_empty()
    }

    /// The paths that are in both sets.
    pub fn intersection(&self, other: &Fields) -> Fields {
        Fields(intersection(&self.0, &other.0))
    }

    /// Drops a path with all below it.
    pub(super) fn drop_below(&mut self, path: &[&str]) {
        drop_below(&mut self.0, path);
    }

    /// The same set with every element as we write it. Elements of unknown kinds are dropped.
    pub(super) fn canonical(self) -> Result<Self, EntryError> {
        canonical(self.0).map(Fields)
    }
}

/// The element of a field.
pub(crate) fn field(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push_str("f:");
    text.push_str(name);
    text
}

/// A node; none if neither its own path nor one below it is in the set.
pub(crate) fn node(own: bool, mut below: Map<String, Value>) -> Option<Value> {
    if own && !below.is_empty() {
        below.insert(SELF.to_string(), Value::Object(Map::new()));
    }
    (own || !below.is_empty()).then_some(Value::Object(below))
}

/// What nobody owns: names, and what the server keeps.
pub(crate) fn of_server() -> Fields {
    let mut all = Fields::default();
    for path in STRIPPED {
        all.unite(Fields::of_path(path));
    }
    all
}

/// Drops what nobody owns.
pub(crate) fn strip(fields: &mut Fields) {
    for path in STRIPPED {
        remove_path(&mut fields.0, path);
    }
}

pub(crate) fn is_member(node: &Map<String, Value>) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

fn unite(into: &mut Map<String, Value>, from: Map<String, Value>) -> bool {
    let mut grown = false;
    for (key, theirs) in from {
        let Value::Object(theirs) = theirs else { continue };
        let Some(Value::Object(ours)) = into.get_mut(&key) else {
            into.insert(key, Value::Object(theirs));
            grown = true;
            continue;
        };
        let own = is_member(ours);
        let also = is_member(&theirs);
        grown |= also && !own;
        ours.remove(SELF);
        let theirs = theirs.into_iter().filter(|(key, _)| key != SELF).collect();
        grown |= unite(ours, theirs);
        if (own || also) && !ours.is_empty() {
            ours.insert(SELF.to_string(), Value::Object(Map::new()));
        }
    }
    grown
}

fn subtract(from: &mut Map<String, Value>, what: &Map<String, Value>) -> bool {
    let mut shrunk = false;
    for (key, theirs) in what {
        let (Some(Value::Object(ours)), Value::Object(theirs)) = (from.get_mut(key), theirs) else {
            continue;
        };
        let own = is_member(ours);
        let stays = own && !is_member(theirs);
        shrunk |= own && !stays;
        ours.remove(SELF);
        shrunk |= subtract(ours, theirs);
        match (stays, ours.is_empty()) {
            (true, false) => drop(ours.insert(SELF.to_string(), Value::Object(Map::new()))),
            (false, true) => drop(from.remove(key)),
            _ => {}
        }
    }
    shrunk
}

fn intersection(one: &Map<String, Value>, other: &Map<String, Value>) -> Map<String, Value> {
    let mut both = Map::new();
    let (small, large) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    for (key, here) in small {
        let (Value::Object(here), Some(Value::Object(there))) = (here, large.get(key)) else { continue };
        if key == SELF {
            continue;
        }
        let own = is_member(here) && is_member(there);
        if let Some(node) = node(own, intersection(here, there)) {
            both.insert(key.clone(), node);
        }
    }
    both
}

/// Takes one path away, not those below it.
fn remove_path(from: &mut Map<String, Value>, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else { return };
    let Some(Value::Object(node)) = from.get_mut(*first) else { return };
    let own = is_member(node);
    node.remove(SELF);
    let stays = own && !rest.is_empty();
    remove_path(node, rest);
    match (stays, node.is_empty()) {
        (true, false) => drop(node.insert(SELF.to_string(), Value::Object(Map::new()))),
        (false, true) => drop(from.remove(*first)),
        _ => {}
    }
}

fn drop_below(from: &mut Map<String, Value>, path: &[&str]) {
    match path {
        [] => {}
        [last] => drop(from.remove(*last)),
        [first, rest @ ..] => {
            let Some(Value::Object(node)) = from.get_mut(*first) else { return };
            if node.is_empty() {
                return;
            }
            drop_below(node, rest);
            if node.is_empty() {
                from.remove(*first);
            }
        }
    }
}

fn canonical(node: Map<String, Value>) -> Result<Map<String, Value>, EntryError> {
    let mut result = Map::new();
    for (key, below) in node {
        if key == SELF {
            result.insert(key, Value::Object(Map::new()));
            continue;
        }
        let Some(key) = canonical_element(&key)? else { continue };
        let below = match below {
            Value::Object(below) => canonical(below)?,
            _ => Map::new(),
        };
        unite(&mut result, Map::from_iter([(key, Value::Object(below))]));
    }
    Ok(result)
}

fn canonical_element(text: &str) -> Result<Option<String>, EntryError> {
    let wrong = || EntryError::Element(text.to_string());
    let (kind, rest) = text.split_at_checked(2).ok_or_else(wrong)?;
    match kind {
        "f:" => Ok(Some(text.to_string())),
        "i:" => {
            let index: i64 = rest.parse().map_err(|_| wrong())?;
            Ok(Some(format!("i:{index}")))
        }
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).map_err(|_| wrong())?;
            Ok(Some(element("k:", &keys)))
        }
        "v:" => {
            let value: Value = serde_json::from_str(rest).map_err(|_| wrong())?;
            Ok(Some(element("v:", &value)))
        }
        _ if kind.ends_with(':') => Ok(None),
        _ => Err(wrong()),
    }
}

/// An element with a value, which is written as Go writes it.
pub(crate) fn element(kind: &str, value: &impl Serialize) -> String {
    let mut text = kind.to_string();
    text.push_str(&go_json(value));
    text
}

/// JSON as Go writes it: some characters are escaped that need not be.
pub(crate) fn go_json(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    let escaped = text.chars().map(|one| match one {
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => format!("\\u{:04x}", u32::from(one)),
        other => other.to_string(),
    });
    escaped.collect()
}
