//! `crds` and `configurations`: what files say about fields of kinds that kustomize does not know.

use serde_json::Value;

use super::decode::Place;
use super::error::{BuildError, Built};
use super::ids::Gvk;
use super::loader::Loader;
use super::parse;
use super::specs::{FieldSpec, NameReference, Tables, merge_all};

/// Levels of types that may stand in each other.
const MAX_DEPTH: usize = 32;

fn tree(loader: &Loader, path: &str) -> Built<Value> {
    let node = parse::document(&loader.load_text(path)?)?;
    node.map_or(Ok(Value::Null), |node| node.to_json())
}

/// The tables of transformer configurations.
pub(crate) fn configurations(loader: &Loader, files: &[String]) -> Built<Tables> {
    let mut tables = Tables::default();
    for file in files {
        let Value::Object(sections) = tree(loader, file)? else { continue };
        let mut read = Tables::default();
        for (name, value) in &sections {
            let place = Place::root("TransformerConfig", true);
            if name == "nameReference" {
                read.name_reference = place.list(value, "builtinconfig.nbrSlice", |one| {
                    let target = FieldSpec::decode(one, place)?;
                    let referrers = FieldSpec::decode_all(&one["fieldSpecs"], place)?;
                    Ok(NameReference { gvk: target.gvk, referrers })
                })?;
            } else if let Some(table) = read.table(name) {
                *table = FieldSpec::decode_all(value, place)?;
            } else {
                return Err(BuildError::told(format!(
                    "error unmarshaling JSON: while decoding JSON: json: unknown field {name:?}"
                )));
            }
        }
        tables.merge(read)?;
    }
    Ok(tables)
}

/// The tables that OpenAPI definitions of custom kinds ask for by extensions of their fields.
pub(crate) fn definitions(loader: &Loader, files: &[String]) -> Built<Tables> {
    let mut tables = Tables::default();
    for file in files {
        let types = tree(loader, file).map_err(|error| {
            if error.is_malformed() {
                return error.doing(format!("unable to parse open API definition from '{file}'"));
            }
            error
        })?;
        let Value::Object(map) = &types else { continue };
        for (name, ty) in map {
            let properties = &ty["Schema"]["properties"];
            let is_kind = ["kind", "apiVersion", "metadata"].iter().all(|one| !properties[*one].is_null());
            if !is_kind {
                continue;
            }
            let kind = name.rsplit('.').next().unwrap_or(name).to_string();
            let mut read = Tables::default();
            walk(&Gvk { kind, ..Gvk::default() }, &types, name, "", 0, &mut read)?;
            tables.merge(read)?;
        }
    }
    Ok(tables)
}

fn walk(gvk: &Gvk, types: &Value, name: &str, path: &str, depth: usize, tables: &mut Tables) -> Built<()> {
    if depth > MAX_DEPTH {
        return Err(BuildError::told(format!("types of {} nest deeper than {MAX_DEPTH}", gvk.kind)));
    }
    let Value::Object(properties) = &types[name]["Schema"]["properties"] else { return Ok(()) };
    for (property, schema) in properties {
        let path = if path.is_empty() { property.clone() } else { format!("{path}/{property}") };
        let spec = |path: &str| FieldSpec { gvk: gvk.clone(), path: path.to_string(), create: false };
        let says = |extension: &str| schema[extension].as_str();
        if says("x-kubernetes-annotation").is_some() {
            merge_all(&mut tables.common_annotations, vec![spec(&path)])?;
        }
        if says("x-kubernetes-label-selector").is_some() {
            merge_all(&mut tables.common_labels, vec![spec(&path)])?;
        }
        if says("x-kubernetes-identity").is_some() {
            merge_all(&mut tables.name_prefix, vec![spec(&path)])?;
        }
        let refers = (says("x-kubernetes-object-ref-api-version"), says("x-kubernetes-object-ref-kind"));
        if let (Some(version), Some(kind)) = refers {
            let key = says("x-kubernetes-object-ref-name-key").unwrap_or("name");
            let target = Gvk { kind: kind.to_string(), version: version.to_string(), ..Gvk::default() };
            let referrers = vec![spec(&format!("{path}/{key}"))];
            tables.merge(Tables {
                name_reference: vec![NameReference { gvk: target, referrers }],
                ..Tables::default()
            })?;
        }
        if let Some(reference) = schema["$ref"].as_str() {
            walk(gvk, types, reference, &path, depth + 1, tables)?;
        }
    }
    Ok(())
}
