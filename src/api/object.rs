//! An object as it is held in memory: its bytes once, its metadata decoded, its typed form decoded at most
//! once while it is current.
//!
//! Stored bytes are JSON without `metadata.resourceVersion`, because only the commit knows it; the object
//! remembers where to splice it in, so store, watch cache and every client share one `Bytes`. Objects that
//! came over the wire have the version in their bytes already. Encoding puts `apiVersion`, `kind`, `metadata`
//! first, which is what makes the splice point cheap to find again; `metadata.managedFields` comes first in
//! the metadata, so that readers of the typed form, who have no use for it, are spared it.

use std::any::Any;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Kinded, LabelMatcher, schema};

mod encoding;

pub use encoding::{encode, encode_managed, without_managed_fields};
use encoding::{managed_fields, splice_point};

/// Immutable; shared as `Arc<Object>`.
pub struct Object {
    bytes: Bytes,
    /// Offset at which `"resourceVersion":"N"` belongs, or none if the bytes hold it.
    splice: Option<usize>,
    resource_version: u64,
    metadata: Metadata,
    decoded: RwLock<Decoded>,
}

/// What readers have had decoded.
#[derive(Default)]
struct Decoded {
    typed: Option<Arc<dyn Any + Send + Sync>>,
    /// The inner one is none if the object has no selector.
    selector: Option<Option<Arc<LabelMatcher>>>,
}

/// The part of `ObjectMeta` that the machinery needs without decoding the whole object.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    pub namespace: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub uid: String,
    resource_version: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub generation: i64,
    /// RFC 3339, seconds.
    pub creation_timestamp: Option<String>,
    pub deletion_timestamp: Option<String>,
    /// Sorted by key.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: std::collections::BTreeMap<String, String>,
    #[serde(deserialize_with = "null_is_default")]
    pub owner_references: Vec<OwnerReference>,
    #[serde(deserialize_with = "null_is_default")]
    pub finalizers: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    pub controller: Option<bool>,
    pub block_owner_deletion: Option<bool>,
}

/// Why bytes are not an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("object is not valid JSON of its kind")]
    Json(#[from] serde_json::Error),
    #[error("object is not a JSON object with metadata")]
    Shape,
}

fn null_is_default<'de, D, T>(decoder: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(decoder)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Selecting<'a> {
    #[serde(borrow)]
    spec: Option<SelectorOf<'a>>,
}

#[derive(Deserialize)]
struct SelectorOf<'a> {
    #[serde(borrow)]
    selector: Option<&'a RawValue>,
}

impl Object {
    /// From bytes as [`encode`] made them, and the revision that the store gave them. Bytes of another shape
    /// (put into the store by hand) are brought into it.
    pub fn from_stored(bytes: Bytes, resource_version: u64) -> Result<Self, ObjectError> {
        match splice_point(&bytes) {
            Some(at) => {
                let head: Head = serde_json::from_slice(&bytes)?;
                Ok(Self::new(bytes, Some(at), resource_version, head.metadata))
            }
            None => Self::from_tree(serde_json::from_slice(&bytes)?, resource_version),
        }
    }

    /// From bytes that hold their own `metadata.resourceVersion`, as they came from a server.
    pub fn from_wire(bytes: Bytes) -> Result<Self, ObjectError> {
        let head: Head = serde_json::from_slice(&bytes)?;
        let version =
            head.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(Self::new(bytes, None, version, head.metadata))
    }

    /// From a tree, whose own `metadata.resourceVersion` is ignored.
    pub fn from_tree(tree: Value, resource_version: u64) -> Result<Self, ObjectError> {
        Self::from_stored_encoded(encode(tree)?, resource_version)
    }

    fn from_stored_encoded(bytes: Bytes, resource_version: u64) -> Result<Self, ObjectError> {
        let at = splice_point(&bytes).ok_or(ObjectError::Shape)?;
        let head: Head = serde_json::from_slice(&bytes)?;
        Ok(Self::new(bytes, Some(at), resource_version, head.metadata))
    }

    fn new(bytes: Bytes, splice: Option<usize>, resource_version: u64, metadata: Metadata) -> Self {
        Object { bytes, splice, resource_version, metadata, decoded: RwLock::default() }
    }

