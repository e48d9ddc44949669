//! Defaulting: what is absent, or null where null is no value, gets the schema's default; then what is inside
//! of it.
//!
//! A default is copied for every element of a list that lacks it, so what is copied is counted. Properties
//! without a default are not looked at: of a large schema, small objects see little.

use serde_json::Value;

use super::node::{Additional, Structural};
use crate::bounds::{Budget, Spent, TYPED};

impl Structural {
    /// Whether there is a default anywhere.
    pub fn has_defaults(&self) -> bool {
        let below = match &self.additional {
            Additional::Schema(child) => child.has_defaults(),
            _ => false,
        };
        !self.defaulted.is_empty()
            || below
            || self.items.as_deref().is_some_and(Structural::has_defaults)
            || self.properties.values().any(Structural::has_defaults)
    }

    /// Whether an object lacks something that has a default.
    pub fn lacks_defaults(&self, tree: &Value) -> bool {
        let mut complete = tree.clone();
        let done = self.default_values(&mut complete, &mut Budget::of(TYPED));
        done.is_err() || complete != *tree
    }

    /// Sets the defaults of an object of this schema.
    pub(crate) fn default_values(&self, value: &mut Value, budget: &mut Budget) -> Result<(), Spent> {
        match value {
            Value::Object(members) => {
                for name in &self.defaulted {
                    let default = self.properties.get(name).and_then(|child| child.default.as_ref());
                    if let Some(default) = default.filter(|_| !members.contains_key(name)) {
                        budget.member(members.len(), name)?;
                        budget.tree(default)?;
                        members.insert(name.clone(), default.clone());
                    }
                }
                for (name, value) in members.iter_mut() {
                    if let Some(child) = self.member(name) {
                        fill(value, child, budget)?;
                        child.default_values(value, budget)?;
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = &self.items else { return Ok(()) };
                for one in list {
                    fill(one, items, budget)?;
                    items.default_values(one, budget)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn fill(value: &mut Value, schema: &Structural, budget: &mut Budget) -> Result<(), Spent> {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = &schema.default
    {
        budget.tree(default)?;
        *value = default.clone();
    }
    Ok(())
}
