//! Server-side apply: a manager says which fields it wants and how, and the server says what becomes of the
//! object.
//!
//! The rules are those of structured-merge-diff v6, on JSON trees along the kind's schema ([`Place`]). What
//! is applied is merged into the object, what its manager has applied before, does not apply now and nobody
//! else owns is pruned, and what others own and would change is a conflict. Ownership is kept in the entries
//! of [`managed`]. Everything here is decided on trees; other versions of the kind come from [`Versions`],
//! which may ask another server. Its published cases are in `cases.jsonl` (their schemas as structural ones),
//! and the tests run them.

use std::collections::BTreeMap;
use std::pin::Pin;

use serde_json::{Map, Value};

use crate::managed::{self, Author, Delta, Effect, Entry, Fields, Operation, Reset};
use crate::schema::Place;
use crate::{ApiError, FieldError};

mod conflict;
mod fields;
mod go;
mod last_applied;
mod merge;
mod prune;
mod reconcile;
mod remove;
#[cfg(test)]
mod tests;
mod validate;

pub use conflict::Conflicts;
pub use last_applied::ANNOTATION;
pub use merge::merge;

/// The manager of all that was there before anybody was followed.
const BEFORE: &str = "before-first-apply";

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The versions of a kind.
pub trait Versions: Sync {
    /// Where a walk over objects of a version (`group/version`) begins; none if it is not served.
    fn root(&self, version: &str) -> Option<Place<'_>>;

    /// A tree in one version as another one has it. Both are served.
    fn convert<'a>(
        &'a self,
        tree: &'a Value,
        from: &'a str,
        to: &'a str,
    ) -> BoxFuture<'a, Result<Value, ApiError>>;
}

/// The manager that applies, what it may not own, and whether it takes fields from others.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// In the version of what is applied.
    pub author: &'a Author<'a>,
    pub reset: &'a Reset,
    /// Takes fields from others.
    pub force: bool,
}

/// What applying leaves behind.
#[derive(Debug)]
pub struct Applied {
    /// Neither checked nor defaulted.
    pub tree: Value,
    pub entries: Vec<Entry>,
    pub effect: Effect,
}

/// Why something cannot be applied.
#[derive(Debug)]
pub enum ApplyError {
    Conflicts(Conflicts),
    Other(ApiError),
}

impl From<ApiError> for ApplyError {
    fn from(error: ApiError) -> Self {
        ApplyError::Other(error)
    }
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Conflicts(conflicts) => conflicts.into(),
            ApplyError::Other(error) => error,
        }
    }
}

/// Checks that what is applied is an object of a kind, under its schema: types, unknown fields, keys that
/// occur twice.
pub fn check(root: Place<'_>, api_version: &str, kind: &str, patch: &Value) -> Result<(), ApiError> {
    let text = |member: &str| patch[member].as_str().unwrap_or_default();
    let given = text("apiVersion");
    if given != api_version || text("kind") != kind {
        // What does not parse as a version counts as none, and so does the kind then.
        let is_read = !given.is_empty() && given.matches('/').count() < 2;
        let (given, kind) = if is_read { (given, text("kind")) } else { ("", "") };
        let slash = if given.contains('/') { "" } else { "/" };
        return Err(ApiError::bad_request(format!("invalid object type: {slash}{given}, Kind={kind}")));
    }
    // An empty list counts; what is no list is a fault of its type.
    if patch["metadata"].get("managedFields").is_some_and(Value::is_array) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    match validate::faults(root, patch) {
        None => Ok(()),
        Some(why) => {
            let of = |member: &str| patch["metadata"][member].as_str().unwrap_or_default();
            let slash = if given.contains('/') { "" } else { "/" };
            Err(ApiError::new(
                500,
                "",
                format!(
                    "failed to create typed patch object ({}/{}; {slash}{given}, Kind={kind}): {why}",
                    of("namespace"),
                    of("name")
                ),
            ))
        }
    }
}

/// The fault of a request to apply that names no manager.
pub fn manager_required() -> FieldError {
    FieldError::required("fieldManager", "is required for apply patch")
}

