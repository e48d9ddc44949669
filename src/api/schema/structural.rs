//! Structural schemas: what a CustomResourceDefinition says its objects look like.
//!
//! A schema is parsed once, from the `openAPIV3Schema` of a definition's version, into a tree of nodes; pruning, defaulting
//! and validation walk that tree beside the object's. Messages are those of kube-openapi's validator, which clients see
//! upstream. Absent: `x-kubernetes-validations` (CEL), formats other than those of numbers, pruning inside of `allOf` and
//! its kin, which structural schemas do not need.

mod default;
mod parse;
mod prune;
mod schema;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::{Number, Value};

use super::table::ListType;

pub use schema::CustomSchema;

/// The schema of one value.
#[derive(Debug, Default)]
pub struct Structural {
    /// None where any type will do.
    pub(super) kind: Option<Kind>,
    pub(super) nullable: bool,
    pub(super) default: Option<Value>,
    pub(super) properties: BTreeMap<String, Structural>,
    pub(super) additional: Additional,
    pub(super) items: Option<Box<Structural>>,
    pub(super) preserve_unknown: bool,
    /// An object with `apiVersion`, `kind` and `metadata` of its own.
    pub(super) embedded: bool,
    pub(super) int_or_string: bool,
    pub(super) list_type: Option<ListType>,
    pub(super) list_map_keys: Vec<String>,
    pub(super) atomic_map: bool,
    rules: Option<Box<Rules>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// Members beside `properties`.
#[derive(Debug, Default)]
pub(super) enum Additional {
    /// They are unknown fields.
    #[default]
    Unspecified,
    /// `additionalProperties: true`.
    Any,
    Schema(Box<Structural>),
}

/// What a value must satisfy beyond its type.
#[derive(Debug, Default)]
struct Rules {
    required: Vec<String>,
    allowed: Vec<Value>,
    format: String,
    pattern: Option<Pattern>,
    minimum: Option<(Number, bool)>,
    maximum: Option<(Number, bool)>,
    multiple_of: Option<Number>,
    length: Bounds,
    items: Bounds,
    properties: Bounds,
    all_of: Vec<Structural>,
    any_of: Vec<Structural>,
    one_of: Vec<Structural>,
    not: Option<Box<Structural>>,
}

/// Least and most.
type Bounds = (Option<i64>, Option<i64>);

/// A regular expression, compiled for the first value: most definitions see none.
#[derive(Debug)]
struct Pattern {
    text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Structural {
    /// The schema of an object's member, if it is known.
    pub(super) fn member(&self, name: &str) -> Option<&Structural> {
        self.properties.get(name).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        })
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let all = [Kind::Object, Kind::Array, Kind::String, Kind::Integer, Kind::Number, Kind::Boolean];
        all.into_iter().find(|kind| kind.name() == name)
    }
}

impl Pattern {
    fn new(text: &str) -> Self {
        Pattern { text: text.to_string(), compiled: OnceLock::new() }
    }

    /// An expression that cannot be compiled matches everything: the definition's own validation refuses it.
    fn matches(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| compile(&self.text));
        compiled.as_ref().is_none_or(|pattern| pattern.is_match(text))
    }
}

/// Bounded, because whoever may write a definition shall not thereby take the server's memory.
fn compile(text: &str) -> Option<Regex> {
    regex::RegexBuilder::new(text).size_limit(1 << 20).dfa_size_limit(1 << 20).build().ok()
}
