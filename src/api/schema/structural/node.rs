//! The nodes that a schema is parsed into: one for each value that it describes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Number, Value};

use super::allowed::Allowed;
use super::pattern::Pattern;
use crate::schema::place::Form;
use crate::schema::table::ListType;

/// The schema of one value.
#[derive(Debug, Default)]
pub struct Structural {
    /// None where any type will do.
    pub(in crate::schema) kind: Option<Kind>,
    pub(in crate::schema) nullable: bool,
    pub(in crate::schema) default: Option<Value>,
    pub(in crate::schema) properties: BTreeMap<String, Structural>,
    /// Those of the properties that have a default.
    pub(super) defaulted: Vec<String>,
    pub(in crate::schema) additional: Additional,
    pub(in crate::schema) items: Option<Box<Structural>>,
    pub(in crate::schema) preserve_unknown: bool,
    /// An object with `apiVersion`, `kind` and `metadata` of its own.
    pub(in crate::schema) embedded: bool,
    pub(in crate::schema) int_or_string: bool,
    pub(in crate::schema) list_type: Option<ListType>,
    pub(in crate::schema) list_map_keys: Vec<String>,
    pub(in crate::schema) atomic_map: bool,
    /// A string with a format.
    pub(in crate::schema) is_formatted: bool,
    pub(super) rules: Option<Box<Rules>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::schema) enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// Members beside `properties`.
#[derive(Debug, Default)]
pub(in crate::schema) enum Additional {
    /// They are unknown fields.
    #[default]
    Unspecified,
    /// `additionalProperties: true`.
    Any,
    Schema(Box<Structural>),
}

/// What a value must satisfy beyond its type.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) required: Vec<String>,
    pub(super) allowed: Option<Allowed>,
    pub(super) format: Format,
    pub(super) pattern: Option<Arc<Pattern>>,
    pub(super) minimum: Option<(Number, bool)>,
    pub(super) maximum: Option<(Number, bool)>,
    pub(super) multiple_of: Option<Number>,
    pub(super) length: Bounds,
    pub(super) items: Bounds,
    pub(super) properties: Bounds,
    pub(super) all_of: Vec<Structural>,
    pub(super) any_of: Vec<Structural>,
    pub(super) one_of: Vec<Structural>,
    pub(super) not: Option<Box<Structural>>,
}

/// Least and most.
pub(super) type Bounds = (Option<i64>, Option<i64>);

/// Formats that validation knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    #[default]
    Other,
    Int32,
}

impl Structural {
    /// The schema of an object's member, if it is known.
    pub(in crate::schema) fn member(&self, name: &str) -> Option<&Structural> {
        self.properties.get(name).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        })
    }

    /// What tells an element of a list here apart from others; nothing of a list without keys.
    pub(super) fn keys_of<'v>(&self, element: &'v Value) -> Vec<Option<&'v Value>> {
        self.list_map_keys.iter().map(|key| element.get(key)).collect()
    }

    /// The elements of a list by their keys; none of a list without keys.
    pub(super) fn by_keys<'v>(&self, list: Option<&'v Value>) -> HashMap<Vec<Option<&'v Value>>, &'v Value> {
        let list = list.and_then(Value::as_array).filter(|_| !self.list_map_keys.is_empty());
        list.into_iter().flatten().map(|element| (self.keys_of(element), element)).collect()
    }

    /// What a value here may be.
    pub(in crate::schema) fn form(&self) -> Form {
        match self.kind {
            None => Form::Any,
            Some(Kind::Object) => Form::Map,
            Some(Kind::Array) => Form::List,
            Some(Kind::String) if self.is_formatted => Form::Scalar,
            Some(Kind::String) => Form::Text,
            Some(Kind::Integer | Kind::Number) => Form::Number,
            Some(Kind::Boolean) => Form::Bool,
        }
    }

    /// Whether an object here may have members that the schema does not name.
    pub(in crate::schema) fn is_open(&self) -> bool {
        self.preserve_unknown
            || matches!(self.additional, Additional::Any)
            || (self.properties.is_empty() && matches!(self.additional, Additional::Unspecified))
    }

    /// How much more than the common work a byte of an object may be at worst: by patterns with many states,
    /// and by many schemas for one value.
    pub(super) fn density(&self) -> usize {
        let mut density = Density::default();
        density.node(self);
        1 + usize::try_from(density.pattern).unwrap_or(usize::MAX) / 64 + density.nested / 64
    }
}

#[derive(Default)]
struct Density {
    /// Steps of the most expensive pattern.
    pattern: u64,
    /// Schemas inside of `allOf` and its kin.
    nested: usize,
}

impl Density {
    fn node(&mut self, node: &Structural) {
        if let Some(rules) = &node.rules {
            let pattern = rules.pattern.as_ref().map_or(0, |pattern| pattern.steps());
            self.pattern = self.pattern.max(pattern);
            for one in [&rules.all_of, &rules.any_of, &rules.one_of]
                .into_iter()
                .flatten()
                .chain(rules.not.as_deref())
            {
                self.nested += 1;
                self.node(one);
            }
        }
        node.properties.values().chain(node.items.as_deref()).for_each(|child| self.node(child));
        if let Additional::Schema(child) = &node.additional {
            self.node(child);
        }
    }
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let all = [Kind::Object, Kind::Array, Kind::String, Kind::Integer, Kind::Number, Kind::Boolean];
        all.into_iter().find(|kind| kind.name() == name)
    }
}
