//! What a function is given, and what it answers.

use crate::authorizer::Authorizer;
use crate::budget::Budget;
use crate::patterns::Patterns;
use crate::value::{Evaluated, Value};

/// A call: a name, what it is called on if anything, arguments.
pub(crate) struct Call<'c, 'a> {
    pub(crate) name: &'c str,
    pub(crate) target: Option<Value<'a>>,
    pub(crate) arguments: Vec<Value<'a>>,
    pub(crate) budget: &'c Budget,
    pub(crate) patterns: &'c Patterns<'a>,
    pub(crate) authorizer: Option<&'c dyn Authorizer>,
}

/// A family's answer: none if it does not know the function for these values.
pub(super) type Answer<'a> = Option<Evaluated<'a>>;

pub(super) fn text_of<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}
