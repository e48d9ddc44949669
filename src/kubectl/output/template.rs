//! `-o go-template`: Go's text/template as far as templates on objects need it.
//!
//! Fields, variables, pipelines, `if`/`with`/`range` with `else`, `break` and `continue`, `define`,
//! `template` and `block`, trim markers, comments, and Go's functions with kubectl's `exists` and
//! `base64decode`. Numbers are floats, as for Go templates on decoded JSON. Absent: `call` and methods, as no
//! value is a function.

mod eval;
mod functions;
mod parse;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};

/// What is wrong with a template, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct TemplateError(String);

impl TemplateError {
    fn new(text: impl Into<String>) -> Self {
        TemplateError(text.into())
    }
}

pub(crate) struct Template {
    nodes: Vec<Node>,
    /// Templates that this one defines.
    defined: Defined,
    source: String,
}

/// Templates by their names.
type Defined = BTreeMap<String, Vec<Node>>;

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Action(Pipeline),
    /// Branches of `if … else if …` in order; the last without condition is `else`.
    If(Vec<(Option<Pipeline>, Vec<Node>)>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range {
        variables: Vec<String>,
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// Another template, on a value.
    Template(String, Option<Pipeline>),
    Break,
    Continue,
}

/// `$x := command | command`.
#[derive(Debug, Clone, PartialEq)]
struct Pipeline {
    /// Variable that takes the value, and whether it is new.
    assign: Option<(String, bool)>,
    commands: Vec<Vec<Term>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Term {
    /// `.a.b`; empty for the dot itself.
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Literal(Value),
    Function(String),
    Group(Box<Pipeline>, Vec<String>),
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (nodes, defined) = parse::template(text).map_err(|error| {
            Error::message(format!("error parsing template {text}, template: output:1: {error}"))
        })?;
        Ok(Template { nodes, defined, source: text.to_string() })
    }

    pub(crate) fn render(&self, object: &Value) -> Result<String> {
        eval::render(&self.nodes, &self.defined, object).map_err(|error| {
            Error::message(format!(
                "error executing template {:?}: template: output:1: executing \"output\": {error}",
                self.source
            ))
        })
    }
}

#[cfg(test)]
mod tests;
