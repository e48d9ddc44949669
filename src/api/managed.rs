//! Who wrote what: `metadata.managedFields`, kept as structured-merge-diff v6 and upstream's field manager
//! keep it.
//!
//! An entry says which fields a manager has written, under which operation, version and subresource. A write
//! is compared with what was there along the schema ([`compare`]); what it added or changed is the writer's,
//! and nobody else's who comes by updates or applies; what it removed is nobody's. Sets of paths are trees of
//! JSON in the form that is stored (`FieldsV1`), so that nothing is converted back and forth. Applying is
//! [`crate::apply`]'s.

use std::collections::HashMap;

mod compare;
mod entry;
mod manager;
mod reset;
mod set;
#[cfg(test)]
mod tests;

pub use compare::{Delta, compare};
pub(crate) use compare::{Shape, element_of, shape};
pub(crate) use entry::sort;
pub use entry::{Entry, EntryError, Operation, accept, are_reset, decode, encode, faults};
pub use manager::{manager_faults, manager_of_agent, manager_of_identity};
pub use reset::Reset;
pub use set::Fields;
pub(crate) use set::{SELF, field, go_json, is_member, node, of_server, strip};

/// Entries of updates that an object keeps; the oldest are merged beyond that.
const MOST_UPDATERS: usize = 10;
/// The manager of merged entries.
const ANCIENT: &str = "ancient-changes";
/// The manager of whoever names none.
const UNKNOWN: &str = "unknown";

/// Where a Scale has its replicas.
const SCALE_REPLICAS: &[&str] = &["spec", "replicas"];

/// The writer of a change, and when it writes.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    pub manager: &'a str,
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// RFC 3339, seconds.
    pub now: &'a str,
}

/// What a write does to the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    /// The writer's entry has a new time, and that is all.
    Time,
    Owners,
}

/// Records an update or creation: `delta` is what it changed, without the fields that the server resets.
pub fn update(entries: &mut Vec<Entry>, delta: Delta, author: &Author<'_>) -> Effect {
    let mut effect = Effect::Nothing;
    let mut written = delta.changed;
    set::strip(&mut written);
    let own = entries.iter().position(|entry| entry.is_of(author));
    for (at, entry) in entries.iter_mut().enumerate() {
        // What the writer writes again stays its own.
        let lost = if Some(at) == own { None } else { Some(&written) };
        let gone = entry.fields.subtract(&delta.removed);
        if gone | lost.is_some_and(|lost| entry.fields.subtract(lost)) {
            effect = Effect::Owners;
        }
    }
    if !written.is_empty() {
        let at = own.unwrap_or_else(|| {
            entries.push(Entry::of(author));
            effect = Effect::Owners;
            entries.len() - 1
        });
        if entries[at].fields.unite(written) {
            effect = Effect::Owners;
        }
        if entries[at].time.as_deref() != Some(author.now) {
            entries[at].time = Some(author.now.to_string());
            effect = if effect == Effect::Nothing { Effect::Time } else { effect };
        }
    }
    entries.retain(|entry| !entry.fields.is_empty());
    cap(entries);
    entry::sort(entries);
    effect
}

/// Takes a change out of the sets of entries in another version of the kind; `delta` is in that version.
pub fn displace(entries: &mut [Entry], api_version: &str, delta: &Delta) -> bool {
    let mut moved = false;
    for entry in entries.iter_mut().filter(|entry| entry.api_version == api_version) {
        moved |= entry.fields.subtract(&delta.removed) | entry.fields.subtract(&delta.changed);
    }
    moved
}

/// Records that the `scale` subresource has set the replicas at `path`. Upstream leaves the time out, and
/// follows nobody where nobody owned the replicas before.
pub fn scale(entries: &mut Vec<Entry>, path: &[&str], author: &Author<'_>) -> Effect {
    let replicas = Fields::of_path(path);
    let mut owned = false;
    for entry in entries.iter_mut() {
        owned |= entry.fields.subtract(&replicas);
    }
    if !owned {
        return Effect::Nothing;
    }
    entries.retain(|entry| !entry.fields.is_empty());
    entries.push(Entry { fields: replicas, ..Entry::of(author) });
    cap(entries);
    entry::sort(entries);
    Effect::Owners
}

/// The entries that own the replicas at `path`, as those of the object's Scale in version `scale_version`.
pub fn scale_owners(entries: &[Entry], path: &[&str], scale_version: &str) -> Vec<Entry> {
    let replicas = Fields::of_path(path);
    let owners = entries.iter().filter(|entry| entry.fields.covers(&replicas));
    owners
        .map(|entry| Entry {
            api_version: scale_version.to_string(),
            fields: Fields::of_path(SCALE_REPLICAS),
            ..entry.clone()
        })
        .collect()
}

/// Brings what has become of a Scale's entries back to its object's.
pub fn merge_scale_owners(entries: &mut Vec<Entry>, scale: Vec<Entry>, path: &[&str], api_version: &str) {
    let replicas = Fields::of_path(path);
    let mut owners: Vec<Entry> =
        scale.into_iter().filter(|entry| entry.fields.covers(&Fields::of_path(SCALE_REPLICAS))).collect();
    for entry in entries.iter_mut().filter(|entry| entry.fields.covers(&replicas)) {
        let of = |other: &Entry| {
            other.manager == entry.manager
                && other.operation == entry.operation
                && other.subresource == entry.subresource
        };
        match owners.iter().position(of) {
            Some(at) => drop(owners.remove(at)),
            None => drop(entry.fields.subtract(&replicas)),
        }
    }
    entries.retain(|entry| !entry.fields.is_empty());
    // Upstream leaves the time out.
    entries.extend(owners.into_iter().map(|entry| Entry {
        api_version: api_version.to_string(),
        fields: replicas.clone(),
        time: None,
        ..entry
    }));
    entry::sort(entries);
}

/// Merges the oldest entries of updates, version by version, until there are few enough.
fn cap(entries: &mut Vec<Entry>) {
    let is_update = |entry: &Entry| entry.operation == Operation::Update;
    let mut left = entries.iter().filter(|entry| is_update(entry)).count();
    if left <= MOST_UPDATERS {
        return;
    }
    let (mut updaters, mut rest): (Vec<Entry>, Vec<Entry>) =
        std::mem::take(entries).into_iter().partition(is_update);
    updaters.sort_by_cached_key(|one| (one.seconds(), one.identity()));
    let mut firsts: HashMap<String, usize> = HashMap::new();
    let mut at = 0;
    while at < updaters.len() && left > MOST_UPDATERS {
        let version = updaters[at].api_version.clone();
        let Some(first) = firsts.get(&version).copied() else {
            firsts.insert(version, at);
            at += 1;
            continue;
        };
        let bucket = updaters.iter().position(|one| one.is_bucket() && one.api_version == version);
        if bucket == Some(at) {
            at += 1;
            continue;
        }
        // The bucket of a version begins as its oldest entry.
        let bucket = bucket.unwrap_or(first);
        let merged = std::mem::take(&mut updaters[at].fields);
        let time = updaters[at].time.take();
        updaters[bucket].become_bucket(merged, time);
        at += 1;
        left -= 1;
    }
    rest.extend(updaters.into_iter().filter(|one| !one.fields.is_empty()));
    *entries = rest;
}

impl Entry {
    fn is_bucket(&self) -> bool {
        self.manager == ANCIENT && self.subresource.is_empty()
    }

    fn become_bucket(&mut self, merged: Fields, time: Option<String>) {
        self.manager = ANCIENT.to_string();
        self.subresource = String::new();
        self.fields.unite(merged);
        self.time = time;
    }
}
