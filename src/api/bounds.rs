//! What one request may cost.
//!
//! A body of a few hundred bytes can ask for gigabytes: empty elements become large structures, each of a
//! thousand faults may print a megabyte, copies can be copied again. So what is made of a body is counted
//! while it is made, and texts about it are cut. Upstream bounds some of this (100 faults of decoding, copied
//! bytes) and leaves the rest to Go's collector.
//!
//! The promise, which `tests/memory.rs` measures with a counting allocator: decoding, checking, defaulting
//! and patching one body take at most [`memory_of`] its size at once.

use std::fmt;
use std::io;

use serde_json::Value;

#[cfg(test)]
mod tests;

/// Faults of one body that are kept, as upstream's decoder does.
pub(crate) const MAX_FAULTS: usize = 100;
/// Bytes of the path to a field in a fault.
pub(crate) const MAX_PATH: usize = 512;
/// Bytes of a value in a fault.
pub(crate) const MAX_VALUE: usize = 4 * 1024;
/// Bytes of what a fault says beside path and value.
pub(crate) const MAX_DETAIL: usize = 16 * 1024;
/// How deep a body, and what a patch makes, may nest; upstream's decoder stops at 10,000, stored JSON is read
/// up to 127.
pub const MAX_DEPTH: usize = 120;
/// The same for YAML, whose decoder takes much more of the stack for each level.
pub(crate) const MAX_YAML_DEPTH: usize = 64;

/// Memory that a body may take as a tree: what the worst of JSON and protobuf take while it is small (an
/// object with one short member is 700 bytes for eight of JSON or four of protobuf), and for large ones what
/// common objects need.
const fn tree_of(body: usize) -> usize {
    let small = 64 * 1024 + 200 * body;
    let large = 16 * 1024 * 1024 + 12 * body;
    if small < large { small } else { large }
}

/// What the typed form and the defaults of one object may take.
pub(crate) const TYPED: usize = 48 * 1024 * 1024;

/// And what they take at most while the body is small: an empty volume is two kilobytes for three bytes.
const fn typed_of(body: usize) -> usize {
    let small = 64 * 1024 + 2000 * body;
    if small < TYPED { small } else { TYPED }
}

/// A value in a list, with the room that a growing list keeps.
pub(crate) const ELEMENT: usize = 48;
/// The first member of an object takes a node of the map; further ones share it.
const FIRST_MEMBER: usize = 640;
const MEMBER: usize = 112;
/// What the allocator adds to a text.
const TEXT: usize = 16;

/// Upper bound of the memory that decoding, checking, defaulting and patching take for a body of a size:
/// three trees, and the typed form and defaults twice.
pub(crate) const fn memory_of(body: usize) -> usize {
    1024 * 1024 + 3 * tree_of(body) + 2 * typed_of(body)
}

/// Bytes of JSON that all `copy` operations of a JSON patch may add, upstream's `JSONPatchMaxCopyBytes`.
pub(crate) const MAX_COPIED: usize = 3 * 1024 * 1024;
/// What they may take of memory.
pub(crate) const COPIES: usize = tree_of(MAX_COPIED);

/// More would have been needed than may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Request entity too large: decoded it would take more than {allowed} bytes of memory")]
pub struct Spent {
    allowed: usize,
}

/// Memory that may still be taken.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    allowed: usize,
    left: usize,
}

impl Budget {
    /// For what a body of so many bytes becomes.
    pub(crate) const fn for_body(bytes: usize) -> Self {
        Self::of(tree_of(bytes))
    }

    pub(crate) const fn of(allowed: usize) -> Self {
        Budget { allowed, left: allowed }
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Spent> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                // A caller that goes on in spite of the error gets nothing more.
                self.left = 0;
                Err(Spent { allowed: self.allowed })
            }
        }
    }

    pub(crate) fn text(&mut self, text: &str) -> Result<(), Spent> {
        self.take(text.len() + TEXT)
    }

    /// A new member of an object that has `members` already.
    pub(crate) fn member(&mut self, members: usize, key: &str) -> Result<(), Spent> {
        self.take(if members == 0 { FIRST_MEMBER } else { MEMBER })?;
        self.text(key)
    }

    /// A whole tree, which is about to be copied.
    pub(crate) fn tree(&mut self, value: &Value) -> Result<(), Spent> {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
            Value::String(text) => self.text(text),
            Value::Array(list) => list.iter().try_for_each(|one| {
                self.take(ELEMENT)?;
                self.tree(one)
            }),
            Value::Object(map) => map.iter().enumerate().try_for_each(|(at, (key, one))| {
                self.member(at, key)?;
                self.tree(one)
            }),
        }
    }
}

/// A text that stops growing at a size; then it ends in `...` and everything written to it is refused, so
/// that a writer of something large stops early.
pub(crate) struct Text {
    text: Vec<u8>,
    max: usize,
    full: bool,
}

impl Text {
    pub(crate) fn new(max: usize) -> Self {
        Text { text: Vec::new(), max, full: false }
    }

    /// Adds what fits; false once something did not.
    fn add(&mut self, bytes: &[u8]) -> bool {
        let room = self.max - self.text.len();
        if !self.full {
            self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
            self.full = bytes.len() > room;
        }
        !self.full
    }

    pub(crate) fn finish(self) -> String {
        let mut text = self.text;
        if !self.full {
            return String::from_utf8(text).unwrap_or_default();
        }
        let whole = std::str::from_utf8(&text).map_or_else(|error| error.valid_up_to(), str::len);
        text.truncate(whole);
        text.extend_from_slice(b"...");
        String::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.add(text.as_bytes()) { Ok(()) } else { Err(fmt::Error) }
    }
}

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.add(bytes) { Ok(bytes.len()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A text of at most so many bytes and `...`.
pub(crate) fn cut(text: String, max: usize) -> String {
    if text.len() <= max {
        return text;
    }
    let mut short = Text::new(max);
    short.add(text.as_bytes());
    short.finish()
}

/// Bytes of a tree as JSON, or more than `max`.
pub(crate) fn json_len(value: &Value, max: usize) -> usize {
    struct Count(usize, usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            if self.0 > self.1 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(bytes.len()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0, max);
    // It fails only by its size.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}