/// Applies `patch`, which has been [`check`]ed, to `live`: the object without managed fields, null if there
/// is none yet.
pub async fn apply(
    versions: &impl Versions,
    change: &Change<'_>,
    live: &Value,
    patch: &Value,
    mut entries: Vec<Entry>,
) -> Result<Applied, ApplyError> {
    let own = change.author.api_version;
    let root = versions.root(own).ok_or_else(|| ApiError::internal(format!("{own} is not served")))?;
    let mut moved = false;
    if entries.is_empty() && !live.is_null() {
        let delta = managed::compare(root, None, live).without(change.reset);
        let before = Author { manager: BEFORE, ..*change.author };
        managed::update(&mut entries, delta, &before);
        moved = true;
    }
    moved |= reconcile::all(versions, &mut entries);
    let empty = Value::Object(Map::new());
    let live = if live.is_null() { &empty } else { live };
    let mut plan = plan(versions, change, root, (live, patch), &entries).await?;
    if !change.force && !plan.conflicts.is_empty() {
        let allowed = last_applied::allowed(change.author, root, live);
        if let Some(allowed) = allowed {
            plan.conflicts.allow(&allowed);
        }
        if !plan.conflicts.is_empty() {
            return Err(ApplyError::Conflicts(plan.conflicts));
        }
    }
    Ok(commit(change, live, patch, plan, (entries, moved)))
}

/// What applying would do.
struct MergePlan {
    merged: Value,
    /// What the manager owns then.
    fields: Fields,
    /// What changes in the object, by version.
    deltas: BTreeMap<String, Delta>,
    conflicts: Conflicts,
}

async fn plan(
    versions: &impl Versions,
    change: &Change<'_>,
    root: Place<'_>,
    (live, patch): (&Value, &Value),
    entries: &[Entry],
) -> Result<MergePlan, ApplyError> {
    let own = change.author.api_version;
    let mut merged = live.clone();
    merge::merge(root, &mut merged, patch);
    let mut fields = fields::of(root, patch);
    change.reset.filter(&mut fields);
    // Names and the like are nobody's afterwards, but here they hold the metadata that they are in.
    let mut held = fields.clone();
    held.unite(managed::of_server());
    let merged = prune::prune(versions, change, merged, &held, entries).await?;
    managed::strip(&mut fields);
    let mut deltas = BTreeMap::new();
    let delta = managed::compare(root, Some(live), &merged).without(change.reset);
    deltas.insert(own.to_string(), delta);
    let mut conflicts = Conflicts::default();
    for entry in entries.iter().filter(|entry| !is_own(entry, change.author)) {
        let version = &entry.api_version;
        if !deltas.contains_key(version)
            && let Some(other) = versions.root(version)
        {
            let before = versions.convert(live, own, version).await?;
            let after = versions.convert(&merged, own, version).await?;
            let delta = managed::compare(other, Some(&before), &after).without(change.reset);
            deltas.insert(version.clone(), delta);
        }
        if let Some(delta) = deltas.get(version) {
            conflicts.add(entry, entry.fields.intersection(&delta.changed));
        }
    }
    Ok(MergePlan { merged, fields, deltas, conflicts })
}

fn commit(
    change: &Change<'_>,
    live: &Value,
    patch: &Value,
    plan: MergePlan,
    (mut entries, mut moved): (Vec<Entry>, bool),
) -> Applied {
    let author = change.author;
    let mut tree = plan.merged;
    let is_same = tree == *live;
    for entry in entries.iter_mut().filter(|entry| !is_own(entry, author)) {
        if let Some(delta) = plan.deltas.get(&entry.api_version) {
            moved |= entry.fields.subtract(&delta.removed) | entry.fields.subtract(&delta.changed);
        }
    }
    let at = entries.iter().position(|entry| is_own(entry, author)).unwrap_or_else(|| {
        moved |= !plan.fields.is_empty();
        entries.push(Entry { operation: Operation::Apply, ..Entry::of(author) });
        entries.len() - 1
    });
    let own = &mut entries[at];
    moved |= own.fields != plan.fields || own.api_version != author.api_version;
    own.fields = plan.fields;
    own.api_version = author.api_version.to_string();
    let mut effect = if moved { Effect::Owners } else { Effect::Nothing };
    // As upstream, who applies what is there already leaves no time.
    if !is_same && own.time.as_deref() != Some(author.now) {
        own.time = Some(author.now.to_string());
        effect = if moved { Effect::Owners } else { Effect::Time };
    }
    entries.retain(|entry| !entry.fields.is_empty());
    managed::sort(&mut entries);
    last_applied::renew(author, &mut tree, patch);
    Applied { tree, entries, effect }
}

/// Whether an entry is of what the author has applied before, in whatever version.
fn is_own(entry: &Entry, author: &Author<'_>) -> bool {
    entry.operation == Operation::Apply
        && entry.manager == author.manager
        && entry.subresource == author.subresource
}
