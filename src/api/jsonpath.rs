//! The JSONPath dialect of kubectl and of printer columns: text with `{…}` actions, fields, indices, slices,
//! wildcards, unions, filters, recursion, `{range}…{end}` and quoted literals.
//!
//! Follows `k8s.io/client-go/util/jsonpath`, with its oddities: `$` and `@` both mean the current object,
//! several results of one action are joined by a space, objects and lists print as JSON. Pure.

mod eval;
mod parse;

use serde_json::Value;

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    nodes: Vec<Part>,
    source: String,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Expression(Vec<PathStep>),
    /// `{range EXPR} … {end}`.
    Range(Vec<PathStep>, Vec<Part>),
}

/// One step of an expression, from each current value to others.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum PathStep {
    Field(String),
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: Option<i64>,
        single: bool,
    },
    Wildcard,
    Recursive,
    Union(Vec<Vec<PathStep>>),
    Filter {
        left: Vec<PathStep>,
        operator: String,
        right: Vec<PathStep>,
    },
    /// A constant instead of what came in: a quoted string, a number or a boolean.
    Literal(Value),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonPathError(String);

impl JsonPath {
    pub fn parse(template: &str) -> Result<Self, JsonPathError> {
        let nodes = parse::template(template)?;
        Ok(JsonPath { nodes, source: template.to_string() })
    }

    /// `.a.b`, `a.b` and `{.a.b}` alike: columns, `--sort-by` and `wait` take all three.
    pub fn parse_relaxed(expression: &str) -> Result<Self, JsonPathError> {
        let trimmed = expression.trim();
        let inner =
            trimmed.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(trimmed).trim();
        if inner.is_empty() {
            return Err(JsonPathError(format!(
                "unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{{name1.name2}}' or '{{.name1.name2}}', got {expression:?}"
            )));
        }
        let dotted = inner.starts_with(['.', '[', '$', '@']);
        Self::parse(&if dotted { format!("{{{inner}}}") } else { format!("{{.{inner}}}") })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text for an object. Missing fields print nothing; an index out of bounds is an error.
    pub fn render(&self, object: &Value) -> Result<String, JsonPathError> {
        let mut out = String::new();
        eval::render(&self.nodes, object, &eval::Budget::new(u64::MAX), &mut out)?;
        Ok(out)
    }

    /// The values of the template's expressions, in order.
    pub fn values(&self, object: &Value) -> Result<Vec<Value>, JsonPathError> {
        eval::values(&self.nodes, object, &eval::Budget::new(u64::MAX), usize::MAX)
    }

    /// The first of the values; an error if more than `budget` values must be looked at for it. For paths
    /// that others have written: a dozen characters can reach more values than fit into memory.
    pub fn first(&self, object: &Value, budget: u64) -> Result<Option<Value>, JsonPathError> {
        Ok(eval::values(&self.nodes, object, &eval::Budget::new(budget), 1)?.pop())
    }
}

/// How a value prints: text bare, objects and lists as JSON, null as Go prints it.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
