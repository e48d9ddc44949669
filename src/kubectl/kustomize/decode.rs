//! Reads a JSON tree into structures and says what does not fit in the words of Go's decoder.
//!
//! Go takes names of members in any case, leaves out what is null, and names the structure, the path to the
//! member and its type when a value does not fit.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::{BuildError, Built};

/// Where in the document a value stands.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    structure: &'static str,
    path: &'a str,
    /// What is not known is passed over, not refused.
    lenient: bool,
}

impl<'a> Place<'a> {
    pub(crate) fn root(structure: &'static str, lenient: bool) -> Place<'static> {
        Place { structure, path: "", lenient }
    }

    fn mismatch(self, value: &Value, ty: &str) -> BuildError {
        let found = match value {
            Value::Null => "null".to_string(),
            Value::Bool(_) => "bool".to_string(),
            Value::Number(one) if ty == "int" || ty == "int64" => format!("number {one}"),
            Value::Number(_) => "number".to_string(),
            Value::String(_) => "string".to_string(),
            Value::Array(_) => "array".to_string(),
            Value::Object(_) => "object".to_string(),
        };
        let structure = self.structure;
        if self.path.is_empty() {
            return BuildError::told(format!(
                "json: cannot unmarshal {found} into Go value of type types.{structure}"
            ));
        }
        BuildError::told(format!(
            "json: cannot unmarshal {found} into Go struct field {structure}.{} of type {ty}",
            self.path
        ))
    }

    /// The members of an object, by their names in lower case. `member` says whether it knows the name.
    pub(crate) fn members(
        self,
        value: &Value,
        ty: &str,
        known: &[(&'static str, &'static str)],
        member: &mut dyn FnMut(&'static str, &Value, Place<'_>) -> Built<()>,
    ) -> Built<()> {
        if value.is_null() {
            return Ok(());
        }
        let Value::Object(map) = value else { return Err(self.mismatch(value, ty)) };
        for (key, value) in map {
            let lower = key.to_lowercase();
            let Some((name, path)) = known.iter().find(|(name, _)| name.to_lowercase() == lower) else {
                if self.lenient {
                    continue;
                }
                return Err(BuildError::told(format!("json: unknown field {key:?}")));
            };
            let path = match self.path {
                "" => (*path).to_string(),
                own => format!("{own}.{path}"),
            };
            if !value.is_null() {
                member(name, value, Place { structure: self.structure, path: &path, lenient: self.lenient })?;
            }
        }
        Ok(())
    }

    pub(crate) fn is_of(self, structure: &str) -> bool {
        self.structure == structure
    }

    pub(crate) fn is_lenient(self) -> bool {
        self.lenient
    }

    pub(crate) fn in_structure(self, structure: &'static str) -> Place<'a> {
        Place { structure, ..self }
    }

    pub(crate) fn text(self, value: &Value) -> Built<String> {
        value.as_str().map(str::to_string).ok_or_else(|| self.mismatch(value, "string"))
    }

    pub(crate) fn flag(self, value: &Value) -> Built<bool> {
        value.as_bool().ok_or_else(|| self.mismatch(value, "bool"))
    }

    pub(crate) fn integer(self, value: &Value, ty: &str) -> Built<i64> {
        value.as_i64().ok_or_else(|| self.mismatch(value, ty))
    }

    pub(crate) fn texts(self, value: &Value) -> Built<Vec<String>> {
        self.list(value, "[]string", |one| if one.is_null() { Ok(String::new()) } else { self.text(one) })
    }

    pub(crate) fn list<T>(self, value: &Value, ty: &str, item: impl Fn(&Value) -> Built<T>) -> Built<Vec<T>> {
        match value {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) => items.iter().map(item).collect(),
            other => Err(self.mismatch(other, ty)),
        }
    }

    pub(crate) fn pairs(self, value: &Value) -> Built<BTreeMap<String, String>> {
        let Value::Object(map) = value else { return Err(self.mismatch(value, "map[string]string")) };
        let pair = |(key, one): (&String, &Value)| {
            let text = if one.is_null() { String::new() } else { self.text(one)? };
            Ok((key.clone(), text))
        };
        map.iter().map(pair).collect()
    }
}

/// Members whose names in errors are those that documents have.
pub(crate) const fn same<const N: usize>(names: [&'static str; N]) -> [(&'static str, &'static str); N] {
    let mut pairs = [("", ""); N];
    let mut at = 0;
    while at < N {
        pairs[at] = (names[at], names[at]);
        at += 1;
    }
    pairs
}
