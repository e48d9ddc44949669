//! Sets that were written while a field had parts, although by now it is owned as a whole.

use serde_json::{Map, Value};

use super::Versions;
use crate::managed::{self, Entry};
use crate::schema::{Form, ListType, Member, Place};

/// Brings all sets in line with the schema. Entries in versions that are not served go. Tells whether
/// anything changed.
pub(super) fn all(versions: &impl Versions, entries: &mut Vec<Entry>) -> bool {
    let mut changed = false;
    entries.retain_mut(|entry| {
        let Some(root) = versions.root(&entry.api_version) else {
            changed = true;
            return false;
        };
        changed |= members(root, &mut entry.fields.0, true);
        true
    });
    changed
}

fn members(place: Place<'_>, set: &mut Map<String, Value>, is_root: bool) -> bool {
    let mut changed = false;
    for (key, node) in set.iter_mut() {
        let (Some(name), Value::Object(node)) = (key.strip_prefix("f:"), node) else { continue };
        if node.is_empty() {
            continue;
        }
        let member = if is_root { place.root_member(name) } else { place.member(name) };
        if member.is_declared {
            changed |= below(&member, node);
        }
    }
    changed
}

fn below(member: &Member<'_>, node: &mut Map<String, Value>) -> bool {
    let is_whole = match member.form {
        Form::Map => member.atomic_map || member.place.is_atomic(),
        Form::List => !matches!(member.list_type, Some(ListType::Set | ListType::Map)),
        _ => return false,
    };
    if is_whole {
        node.clear();
        return true;
    }
    if member.form == Form::Map {
        return members(member.place, node, false);
    }
    let mut changed = false;
    for (key, node) in node.iter_mut() {
        if let Value::Object(node) = node
            && key != managed::SELF
            && !node.is_empty()
        {
            changed |= below(&member.element(), node);
        }
    }
    changed
}
