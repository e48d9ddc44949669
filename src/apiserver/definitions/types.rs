//! The types that a schema gives to what its rules speak of.
//!
//! Upstream's declarations of types are stricter: what is not sure here is of any type.

use std::rc::Rc;

use cel::{Fields, Type};
use serde_json::Value;

/// The type of a value of a schema.
pub(super) fn of_schema(schema: &Value, is_whole: bool) -> Type<'_> {
    let is = |name: &str| schema[name] == true;
    if is("x-kubernetes-int-or-string") || is("x-kubernetes-preserve-unknown-fields") {
        return Type::Dyn;
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("boolean"), _) => Type::Bool,
        (Some("integer"), _) => Type::Int,
        (Some("number"), _) => Type::Double,
        (Some("string"), Some("date-time" | "datetime" | "date")) => Type::Timestamp,
        (Some("string"), Some("duration")) => Type::Duration,
        (Some("string"), None) => Type::String,
        // Other formats are strings, or bytes.
        (Some("string"), Some(_)) => Type::Dyn,
        (Some("array"), _) => Type::list(of_schema(&schema["items"], false)),
        (Some("object"), _) if schema["additionalProperties"].is_object() => {
            Type::map(of_schema(&schema["additionalProperties"], false))
        }
        (Some("object"), _) if schema["properties"].is_object() || is_whole => {
            let is_whole = is_whole || is("x-kubernetes-embedded-resource");
            Type::Object(Rc::new(Declared { schema, is_whole }))
        }
        _ => Type::Dyn,
    }
}

/// An object whose fields a schema declares.
struct Declared<'s> {
    schema: &'s Value,
    /// It has a kind and metadata.
    is_whole: bool,
}

impl<'s> Fields<'s> for Declared<'s> {
    fn name(&self) -> String {
        "object".into()
    }

    fn field(&self, name: &str) -> Option<Type<'s>> {
        match name {
            "apiVersion" | "kind" if self.is_whole => return Some(Type::String),
            "metadata" if self.is_whole => return Some(Type::Dyn),
            _ => {}
        }
        self.schema["properties"].get(name).map(|schema| of_schema(schema, false))
    }
}
