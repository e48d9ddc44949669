//! What the user is told when a command cannot go on: one line that says what, why, and what to do.

use std::fmt;

/// A reason to stop. Printed once, at the edge, as `minik8s server: TEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(String);

impl Problem {
    /// `cannot WHAT: WHY; ADVICE`.
    pub fn new(what: impl fmt::Display, why: impl fmt::Display, advice: impl fmt::Display) -> Self {
        Problem(one_line(&format!("cannot {what}: {why}; {advice}")))
    }

    /// A sentence of its own shape.
    pub fn plain(text: impl fmt::Display) -> Self {
        Problem(one_line(&text.to_string()))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
