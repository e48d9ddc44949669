//! Ways in for the fuzz targets: the decoders of request bodies. Kept here so that what the targets have
//! found is tried by ordinary tests, too.

mod counting;

use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

pub use counting::Counting;

use crate::apply::{self, Change, Versions};
use crate::managed::{Author, Entry, Reset};
use crate::object::{Object, encode};
use crate::schema::structural::{CustomSchema, Structural};
use crate::schema::{Place, Schema};
use crate::validation::{name_is_dns_subdomain, validate_object_meta};
use crate::{ApiError, FieldValidation, KindRow, Patch, PatchKind, bounds, kinds, patch, protobuf, schema};

/// Protobuf bodies: no bytes panic, and what decodes once encodes to something that decodes to the same.
///
/// # Panics
///
/// If it does not.
pub fn protobuf(bytes: &[u8]) {
    let Ok(first) = protobuf::decode(bytes) else { return };
    // The first pass may drop what has no meaning (unknown fields, zero values); after that nothing changes.
    let Ok(encoded) = protobuf::encode(&first) else { return };
    let second = protobuf::decode(&encoded).expect("our own encoding decodes");
    let encoded = protobuf::encode(&second).expect("what we decoded encodes");
    let third = protobuf::decode(&encoded).expect("our own encoding decodes");
    assert_eq!(second, third);
}

/// JSON and YAML bodies through the write path: decode, check, default, patch. Nothing panics, and a checked
/// and defaulted object stays as it is when it passes again.
///
/// Input: one byte that picks the kind, the body, then after a zero byte a strategic merge patch.
///
/// # Panics
///
/// If it does not.
pub fn tree(input: &[u8]) {
    let Some((pick, rest)) = input.split_first() else { return };
    let row = kinds::ALL[usize::from(*pick) % kinds::ALL.len()];
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let (body, change) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let _ = schema::decode_yaml(body);
    let Ok((mut tree, _)) = schema::decode_json(body) else { return };
    if schema::check(row, &mut tree, FieldValidation::Warn).is_err() {
        return;
    }
    schema::apply_defaults(row, &mut tree);
    let mut again = tree.clone();
    schema::check(row, &mut again, FieldValidation::Strict).expect("a checked object is checked again");
    schema::apply_defaults(row, &mut again);
    assert_eq!(tree, again);
    let ty = schema::for_kind(row).expect("every row has a schema");
    protobuf::encode_message(ty, &tree).expect("a checked object has a protobuf form");
    if let Ok((change, _)) = schema::decode_json(change) {
        let _ = patch::strategic_merge(ty, &mut tree, &change);
    }
}

/// What one body and one patch may take of memory: [`bounds::memory_of`] their size. Does nothing in programs
/// whose allocator is not [`Counting`].
///
/// Input: a byte that picks the kind, one that picks the form (JSON, YAML, protobuf), the body, then after a
/// zero byte the patch; a protobuf body has no patch.
///
/// # Panics
///
/// If it is exceeded.
pub fn memory(input: &[u8]) {
    static ALONE: Mutex<()> = Mutex::new(());
    let [pick, form, rest @ ..] = input else { return };
    let row = kinds::ALL[usize::from(*pick) % kinds::ALL.len()];
    let _alone = ALONE.lock();
    // What is made once and stays is not this input's.
    schema::apply_defaults(row, &mut Value::Object(serde_json::Map::new()));
    let _ = schema::check(row, &mut Value::Object(serde_json::Map::new()), FieldValidation::Warn);
    let before = counting::start();
    write(row, *form, rest);
    let taken = counting::peak().saturating_sub(before);
    let allowed = bounds::memory_of(rest.len()) + bounds::COPIES;
    assert!(taken <= allowed, "{taken} bytes taken for {} of a {}, {allowed} allowed", rest.len(), row.kind);
}

/// What a body may take under the schema of a definition, and what reading the schema may take: the same as a
/// body of a built-in kind, and the definition's patterns. The schema need not be one, the body need not fit.
///
/// # Panics
///
/// If it is exceeded.
pub fn custom_memory(schema: &[u8], body: &[u8]) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    let before = counting::start();
    let parsed = schema::decode_json(schema).ok().map(|(schema, _)| Structural::parse(&schema, "schema"));
    let taken = counting::peak().saturating_sub(before);
    // A pattern is compiled forwards and backwards.
    let patterns = 2 * schema::structural::MAX_PATTERNS;
    let allowed = bounds::memory_of(schema.len()) + patterns;
    assert!(taken <= allowed, "{taken} bytes taken for a schema of {}, {allowed} allowed", schema.len());
    let Some(Ok(root)) = parsed else { return };
    let schema = CustomSchema::new("v1", "Widget", root);
    let before = counting::start();
    if let Ok((mut tree, duplicates)) = schema::decode_json(body)
        && tree.is_object()
        && schema.check(&mut tree, &duplicates, FieldValidation::Warn).is_ok()
        && schema.default(&mut tree).is_ok()
    {
        drop(serde_json::to_vec(ApiError::invalid(kinds::ALL[0], "", schema.validate(&tree, None)).status()));
        schema.prune(&mut tree);
    }
    let taken = counting::peak().saturating_sub(before);
    let allowed = bounds::memory_of(body.len()) + patterns;
    assert!(taken <= allowed, "{taken} bytes taken for {} of a custom kind, {allowed} allowed", body.len());
}

