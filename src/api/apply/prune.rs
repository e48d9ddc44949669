//! Removing what a manager has applied before and does not apply now.
//!
//! A field, item or element goes if its manager applied it last time, does not now, and nobody else owns it.
//! What is below it and somebody owns stays, and so does what it would leave dangling.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{ApplyError, Change, Versions, fields, is_own, remove};
use crate::managed::{Entry, Fields};

/// The merged object without what goes. `now` is what the manager owns from now on, `entries` say what it
/// owned before.
pub(super) async fn prune(
    versions: &impl Versions,
    change: &Change<'_>,
    merged: Value,
    now: &Fields,
    entries: &[Entry],
) -> Result<Value, ApplyError> {
    let own = change.author.api_version;
    let Some(last) = entries.iter().find(|entry| is_own(entry, change.author)) else { return Ok(merged) };
    // Most often nothing is left out, so nothing can go: what the manager applies, it owns with all that
    // holds it.
    if last.fields.is_empty() || (last.api_version == own && now.covers(&last.fields)) {
        return Ok(merged);
    }
    let version = &last.api_version;
    let Some(root) = versions.root(version) else { return Ok(merged) };
    let before = in_version(versions, &merged, own, version).await?.unwrap_or_else(|| merged.clone());
    let mut pruned = before.clone();
    let last = fields::with_named(root, &last.fields);
    remove::remove(root, &mut pruned, &last);
    let pruned = add_owned(versions, change, (&before, pruned), version, (now, entries)).await?;
    // Only what the manager owned itself may go.
    let mut gone = fields::with_named(root, &fields::of(root, &before));
    gone.subtract(&fields::with_named(root, &fields::of(root, &pruned)));
    let gone = gone.intersection(&last);
    let mut result = before;
    remove::remove(root, &mut result, &gone);
    Ok(in_version(versions, &result, version, own).await?.unwrap_or(result))
}

/// The pruned object with what anybody owns, and with what holds that. The answer is in the version of the
/// last set.
async fn add_owned(
    versions: &impl Versions,
    change: &Change<'_>,
    (merged, pruned): (&Value, Value),
    version: &str,
    (now, entries): (&Fields, &[Entry]),
) -> Result<Value, ApplyError> {
    let mut owned: BTreeMap<&str, Fields> = BTreeMap::new();
    owned.entry(change.author.api_version).or_default().unite(now.clone());
    for entry in entries.iter().filter(|entry| !is_own(entry, change.author)) {
        owned.entry(&entry.api_version).or_default().unite(entry.fields.clone());
    }
    // The version of what was pruned comes first: a conversion may need what is put back there.
    let first = owned.remove(version).map(|fields| (version, fields));
    let (mut merged, mut pruned, mut at) = (merged.clone(), pruned, version);
    for (version, owned) in first.into_iter().chain(owned) {
        let Some(root) = versions.root(version) else { continue };
        if let Some(converted) = in_version(versions, &merged, at, version).await? {
            merged = converted;
        }
        if let Some(converted) = in_version(versions, &pruned, at, version).await? {
            pruned = converted;
        }
        at = version;
        let mut gone = fields::with_named(root, &fields::of(root, &merged));
        gone.subtract(&fields::with_named(root, &fields::of(root, &pruned)));
        gone.subtract(&fields::with_named(root, &owned));
        pruned = merged.clone();
        remove::remove(root, &mut pruned, &gone);
    }
    Ok(in_version(versions, &pruned, at, version).await?.unwrap_or(pruned))
}

/// The tree in another version; none if it is in that one.
async fn in_version(
    versions: &impl Versions,
    tree: &Value,
    from: &str,
    to: &str,
) -> Result<Option<Value>, ApplyError> {
    match from == to {
        true => Ok(None),
        false => Ok(Some(versions.convert(tree, from, to).await?)),
    }
}
