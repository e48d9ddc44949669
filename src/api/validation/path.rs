//! The path to a field, as faults print it: `spec.containers[0].env[1].name`, `metadata.labels[app]`.
//!
//! A chain of borrowed segments on the stack: walking a valid object builds no string.

use std::fmt::{self, Write};

use crate::bounds::{MAX_PATH, Text};

#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    pub const fn new(root: &'a str) -> Self {
        Path { parent: None, segment: Segment::Field(root) }
    }

    fn is_empty(&self) -> bool {
        self.parent.is_none() && matches!(self.segment, Segment::Field(""))
    }

    /// `PATH.name`.
    pub const fn child(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), segment: Segment::Field(name) }
    }

    /// `PATH[index]`.
    pub const fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), segment: Segment::Index(index) }
    }

    /// `PATH[key]`.
    pub const fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), segment: Segment::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            // The root of an object has no name.
            Segment::Field(name) if self.parent.is_some_and(|parent| !parent.is_empty()) => {
                write!(f, ".{name}")
            }
            Segment::Field(name) => f.write_str(name),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// As faults print it: keys may be long, so the text is cut.
impl From<&Path<'_>> for String {
    fn from(path: &Path<'_>) -> String {
        let mut text = Text::new(MAX_PATH);
        let _ = write!(text, "{path}");
        text.finish()
    }
}

impl From<Path<'_>> for String {
    fn from(path: Path<'_>) -> String {
        String::from(&path)
    }
}
