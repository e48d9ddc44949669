//! The stored form, and where things are in its bytes: `apiVersion`, `kind` and `metadata` come first, and
//! `metadata.managedFields` come first in the metadata.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::ObjectError;

/// Encodes a tree in the stored form: no resourceVersion, `apiVersion`, `kind` and `metadata` first.
pub fn encode(mut tree: Value) -> Result<Bytes, ObjectError> {
    let metadata = tree.get_mut("metadata").and_then(Value::as_object_mut);
    let managed =
        metadata.and_then(|metadata| metadata.remove("managedFields")).filter(|list| !list.is_null());
    let managed = managed.map(|list| serde_json::to_vec(&list)).transpose()?;
    encode_managed(tree, managed.as_deref())
}

/// The same for a tree that has no `managedFields`, whose JSON is given beside it.
pub fn encode_managed(tree: Value, managed: Option<&[u8]>) -> Result<Bytes, ObjectError> {
    let Value::Object(mut tree) = tree else { return Err(ObjectError::Shape) };
    let Some(Value::Object(mut metadata)) = tree.remove("metadata") else { return Err(ObjectError::Shape) };
    metadata.remove("resourceVersion");
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    for key in ["apiVersion", "kind"] {
        if let Some(value) = tree.remove(key) {
            write_member(&mut out, key, &value)?;
        }
    }
    out.extend_from_slice(if out.len() == 1 { b"\"metadata\":{" } else { b",\"metadata\":{" });
    if let Some(managed) = managed {
        out.extend_from_slice(MANAGED_FIELDS);
        out.extend_from_slice(managed);
    }
    write_rest(&mut out, &metadata)?;
    out.push(b'}');
    write_rest(&mut out, &tree)?;
    out.push(b'}');
    // The bytes live as long as the object and its history: no spare room.
    Ok(Bytes::from(out.into_boxed_slice()))
}

fn write_rest(out: &mut Vec<u8>, tree: &Map<String, Value>) -> Result<(), ObjectError> {
    for (key, value) in tree {
        write_member(out, key, value)?;
    }
    Ok(())
}

fn write_member(out: &mut Vec<u8>, key: &str, value: &impl serde::Serialize) -> Result<(), ObjectError> {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    serde_json::to_writer(&mut *out, key)?;
    out.push(b':');
    Ok(serde_json::to_writer(&mut *out, value)?)
}

const METADATA: &[u8] = b"\"metadata\":{";
const MANAGED_FIELDS: &[u8] = b"\"managedFields\":";

/// Where `metadata.managedFields` are in bytes.
pub(super) struct Found {
    pub(super) value: Range<usize>,
    /// The member with its comma.
    member: Range<usize>,
}

/// Finds managed fields where the stored form has them: first in the metadata, or after the resourceVersion.
pub(super) fn managed_fields(bytes: &[u8]) -> Option<Found> {
    let mut at = metadata_start(bytes)?;
    if let Some(version) = bytes[at..].strip_prefix(b"\"resourceVersion\":\"") {
        let end = version.iter().position(|byte| *byte == b'"')?;
        at = bytes.len() - version.len() + end + 2;
    }
    let rest = bytes.get(at..)?;
    let list = rest.strip_prefix(MANAGED_FIELDS).filter(|list| list.starts_with(b"["))?;
    let start = at + MANAGED_FIELDS.len();
    let end = start + closing(list)?;
    let member = match bytes.get(end)? {
        b',' => at..end + 1,
        _ if bytes[at - 1] == b',' => at - 1..end,
        _ => at..end,
    };
    Some(Found { value: start..end, member })
}

/// The length of the list or object that JSON begins with.
fn closing(json: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut bytes = json.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => loop {
                match bytes.next()?.1 {
                    b'\\' => drop(bytes.next()),
                    b'"' => break,
                    _ => {}
                }
            },
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Bytes of an object without its managed fields.
pub fn without_managed_fields(bytes: &[u8]) -> Cow<'_, [u8]> {
    match managed_fields(bytes) {
        Some(found) => Cow::Owned([&bytes[..found.member.start], &bytes[found.member.end..]].concat()),
        None => Cow::Borrowed(bytes),
    }
}

/// Offset just after the `{` of `metadata` if the bytes are in the stored form. `apiVersion` and `kind` are
/// short words without quotes or backslashes, so looking at the first bytes is enough.
pub(super) fn splice_point(bytes: &[u8]) -> Option<usize> {
    metadata_start(bytes).filter(|at| !bytes[*at..].starts_with(b"\"resourceVersion\""))
}

/// Offset of `metadata` where it comes right after `apiVersion` and `kind`, as [`encode`] writes them.
pub(super) fn after_type(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes.strip_prefix(b"{")?;
    for start in [&b"\"apiVersion\":\""[..], b"\"kind\":\""] {
        let value = rest.strip_prefix(start)?;
        let end = value.iter().position(|byte| *byte == b'"')?;
        rest = value.get(end..)?.strip_prefix(b"\",")?;
    }
    rest.starts_with(METADATA).then_some(bytes.len() - rest.len())
}

/// The same whether or not the resourceVersion is there.
fn metadata_start(bytes: &[u8]) -> Option<usize> {
    let head = &bytes[..bytes.len().min(512)];
    let at = head.windows(METADATA.len()).position(|window| window == METADATA)?;
    let before = &head[..at];
    let canonical = before.starts_with(b"{")
        && !before.contains(&b'\\')
        && before.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() == 1;
    canonical.then_some(at + METADATA.len())
}
