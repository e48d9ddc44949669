//! The fields of a kind that selectors may name, and how to read them.

use std::sync::Arc;

use crate::strategy::{Str, Strategy};

/// Asked of the strategy once; entries, indexes and filters of the kind share it.
pub(crate) struct Selectable {
    strategy: Arc<dyn Strategy>,
    /// Beyond `metadata.name` and `metadata.namespace`.
    pub(super) fields: Box<[Str]>,
    /// Those that the cache keeps an index of.
    pub(super) indexed: Box<[Str]>,
}

impl Selectable {
    pub(crate) fn of(strategy: Arc<dyn Strategy>) -> Self {
        let (fields, indexed) = (strategy.selectable_fields().into(), strategy.indexed_fields().into());
        Selectable { strategy, fields, indexed }
    }

    /// Whether a selector may name this path.
    pub(crate) fn knows(&self, path: &str) -> bool {
        matches!(path, "metadata.name" | "metadata.namespace") || self.fields.iter().any(|own| own == path)
    }

    pub(super) fn strategy(&self) -> &dyn Strategy {
        &*self.strategy
    }
}
