//! The Common Expression Language, as Kubernetes has it.
//!
//! A [`Program`] is parsed once and evaluated on JSON trees as they are: nothing of an object is copied to be
//! looked at. Every step of an evaluation is paid from a [`Budget`], so an expression ends whatever its
//! author had in mind; what is nested too deeply is refused when it is parsed. Messages are those of cel-go,
//! because users read them in the answers of an API server (decisions/0015 says why the language is here and
//! not a crate's).
//!
//! Absent: signatures of functions before they run, costs that are estimated before they run, messages of
//! protocol buffers.

mod ast;
mod authorizer;
mod budget;
mod checker;
mod duration;
mod error;
mod eval;
mod functions;
pub mod fuzzing;
mod lexer;
mod opaque;
mod operators;
mod parser;
mod patterns;
mod program;
mod shared;
mod types;
mod typing;
mod value;

#[cfg(test)]
mod tests;

pub use authorizer::{Authorizer, Check, Decision};
pub use budget::Budget;
pub use checker::Checked;
pub use error::{EvalError, ParseError};
pub use patterns::Library;
pub use program::{Activation, Program};
pub use shared::Shared;
pub use typing::{Fields, Type};
pub use value::{Key, Value};
