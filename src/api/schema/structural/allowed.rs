//! `enum`: the values that a value may be, found by their text once they are many.

use std::collections::HashSet;

use serde_json::{Number, Value};

/// From how many values on they are found by an index.
const MANY: usize = 16;

#[derive(Debug)]
pub(super) struct Allowed {
    /// In the definition's order, which messages keep.
    pub(super) values: Vec<Value>,
    /// Texts of all values, if there are many.
    index: Option<HashSet<String>>,
    /// Whether a list or an object is among them.
    nested: bool,
    /// Bytes of all of them, at most: what a comparison may look at.
    size: u64,
}

impl Allowed {
    pub(super) fn new(values: Vec<Value>) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let index = (values.len() > MANY).then(|| values.iter().map(canonical).collect());
        let nested = values.iter().any(|value| value.is_array() || value.is_object());
        let size = match (&index, nested) {
            (None, true) => values.iter().map(|value| canonical(value).len() as u64).sum(),
            _ => values.len() as u64,
        };
        Some(Allowed { values, index, nested, size })
    }

    /// Steps that looking for a value takes.
    pub(super) fn steps(&self, value: &Value) -> u64 {
        match value {
            Value::Array(_) | Value::Object(_) if !self.nested => 1,
            // Its text is made.
            Value::Array(_) | Value::Object(_) if self.index.is_some() => size_of(value),
            Value::String(text) => {
                1 + text.len() as u64 / 16 + if self.index.is_some() { 0 } else { self.size }
            }
            _ if self.index.is_some() => 1,
            _ => self.size,
        }
    }

    pub(super) fn contains(&self, value: &Value) -> bool {
        if !self.nested && (value.is_array() || value.is_object()) {
            return false;
        }
        match &self.index {
            Some(index) => index.contains(&canonical(value)),
            None => self.values.iter().any(|one| same(one, value)),
        }
    }
}

/// About how many bytes a value has as a text.
fn size_of(value: &Value) -> u64 {
    match value {
        Value::Array(list) => list.iter().map(|one| 1 + size_of(one)).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, one)| name.len() as u64 + 4 + size_of(one)).sum()
        }
        Value::String(text) => 2 + text.len() as u64,
        _ => 8,
    }
}

/// Numbers are the same if they are equal, whichever way they are written.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

/// A text that values have in common if they are the same.
fn canonical(value: &Value) -> String {
    match value {
        Value::Number(number) => whole(number).map_or_else(|| number.to_string(), |whole| whole.to_string()),
        other => other.to_string(),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the range has been looked at")]
fn whole(number: &Number) -> Option<i64> {
    let float = number.as_f64().filter(|_| number.is_f64())?;
    (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
}
