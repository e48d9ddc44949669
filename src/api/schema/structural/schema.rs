//! [`Schema`] for custom resources.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::node::Structural;
use crate::bounds::{Budget, MAX_FAULTS, Spent, TYPED};
use crate::schema::check::check_type;
use crate::schema::{Place, Schema, TypeRef, by_name};
use crate::validation::Faults;
use crate::{ApiError, FieldValidation};

/// The schema of a kind from a definition.
pub struct CustomSchema {
    kind: String,
    version: String,
    root: Arc<Structural>,
    density: usize,
}

impl CustomSchema {
    pub fn new(version: &str, kind: &str, root: impl Into<Arc<Structural>>) -> Self {
        let root = root.into();
        let density = root.density();
        CustomSchema { kind: kind.to_string(), version: version.to_string(), root, density }
    }
}

impl Schema for CustomSchema {
    fn check(
        &self,
        tree: &mut Value,
        duplicates: &[String],
        validation: FieldValidation,
    ) -> Result<Vec<String>, ApiError> {
        // Metadata is the same for all kinds, and so are the faults of its types.
        let mut metadata = json!({ "metadata": tree["metadata"].take() });
        let (kind, version) = (&self.kind, &self.version);
        let found = check_type(metadata_only(), version, kind, &mut metadata, &[], FieldValidation::Warn)?;
        tree["metadata"] = match metadata["metadata"].take() {
            Value::Null => json!({}),
            metadata => metadata,
        };
        let gone = self.root.prune(tree);
        let duplicates = duplicates.iter().map(|path| format!("duplicate field {path:?}"));
        let unknown = gone.iter().map(|path| format!("unknown field {path:?}"));
        let faults: Vec<String> = duplicates.chain(found).chain(unknown).take(MAX_FAULTS).collect();
        match validation {
            FieldValidation::Ignore => Ok(Vec::new()),
            FieldValidation::Strict if !faults.is_empty() => Err(ApiError::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {}",
                faults.join(", ")
            ))),
            FieldValidation::Strict | FieldValidation::Warn => Ok(faults),
        }
    }

    fn default(&self, tree: &mut Value) -> Result<(), Spent> {
        self.root.default_values(tree, &mut Budget::of(TYPED))
    }

    fn prune(&self, tree: &mut Value) -> bool {
        !self.root.prune(tree).is_empty()
    }

    fn weight(&self, bytes: usize) -> usize {
        bytes.saturating_mul(self.density)
    }

    fn validate(&self, tree: &Value, old: Option<&Value>) -> Faults {
        let faults = self.root.faults(tree, "");
        // What was wrong before is looked for only where something is wrong.
        match old {
            Some(old) if !faults.is_empty() => self.root.faults_since(tree, Some(old), ""),
            _ => faults,
        }
    }

    fn root(&self) -> Place<'_> {
        Place::Structural(&self.root)
    }
}

/// A type of the table that has nothing but metadata.
fn metadata_only() -> Option<TypeRef> {
    static TYPE: OnceLock<Option<TypeRef>> = OnceLock::new();
    *TYPE.get_or_init(|| by_name("apimachinery.pkg.apis.meta.v1.PartialObjectMetadata"))
}
