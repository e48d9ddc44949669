//! The schema of one kind as the write path uses it.

use serde_json::Value;

use super::check::check_type;
use super::defaults::apply_type_defaults;
use super::place::Place;
use super::table::{TypeRef, for_gvk};
use crate::bounds::Spent;
use crate::validation::Faults;
use crate::{ApiError, FieldValidation, KindRow};

/// What the write path asks of a kind's schema, built in or from a definition.
pub trait Schema: Send + Sync {
    /// Brings a decoded body into the form of its kind: unknown fields go, values get their canonical form.
    /// Returns warnings about unknown fields and `duplicates`; `Strict` makes them a 400.
    fn check(
        &self,
        tree: &mut Value,
        duplicates: &[String],
        validation: FieldValidation,
    ) -> Result<Vec<String>, ApiError>;

    /// Sets the defaults that follow from the object alone. The tree has been checked. An error if they would
    /// take more memory than one object may.
    fn default(&self, tree: &mut Value) -> Result<(), Spent>;

    /// Drops fields that the schema does not know, of an object that was stored under another schema; tells
    /// whether there were any.
    fn prune(&self, tree: &mut Value) -> bool;

    /// So many bytes of an object under this schema are as much work as how many of a common kind.
    fn weight(&self, bytes: usize) -> usize {
        bytes
    }

    /// Faults of an object's values, but for those that have not changed since `old`. Those of built-in kinds
    /// are found by their strategies.
    fn validate(&self, _tree: &Value, _old: Option<&Value>) -> Faults {
        Faults::new()
    }

    /// Where a walk over an object begins: list types, merge keys, what is atomic.
    fn root(&self) -> Place<'_>;
}

/// The schema of a kind in the table of types.
pub struct BuiltIn {
    kind: String,
    version: String,
    ty: Option<TypeRef>,
}

impl BuiltIn {
    pub fn of(row: &KindRow) -> Self {
        Self::named(&row.group, &row.version, &row.kind)
    }

    /// The schema of a version that is another under another name: it has the other's types and defaults.
    pub fn like(row: &KindRow, other: &KindRow) -> Self {
        let ty = for_gvk(&other.group, &other.version, &other.kind);
        BuiltIn { kind: row.kind.to_string(), version: row.version.to_string(), ty }
    }

    /// A kind that need not have a row, such as `autoscaling/v1` `Scale`. A kind that the table does not know
    /// is left as it is.
    pub fn named(group: &str, version: &str, kind: &str) -> Self {
        BuiltIn { kind: kind.into(), version: version.into(), ty: for_gvk(group, version, kind) }
    }
}

impl Schema for BuiltIn {
    fn check(
        &self,
        tree: &mut Value,
        duplicates: &[String],
        validation: FieldValidation,
    ) -> Result<Vec<String>, ApiError> {
        check_type(self.ty, &self.version, &self.kind, tree, duplicates, validation)
    }

    // What these may take has been counted by the check.
    fn default(&self, tree: &mut Value) -> Result<(), Spent> {
        if let Some(ty) = self.ty {
            apply_type_defaults(ty, tree);
        }
        Ok(())
    }

    // Built-in types only ever gain fields: what is stored stays.
    fn prune(&self, _tree: &mut Value) -> bool {
        false
    }

    fn root(&self) -> Place<'_> {
        Place::from(self.ty)
    }
}
