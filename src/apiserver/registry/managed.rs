//! Who wrote what: `metadata.managedFields` of every create, update and patch, on built-in and custom kinds
//! alike.
//!
//! The caller's proposal is compared with what was there before admission and strategies add to it, as
//! upstream does: what the server fills in (an account's volume, tolerations, a cluster IP) is owned by
//! nobody. What came of it is kept beside the tree until the object is encoded, so that no plugin and no
//! validation walks over it. Entries are read only if something has changed; a write that changes nothing
//! leaves their bytes as they are.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use api::managed::{self, Author, Effect, Entry, Reset};
use api::validation::Faults;
use api::{ApiError, Object, Patch, PatchKind, object};
use bytes::Bytes;
use serde_json::Value;

use super::{Call, Registry, Resource, metadata};
use crate::strategy::RequestContext;

#[cfg(test)]
mod tests;

/// The managed fields that a write leaves behind.
pub(super) struct Owners {
    json: Option<Bytes>,
    /// Whether sets are as they were, whatever became of times.
    stay: bool,
    /// Whoever applies must know what it owns: an object too large with these is refused.
    must_fit: bool,
    faults: Faults,
}

impl Owners {
    fn kept(json: Option<Bytes>) -> Self {
        Owners { json, stay: true, must_fit: false, faults: Faults::new() }
    }

    /// Those that an object has.
    pub(super) fn of(object: &Object) -> Self {
        Self::kept(object.managed_fields())
    }

    /// Those that an apply has left; `kept` are those before.
    pub(super) fn applied(entries: &[Entry], effect: Effect, kept: Option<Bytes>) -> Self {
        let json = match effect {
            Effect::Nothing => kept,
            Effect::Time | Effect::Owners => managed::encode(entries).map(Bytes::from),
        };
        Owners { stay: effect != Effect::Owners, must_fit: true, ..Self::kept(json) }
    }

    /// Whether the object may be stored without them if it is too large.
    pub(super) fn may_go(&self) -> bool {
        !self.must_fit
    }

    /// Faults of entries that the client has sent.
    pub(super) fn faults(&self) -> impl Iterator<Item = api::FieldError> + '_ {
        self.faults.iter().cloned()
    }

    /// Whether everybody owns what they owned.
    pub(super) fn stay(&self) -> bool {
        self.stay
    }

    /// An object's bytes with these managed fields.
    pub(super) fn encode(&self, tree: Value) -> Result<Bytes, ApiError> {
        object::encode_managed(tree, self.json.as_deref()).map_err(ApiError::internal)
    }
}

/// What the object was before: as it is stored, and its tree in the call's version.
type Before<'a> = (&'a Object, &'a Value);

impl Registry {
    /// Takes managed fields out of a proposed object and says what becomes of them.
    pub(super) async fn owners(
        &self,
        call: &Call<'_>,
        ctx: &RequestContext<'_>,
        manager: Option<&str>,
        before: Option<Before<'_>>,
        new: &mut Value,
    ) -> Result<Owners, ApiError> {
        let sent = take(new);
        let kept = before.and_then(|(object, _)| object.managed_fields());
        // Through a subresource nobody changes managed fields themselves.
        let sent = sent.filter(|list| call.subresource.is_none() && call.scales.is_none() && !list.is_null());
        let is_reset = sent.as_ref().is_some_and(managed::are_reset);
        if is_reset && before.is_some() {
            return Ok(Owners { stay: kept.is_none(), ..Owners::kept(None) });
        }
        let sent = sent.filter(|_| !is_reset).and_then(|list| managed::accept(&list).ok());
        let sent = sent.filter(|entries| !entries.is_empty());
        let old = before.map(|(_, tree)| tree);
        let delta = managed::compare(call.resource.schema.root(), old, new).without(&reset_of(call));
        if sent.is_none() && delta.is_empty() {
            return Ok(Owners::kept(kept));
        }
        let mut stored = kept.as_deref().and_then(|json| managed::decode(json).ok()).unwrap_or_default();
        let faults = sent.as_deref().map(managed::faults).unwrap_or_default();
        let is_changed = sent.as_ref().is_some_and(|sent| *sent != stored);
        let mut entries = sent.unwrap_or_else(|| std::mem::take(&mut stored));
        // An object that was made without managed fields goes on without.
        if entries.is_empty() && before.is_some() {
            return Ok(Owners::kept(None));
        }
        let others = match old {
            Some(old) => self.displace(call, &mut entries, old, new).await?,
            None => false,
        };
        let effect = self.record(call, ctx, manager, &mut entries, delta, (old, new));
        Ok(Owners {
            json: managed::encode(&entries).map(Bytes::from),
            stay: effect != Effect::Owners && !is_changed && !others,
            must_fit: false,
            faults,
        })
    }

