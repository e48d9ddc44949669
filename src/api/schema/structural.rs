//! Structural schemas: what a CustomResourceDefinition says its objects look like.
//!
//! A schema is parsed once, from the `openAPIV3Schema` of a definition's version, into a tree of nodes;
//! pruning, defaulting and validation walk that tree beside the object's. Messages are those of
//! kube-openapi's validator, which clients see upstream. What all of it may cost is bounded (`limits`).
//! Absent: `x-kubernetes-validations` (CEL), formats other than those of numbers, pruning inside of `allOf`
//! and its kin, which structural schemas do not need.

mod allowed;
mod default;
mod extensions;
mod invariants;
mod limits;
mod node;
mod parse;
mod pattern;
mod prune;
mod schema;
mod steps;
#[cfg(test)]
mod tests;
mod validate;

pub(crate) use limits::MAX_PATTERNS;
pub use limits::{MAX_NODES, MAX_STEPS};
pub use node::Structural;
pub use parse::Parser;
pub use schema::CustomSchema;
