//! Makes `src/api/openapi/descriptions.zst`, what a Kubernetes release says of its types, fields and
//! parameters.
//!
//! `cargo run -p minik8s-api-gen -- FACTS descriptions > src/api/openapi/descriptions.zst`. The texts are the
//! Kubernetes Authors' (Apache License 2.0). `src/api/openapi/descriptions.rs` describes the format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;

use crate::{Swagger, short};

/// The packer's greatest effort that costs a reader no memory.
const LEVEL: i32 = 19;
pub(crate) fn write(swagger: &Swagger) -> Result<()> {
    let mut types = BTreeMap::new();
    for (name, definition) in &swagger.definitions {
        let properties = definition.properties.iter().flatten();
        let fields: BTreeMap<&str, &str> = properties
            .filter_map(|(field, property)| Some((field.as_str(), property.description.as_deref()?)))
            .collect();
        types.insert(short(name), (definition.description.as_deref().unwrap_or(""), fields));
    }
    // No type is called so.
    types.insert(":parameters".to_string(), ("", parameters(swagger)));
    let mut text = String::new();
    for (name, (about, fields)) in types {
        writeln!(text, "type {name} {}", escaped(about))?;
        for (field, about) in fields {
            writeln!(text, " {field} {}", escaped(about))?;
        }
    }
    std::io::stdout().write_all(&zstd::encode_all(text.as_bytes(), LEVEL)?)?;
    Ok(())
}

/// The parameters of queries, by name: those that operations share, then those that stand in operations.
fn parameters(swagger: &Swagger) -> BTreeMap<&str, &str> {
    let operations = swagger.paths.values().flat_map(|path| path.as_object().into_iter().flatten());
    let own = operations.filter_map(|(_, operation)| operation["parameters"].as_array()).flatten();
    let mut found = BTreeMap::new();
    for one in swagger.parameters.values().chain(own).filter(|one| one["in"] == "query") {
        if let (Some(name), Some(about)) = (one["name"].as_str(), one["description"].as_str()) {
            found.entry(name).or_insert(about);
        }
    }
    found
}

/// One line.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}
