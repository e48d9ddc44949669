//! The registry: one generic implementation of every verb for every kind.
//!
//! A call has been authorized when it gets here. Handlers and in-process components use the same functions;
//! bodies are JSON trees, results are shared objects. Kinds differ by their [`Strategy`] only; the few
//! subresources that are not parts of an object (binding, scale, token) have a file each. At the bottom are
//! what a call is ([`call`]), what all verbs share ([`base`]) and the types of resources; verbs stand on
//! them, and [`dispatch`] on the verbs.

mod actions;
mod admit;
mod apply;
mod base;
mod body;
mod call;
mod claim;
mod components;
mod conversion;
mod create;
mod delete;
mod dispatch;
mod errors;
mod eviction;
mod fence;
mod leases;
mod managed;
mod metadata;
mod metrics;
pub(crate) mod names;
mod outward;
mod policies;
mod quota;
mod read;
mod refine;
pub(crate) mod repair;
mod request_options;
mod resource;
mod resources;
mod review;
mod reviews;
mod scale;
mod scale_paths;
pub(crate) mod strategies;
mod subresource;
pub(crate) mod unreadable;
mod update;
mod watch;

#[cfg(test)]
mod tests;

pub(crate) use actions::{delete_options, propagation};
pub(crate) use base::Registry;
pub(crate) use call::Call;
pub(crate) use conversion::{Conversion, Relabel};
pub(crate) use errors::{not_allowed, store_error, unknown};
pub(crate) use metadata::time;
pub(crate) use resource::{Backing, Resource};
pub(crate) use resources::{Answer, Group, Resources};
pub(crate) use scale_paths::{FieldPath, ScalePaths};
pub(crate) use subresource::{Connection, Part, Subresource};
pub(crate) use update::Source;
pub(crate) use watch::{Due, Watch};

use metadata::{meta, meta_str};