    fn record(
        &self,
        call: &Call<'_>,
        ctx: &RequestContext<'_>,
        manager: Option<&str>,
        entries: &mut Vec<Entry>,
        delta: managed::Delta,
        (old, new): (Option<&Value>, &Value),
    ) -> Effect {
        let own = || call.agent.clone().unwrap_or_else(|| managed::manager_of_identity(call.user));
        let manager = manager.filter(|name| !name.is_empty()).map_or_else(own, str::to_string);
        let now = metadata::time(ctx.now);
        let author = Author {
            manager: &manager,
            api_version: &call.resource.version,
            subresource: if call.scales.is_some() { "scale" } else { call.subresource.unwrap_or("") },
            now: &now,
        };
        let Some(paths) = call.scales else { return managed::update(entries, delta, &author) };
        let replicas = |tree: &Value| paths.spec_replicas.get(tree).clone();
        match old.map(replicas) == Some(replicas(new)) {
            true => Effect::Nothing,
            false => managed::scale(entries, &paths.spec_replicas.steps(), &author),
        }
    }

    /// Takes a change out of entries in other versions of the kind, which know it under their names. Entries
    /// in versions that are no longer served go.
    async fn displace(
        &self,
        call: &Call<'_>,
        entries: &mut Vec<Entry>,
        old: &Value,
        new: &Value,
    ) -> Result<bool, ApiError> {
        let own = &call.resource.version;
        let versions: BTreeSet<String> = entries
            .iter()
            .map(|entry| &entry.api_version)
            .filter(|version| *version != own)
            .cloned()
            .collect();
        let mut moved = false;
        for version in versions {
            let Some(other) = self.sibling(call, &version) else {
                entries.retain(|entry| entry.api_version != version);
                moved = true;
                continue;
            };
            let old = call.resource.in_version(&other, old).await?;
            let new = call.resource.in_version(&other, new).await?;
            let delta = managed::compare(other.schema.root(), Some(&old), &new).without(&reset_of(call));
            moved |= managed::displace(entries, &version, &delta);
        }
        Ok(moved)
    }

    /// The same kind in another version: what is stored in the same place.
    pub(super) fn sibling(&self, call: &Call<'_>, api_version: &str) -> Option<Arc<Resource>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resources = self.resources.load();
        let found = resources.find(group, version, &call.row().plural)?;
        (found.row.storage == call.row().storage).then(|| found.clone())
    }
}

pub(super) fn reset_of(call: &Call<'_>) -> Reset {
    Reset::of(call.row(), call.subresource, call.resource.openapi.is_some())
}

/// Takes `metadata.managedFields` out of a tree.
pub(super) fn take(tree: &mut Value) -> Option<Value> {
    tree.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

/// An empty list asks for a reset; it is put as one empty entry, which outlives the check of the body, where
/// empty lists go.
pub(super) fn keep_reset(tree: &mut Value) {
    let list = tree.get_mut("metadata").and_then(|metadata| metadata.get_mut("managedFields"));
    if let Some(Value::Array(list)) = list
        && list.is_empty()
    {
        list.push(Value::Object(serde_json::Map::new()));
    }
}

/// Whether a patch reads or writes managed fields.
pub(super) fn is_touched(patch: &Patch) -> bool {
    const POINTER: &str = "/metadata/managedFields";
    match patch.kind {
        PatchKind::Json => patch.body.as_array().into_iter().flatten().any(|step| {
            let points = |member: &str| step[member].as_str().unwrap_or("/");
            ["path", "from"].iter().any(|member| {
                let at = points(member);
                at.starts_with(POINTER) || at == "/metadata" || at.is_empty()
            })
        }),
        _ => patch.body["metadata"].get("managedFields").is_some(),
    }
}

/// The smaller form of an object that has turned out to be too large to be stored.
pub(super) fn if_too_large<T>(stored: &Result<T, ApiError>, bytes: &Bytes) -> Option<Bytes> {
    match stored {
        Err(error) if error.code() == 413 => match object::without_managed_fields(bytes) {
            Cow::Owned(smaller) => Some(Bytes::from(smaller)),
            Cow::Borrowed(_) => None,
        },
        _ => None,
    }
}
