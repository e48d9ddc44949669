//! The fields of a kind that selectors may name, and how to read them.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Object;

use super::fields::pick;
use crate::strategy::{References, Str, Strategy};

/// Asked of the strategy once; entries, indexes and filters of the kind share it.
pub(crate) struct Selectable {
    strategy: Arc<dyn Strategy>,
    /// Beyond `metadata.name` and `metadata.namespace`.
    pub(super) fields: Box<[Str]>,
    /// Those that the cache keeps an index of.
    pub(super) indexed: Box<[Str]>,
    references: Option<References>,
}

impl Selectable {
    pub(crate) fn of(strategy: Arc<dyn Strategy>) -> Self {
        let (fields, indexed) = (strategy.selectable_fields().into(), strategy.indexed_fields().into());
        let references = strategy.indexed_references();
        Selectable { strategy, fields, indexed, references }
    }

    /// Whether a selector may name this path.
    pub(crate) fn knows(&self, path: &str) -> bool {
        matches!(path, "metadata.name" | "metadata.namespace") || self.fields.iter().any(|own| own == path)
    }

    /// What an object refers to, each once, as the index has it.
    pub(super) fn references(&self, object: &Object) -> BTreeSet<Box<str>> {
        let Some(references) = self.references else { return BTreeSet::new() };
        let tree = pick(object.stored_bytes(), &[references.path]);
        let namespace = object.namespace();
        (references.of)(&tree).into_iter().map(|name| reference(namespace, name)).collect()
    }

    pub(super) fn strategy(&self) -> &dyn Strategy {
        &*self.strategy
    }
}

/// A name in a namespace, as the index of references has it.
pub(super) fn reference(namespace: Option<&str>, name: &str) -> Box<str> {
    format!("{}/{name}", namespace.unwrap_or_default()).into()
}
