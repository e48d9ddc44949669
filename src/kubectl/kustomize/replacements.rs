//! Where replacements are written: in a kustomization, or in a file that it names.

use serde_json::Value;

use super::decode::Place;
use super::error::{BuildError, Built};
use super::kustomization::{Replacement, ReplacementField};
use super::loader::Loader;
use super::parse;

pub(crate) fn of_value(value: &Value, loader: &Loader) -> Built<Vec<Replacement>> {
    let place = Place::root("ReplacementField", true);
    let fields = place.list(value, "[]types.ReplacementField", |one| ReplacementField::decode(one, place))?;
    of_fields(&fields, loader)
}

pub(crate) fn of_fields(fields: &[ReplacementField], loader: &Loader) -> Built<Vec<Replacement>> {
    let mut replacements = Vec::new();
    for field in fields {
        let own = &field.replacement;
        if field.path.is_empty() {
            replacements.push(own.clone());
            continue;
        }
        if own.source.is_some() || own.targets.as_ref().is_some_and(|targets| !targets.is_empty()) {
            return Err(BuildError::told("cannot specify both path and inline replacement"));
        }
        let node = parse::document(&loader.load_text(&field.path)?)?;
        let tree = node.map_or(Ok(Value::Null), |node| node.to_json())?;
        let place = Place::root("Replacement", true);
        match &tree {
            Value::Array(items) => {
                for item in items {
                    replacements.push(ReplacementField::decode(item, place)?.replacement);
                }
            }
            Value::Object(_) => replacements.push(ReplacementField::decode(&tree, place)?.replacement),
            other => {
                let found = match other {
                    Value::Null => "invalid",
                    Value::String(_) => "string",
                    Value::Bool(_) => "bool",
                    _ => "int",
                };
                return Err(BuildError::told(format!(
                    "unsupported replacement type encountered within replacement path: {found}"
                )));
            }
        }
    }
    Ok(replacements)
}
