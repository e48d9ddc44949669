//! Values of secrets are shown as stars, which still tell what is equal and what is not.

use serde_json::{Map, Value, json};

const EQUAL: &str = "***";
const BEFORE: &str = "*** (before)";
const AFTER: &str = "*** (after)";

/// Masks `data` of both versions.
pub(super) fn mask(from: Option<&mut Value>, to: &mut Value) {
    let mut nothing = Map::new();
    let from = from.and_then(|from| from.get_mut("data")?.as_object_mut()).unwrap_or(&mut nothing);
    let mut none = Map::new();
    let to = to.get_mut("data").and_then(Value::as_object_mut).unwrap_or(&mut none);
    for (key, before) in from.iter_mut() {
        match to.get_mut(key) {
            Some(after) if after != before => (*before, *after) = (json!(BEFORE), json!(AFTER)),
            _ => *before = json!(EQUAL),
        }
    }
    for after in to.values_mut().filter(|after| *after != AFTER) {
        *after = json!(EQUAL);
    }
}