    /// The same content under another version: what a watch delivers for a deletion.
    pub fn at_version(&self, resource_version: u64) -> Result<Self, ObjectError> {
        match self.splice {
            Some(at) => Ok(Self::new(self.bytes.clone(), Some(at), resource_version, self.metadata.clone())),
            None => Self::from_tree(serde_json::from_slice(&self.bytes)?, resource_version),
        }
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    pub fn namespace(&self) -> Option<&str> {
        self.metadata.namespace.as_deref()
    }

    pub fn uid(&self) -> &str {
        &self.metadata.uid
    }

    pub fn labels(&self) -> &std::collections::BTreeMap<String, String> {
        &self.metadata.labels
    }

    pub fn resource_version(&self) -> u64 {
        self.resource_version
    }

    /// What the object says its `apiVersion` is; none if its bytes are not in the stored form.
    pub fn api_version(&self) -> Option<&str> {
        let rest = self.bytes.strip_prefix(b"{\"apiVersion\":\"")?;
        let end = rest.iter().position(|byte| *byte == b'"')?;
        std::str::from_utf8(&rest[..end]).ok()
    }

    /// Marked for deletion, waiting for grace or finalizers.
    pub fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// The bytes as they are stored: without resourceVersion unless the object came over the wire.
    pub fn stored_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Upper bound of what [`Object::write_json`] writes.
    pub fn json_len(&self) -> usize {
        self.bytes.len() + 44
    }

    /// Appends the object as clients see it, resourceVersion included.
    pub fn write_json(&self, out: &mut impl BufMut) {
        let Some(at) = self.splice else {
            out.put_slice(&self.bytes);
            return;
        };
        self.write_spliced(0, at, out);
    }

    /// The bytes from `start` on, with the resourceVersion put in.
    fn write_spliced(&self, start: usize, at: usize, out: &mut impl BufMut) {
        out.put_slice(&self.bytes[start..at]);
        out.put_slice(b"\"resourceVersion\":\"");
        out.put_slice(self.resource_version.to_string().as_bytes());
        out.put_slice(if self.bytes.get(at) == Some(&b'}') { b"\"" } else { b"\"," });
        out.put_slice(&self.bytes[at..]);
    }

    /// The same without `apiVersion` and `kind`, as an item of a list that says of what kind its items are.
    pub fn write_json_untyped(&self, out: &mut impl BufMut) {
        let Some((at, metadata)) = self.splice.zip(encoding::after_type(&self.bytes)) else {
            return self.write_json(out);
        };
        out.put_u8(b'{');
        self.write_spliced(metadata, at, out);
    }

    /// The same in parts that share the stored bytes, for objects that are too large to be copied.
    pub fn json_parts(&self) -> Vec<Bytes> {
        let Some(at) = self.splice else { return vec![self.bytes.clone()] };
        let end = if self.bytes.get(at) == Some(&b'}') { "\"" } else { "\"," };
        let version = format!("\"resourceVersion\":\"{}{end}", self.resource_version);
        vec![self.bytes.slice(..at), Bytes::from(version), self.bytes.slice(at..)]
    }

    pub fn to_json(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.json_len());
        self.write_json(&mut out);
        out.freeze()
    }

    /// The whole object as a tree, resourceVersion included.
    pub fn tree(&self) -> Result<Value, ObjectError> {
        self.tree_of(&self.bytes)
    }

    /// The object as a tree without `metadata.managedFields`.
    pub fn tree_without_managed_fields(&self) -> Result<Value, ObjectError> {
        self.tree_of(&without_managed_fields(&self.bytes))
    }

    /// The JSON of `metadata.managedFields`; none if there are none, or the bytes are not in the stored form.
    pub fn managed_fields(&self) -> Option<Bytes> {
        let found = managed_fields(&self.bytes)?;
        Some(self.bytes.slice(found.value))
    }

    fn tree_of(&self, bytes: &[u8]) -> Result<Value, ObjectError> {
        let mut tree: Value = serde_json::from_slice(bytes)?;
        if self.splice.is_some() {
            let metadata =
                tree.get_mut("metadata").and_then(Value::as_object_mut).ok_or(ObjectError::Shape)?;
            metadata.insert("resourceVersion".into(), Value::String(self.resource_version.to_string()));
        }
        Ok(tree)
    }

    /// The object as its type, without `managedFields`. Decodes on first use; later calls, from any reader,
    /// share the result.
    pub fn typed<K: Kinded>(&self) -> Result<Arc<K>, ObjectError> {
        let known = self.decoded.read().unwrap_or_else(PoisonError::into_inner).typed.clone();
        if let Some(typed) = known {
            if let Ok(typed) = typed.downcast::<K>() {
                return Ok(typed);
            }
            // Read as two types (one kind, two versions): the second is not remembered.
            return Ok(Arc::new(self.decode()?));
        }
        let typed: Arc<K> = Arc::new(self.decode()?);
        self.decoded.write().unwrap_or_else(PoisonError::into_inner).typed = Some(typed.clone());
        Ok(typed)
    }

    /// Whom `spec.selector` selects; none if there is none. Parsed on first use, like the typed form, so that
    /// matching costs the same however long the selector is.
    pub fn selector(&self) -> Option<Arc<LabelMatcher>> {
        let known = self.decoded.read().unwrap_or_else(PoisonError::into_inner).selector.clone();
        if let Some(selector) = known {
            return selector;
        }
        let parsed: Option<Selecting<'_>> = serde_json::from_slice(&self.bytes).ok();
        let selector = parsed.and_then(|object| object.spec?.selector);
        let selector = selector.map(|selector| Arc::new(LabelMatcher::of_json(selector)));
        self.decoded.write().unwrap_or_else(PoisonError::into_inner).selector = Some(selector.clone());
        selector
    }

    /// Lets go of the typed form, which takes several times the memory of the bytes, and of the selector: for
    /// objects that are kept although they are no longer current. Whoever asks for them again has them
    /// decoded again.
    pub fn forget_typed(&self) {
        let decoded = std::mem::take(&mut *self.decoded.write().unwrap_or_else(PoisonError::into_inner));
        drop(decoded);
    }

    /// Whether the typed form is kept.
    pub fn has_typed(&self) -> bool {
        self.decoded.read().unwrap_or_else(PoisonError::into_inner).typed.is_some()
    }

    /// The typed form once what upstream lets a body leave out is filled in; none if that is not what is
    /// wrong.
    fn decode_completed<K: Kinded>(&self) -> Option<K> {
        let mut tree = serde_json::from_slice(&without_managed_fields(&self.bytes)).ok()?;
        let is_changed = schema::complete(schema::for_kind(K::row())?, &mut tree);
        is_changed.then(|| K::from_tree(&tree).ok())?
    }

    fn decode<K: Kinded>(&self) -> Result<K, ObjectError> {
        let mut typed = match K::from_json(&without_managed_fields(&self.bytes)) {
            Ok(typed) => typed,
            Err(error) => self.decode_completed().ok_or(error)?,
        };
        if self.splice.is_some() {
            typed.metadata_mut().resource_version = Some(self.resource_version.to_string());
        }
        Ok(typed)
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Object({}/{}@{})", self.namespace().unwrap_or(""), self.name(), self.resource_version)
    }
}

#[cfg(test)]
mod tests;
