//! The Kubernetes API as data: kinds, objects, errors, options and the arithmetic that several components
//! need.
//!
//! Everything here is pure: no tokio, no files, no clock, no randomness. Whoever needs the time passes it in.
//! The crate is a leaf: every other crate may use it, it uses none of ours.

pub mod affinity;
pub mod apply;
pub mod bounds;
pub mod cidr;
pub mod cron;
pub mod decode;
pub mod duration;
pub mod error;
pub mod identity;
pub mod ingress;
pub mod json;
pub mod jsonpath;
pub mod kinds;
pub mod managed;
pub mod object;
pub mod openapi;
pub mod options;
pub mod owner;
pub mod patch;
pub mod pod;
pub mod protobuf;
pub mod qos;
pub mod quantity;
pub mod quota;
pub mod re2;
pub mod resources;
pub mod schema;
pub mod selector;
pub mod taints;
pub mod template_hash;
pub mod time;
pub mod validation;
pub mod volumes;

#[doc(hidden)]
pub mod fuzzing;

pub use cidr::{Cidr, CidrError};
pub use error::{ApiError, FieldError, FieldErrorKind};
pub use identity::Identity;
pub use kinds::{KindRow, Kinded, Scope, Subresource};
pub use object::{Metadata, Object, ObjectError, OwnerReference};
pub use options::{
    CreateOptions, DeleteOptions, DryRun, FieldValidation, ListOptions, Patch, PatchKind, Preconditions,
    PropagationPolicy, ResourceVersionMatch, UpdateOptions, WatchEvent, WatchOptions,
};
pub use selector::{FieldSelector, LabelMatcher, LabelSelector};

/// What `/version`, nodes and kubectl report: the Kubernetes version that is spoken, and ours.
pub const GIT_VERSION: &str = concat!("v1.36.2+minik8s", env!("CARGO_PKG_VERSION_MINOR"));
