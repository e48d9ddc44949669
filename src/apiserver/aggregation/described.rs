//! What a server says of itself, in the form in which it is told on.
//!
//! The entry of the aggregated discovery is made once, when the server has been asked, and shared by all
//! answers. Both what is read and what is made of it is bounded: a document belongs to another server, and
//! everybody's discovery would carry it.

use std::collections::HashMap;

use serde_json::{Value, json};

/// Resources and subresources of one version.
const MAX_ENTRIES: usize = 10_000;
/// Bytes of the entry of one version.
const MAX_BYTES: usize = 4 << 20;

/// What a server that answers says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Described {
    /// Its version in the aggregated discovery, as JSON.
    pub(crate) version: String,
    /// The hash of its OpenAPI document.
    pub(crate) openapi: Option<String>,
}

/// Why a list of resources is not told on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooLarge {
    #[error("its list of resources has more than {MAX_ENTRIES} entries")]
    Entries,
    #[error("its list of resources takes more than {MAX_BYTES} bytes")]
    Bytes,
}

/// A version of the aggregated discovery from an `APIResourceList`.
pub(super) fn version(group: &str, version: &str, list: &Value) -> Result<String, TooLarge> {
    let entries = list["resources"].as_array().map_or(&[][..], Vec::as_slice);
    if entries.len() > MAX_ENTRIES {
        return Err(TooLarge::Entries);
    }
    let kind = |entry: &Value| {
        let part = |name: &str, other: &str| {
            entry[name].as_str().filter(|text| !text.is_empty()).unwrap_or(other).to_string()
        };
        let kind = entry["kind"].as_str().unwrap_or("");
        json!({ "group": part("group", group), "version": part("version", version), "kind": kind })
    };
    let mut parts: HashMap<&str, Vec<(&str, &Value)>> = HashMap::new();
    for entry in entries {
        if let Some((resource, part)) = entry["name"].as_str().and_then(|name| name.split_once('/')) {
            parts.entry(resource).or_default().push((part, entry));
        }
    }
    let mut made = String::from(r#"{"freshness":"Current","resources":["#);
    let mut is_first = true;
    for entry in entries {
        let name = entry["name"].as_str().unwrap_or("");
        if name.contains('/') {
            continue;
        }
        let scope = if entry["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let mut resource = json!({
            "resource": name, "responseKind": kind(entry), "scope": scope,
            "singularResource": entry["singularName"], "verbs": entry["verbs"],
        });
        for member in ["shortNames", "categories"] {
            if entry[member].is_array() {
                resource[member] = entry[member].clone();
            }
        }
        // A name that is there again has no more of them, so that they are told once.
        if let Some(parts) = parts.remove(name) {
            let part = |(name, entry): (&str, &Value)| json!({ "subresource": name, "responseKind": kind(entry), "verbs": entry["verbs"] });
            resource["subresources"] = parts.into_iter().map(part).collect();
        }
        if !std::mem::replace(&mut is_first, false) {
            made.push(',');
        }
        made.push_str(&resource.to_string());
        if made.len() > MAX_BYTES {
            return Err(TooLarge::Bytes);
        }
    }
    made.push_str(&format!(r#"],"version":{}}}"#, json!(version)));
    Ok(made)
}
