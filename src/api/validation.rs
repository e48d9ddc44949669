//! What a valid object looks like, as far as every kind shares it: names, labels, annotations, metadata.
//!
//! The rules and messages are those of `k8s.io/apimachinery` (`pkg/util/validation`, `pkg/api/validation`):
//! clients and people match on them. Checks return faults; nothing here fails or panics on any input. What
//! one kind demands of its own fields is the API server's strategy for it.

mod addresses;
mod conditions;
mod faults;
mod meta;
mod names;
mod path;
mod selector;

#[cfg(test)]
mod tests;

pub use addresses::*;
pub use conditions::validate_conditions;
pub use faults::Faults;
pub use meta::{
    FIELD_IMMUTABLE, immutable, validate_annotations, validate_labels, validate_object_meta,
    validate_object_meta_update,
};
pub use names::*;
pub use path::Path;
pub use selector::{validate_label_selector, validate_set_operator};

use crate::FieldError;

/// Adds one `Invalid value` fault per message.
pub fn invalid_each(faults: &mut Faults, path: &Path<'_>, value: &str, messages: Vec<String>) {
    faults.extend(messages.into_iter().map(|message| FieldError::invalid(path, value, message)));
}
