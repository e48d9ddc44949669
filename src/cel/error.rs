//! Why an expression is none, and why one has no value.

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ERROR: <input>:{line}:{column}: {message}\n | {text}\n | {marker}^")]
pub struct ParseError {
    pub line: usize,
    pub column: usize,
    pub message: String,
    text: String,
    marker: String,
}

impl ParseError {
    /// At a byte of a source.
    pub(crate) fn at(source: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = source.get(..offset).unwrap_or(source);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before[start..].chars().count() + 1;
        let text = source[start..].lines().next().unwrap_or("").to_string();
        ParseError { line, column, message: message.into(), text, marker: ".".repeat(column - 1) }
    }
}

/// Why an evaluation comes to no value; in cel-go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    #[error("no such key: {0}")]
    NoKey(String),
    #[error("no such overload")]
    NoOverload,
    #[error("no such attribute(s): {0}")]
    NoAttribute(String),
    #[error("index out of bounds: {0}")]
    Bounds(i64),
    #[error("integer overflow")]
    Overflow,
    #[error("division by zero")]
    Division,
    #[error("modulus by zero")]
    Modulus,
    #[error("operation cancelled: actual cost limit exceeded")]
    Cost,
    #[error("{0}")]
    Other(String),
}

/// So many bytes of a text are shown: errors are kept and copied.
const SHOWN: usize = 1024;

fn shown(text: &str) -> &str {
    let end = (0..=SHOWN).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    if text.len() > SHOWN { &text[..end] } else { text }
}

impl EvalError {
    pub(crate) fn other(why: impl Into<String>) -> Self {
        let mut why = why.into();
        why.truncate(shown(&why).len());
        EvalError::Other(why)
    }

    /// A key that is not there.
    pub(crate) fn no_key(key: &str) -> Self {
        EvalError::NoKey(shown(key).to_string())
    }
}
