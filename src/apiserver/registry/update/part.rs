//! What a call may change of an object: for a subresource its part, for the object itself all but the status.

use serde_json::Value;

use super::super::Call;
use super::super::subresource::Part;

/// Takes from the proposed object only what the call may change: for a subresource its part, for the object
/// itself all but the status.
pub(super) fn confine(call: &Call<'_>, mut new: Value, old: &Value) -> Value {
    let take = |part: &str, mut new: Value| {
        let mut result = old.clone();
        result["metadata"] = new["metadata"].take();
        set(&mut result, part, new.get(part).cloned());
        result
    };
    match call.part() {
        Some(part) => take(part.member(), new),
        None => {
            if call.row().subresource("status").is_some() {
                set(&mut new, "status", old.get("status").cloned());
            }
            new
        }
    }
}

/// Puts back what a write of a part may not change. [`confine`] has done so already, but admission has had
/// its turn since.
pub(super) fn keep_all_but(part: Part, new: &mut Value, old: &Value) {
    let (Some(new), Some(old)) = (new.as_object_mut(), old.as_object()) else { return };
    let is_free = |key: &str| key == part.member() || key == "metadata";
    new.retain(|key, _| is_free(key) || old.contains_key(key));
    for (key, value) in old.iter().filter(|(key, _)| !is_free(key)) {
        if new.get(key) != Some(value) {
            new.insert(key.clone(), value.clone());
        }
    }
}

fn set(tree: &mut Value, member: &str, value: Option<Value>) {
    let Some(members) = tree.as_object_mut() else { return };
    match value {
        Some(value) => members.insert(member.to_string(), value),
        None => members.remove(member),
    };
}

#[cfg(test)]
mod tests;