/// Server-side apply: what one manager applies and another one then takes. Nothing panics, and what was
/// applied by force is applied again without a conflict and without a change.
///
/// Input: a byte that picks the kind, what the one applies, then after a zero byte what the other one
/// applies.
///
/// # Panics
///
/// If it does not hold.
pub fn apply(input: &[u8]) {
    let Some((pick, rest)) = input.split_first() else { return };
    let row = kinds::ALL[usize::from(*pick) % kinds::ALL.len()];
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let (one, other) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let version = row.api_version();
    let root = Place::from(schema::for_kind(row));
    let versions = OneVersion(&version, root);
    let patch = |bytes: &[u8]| {
        let (mut patch, _) = schema::decode_applied(bytes).ok().filter(|(patch, _)| patch.is_object())?;
        patch["apiVersion"] = Value::from(&*version);
        patch["kind"] = Value::from(&*row.kind);
        apply::check(root, &version, &row.kind, &patch).ok().map(|()| patch)
    };
    let applied = |live: &Value, manager: &str, force: bool, patch: &Value, entries: Vec<Entry>| {
        let author = Author { manager, api_version: &version, subresource: "", now: "2026-01-01T00:00:00Z" };
        let reset = Reset::of(row, None, false);
        let change = Change { author: &author, reset: &reset, force };
        at_once(apply::apply(&versions, &change, live, patch, entries))
    };
    let Some(one) = patch(one) else { return };
    let Ok(first) = applied(&Value::Null, "one", false, &one, Vec::new()) else { return };
    let Some(other) = patch(other) else { return };
    let forced = applied(&first.tree, "other", true, &other, first.entries);
    let forced = forced.unwrap_or_else(|refused| panic!("force has no conflicts: {refused:?}"));
    let again = applied(&forced.tree, "other", false, &other, forced.entries.clone());
    let again = again.unwrap_or_else(|refused| panic!("its own is no conflict: {refused:?}"));
    assert_eq!((again.tree, again.entries), (forced.tree, forced.entries));
}

/// A kind that has one version.
pub(crate) struct OneVersion<'a>(pub(crate) &'a str, pub(crate) Place<'a>);

impl Versions for OneVersion<'_> {
    fn root(&self, version: &str) -> Option<Place<'_>> {
        (version == self.0).then_some(self.1)
    }

    fn convert<'a>(
        &'a self,
        tree: &'a Value,
        _: &'a str,
        _: &'a str,
    ) -> apply::BoxFuture<'a, Result<Value, ApiError>> {
        Box::pin(std::future::ready(Ok(tree.clone())))
    }
}

/// Runs what has nothing to wait for.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("one version needs no conversion"),
    }
}

/// The way of a write: decoded, kept for another try, checked, defaulted, typed, validated, encoded,
/// answered, patched.
fn write(row: &KindRow, form: u8, rest: &[u8]) {
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let (body, change) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let decoded = match form % 3 {
        0 => schema::decode_json(body),
        1 => schema::decode_yaml(body),
        _ => protobuf::decode(rest).map(|tree| (tree, Vec::new())).map_err(ApiError::from),
    };
    let Ok((source, duplicates)) = decoded else { return };
    let mut tree = source.clone();
    let (group, version, kind) = (&row.group, &row.version, &row.kind);
    let checked = schema::check_kind(group, version, kind, &mut tree, &duplicates, FieldValidation::Warn);
    if checked.is_err() {
        return;
    }
    drop(source);
    schema::apply_defaults(row, &mut tree);
    drop(crate::decode::pod_spec(&tree["spec"]));
    if let Ok(meta) = ObjectMeta::deserialize(&tree["metadata"]) {
        let faults = validate_object_meta(&meta, row.namespaced(), name_is_dns_subdomain, true);
        drop(serde_json::to_vec(ApiError::invalid(row, "", faults).status()));
    }
    if let Some(ty) = schema::for_kind(row) {
        drop(protobuf::encode_message(ty, &tree));
    }
    if let Ok((change, _)) = schema::decode_json(change) {
        for kind in [PatchKind::Json, PatchKind::Merge, PatchKind::Strategic] {
            let mut new = tree.clone();
            let change = Patch::new(kind, change.clone());
            if patch::apply(schema::for_kind(row), &mut new, &change).is_ok() {
                let _ = schema::check(row, &mut new, FieldValidation::Warn);
            }
        }
    }
    if let Ok(bytes) = encode(tree)
        && let Ok(object) = Object::from_stored(bytes, 1)
    {
        drop(object.to_json());
    }
}

#[cfg(test)]
mod tests;
