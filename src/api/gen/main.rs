//! Makes `src/api/schema/types.txt`, the schema table, from facts of a Kubernetes release.
//!
//! Run by hand when moving to another release:
//! `cargo run -p minik8s-api-gen -- FACTS > src/api/schema/types.txt`, where FACTS holds `swagger.json` (the
//! release's OpenAPI v2 document) and `protobuf-fields.json` (message → field →
//! `[number, type, "repeated"?]`). The output is text, one field a line, so that a new release shows as a
//! readable diff; `src/api/schema/table.rs` describes the format. With `discovery` as second argument it
//! lists what the release serves (`discovery`), with `descriptions` it packs the texts (`descriptions`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

mod descriptions;
mod discovery;
mod facts;

#[derive(Deserialize)]
struct Swagger {
    definitions: BTreeMap<String, Definition>,
    paths: BTreeMap<String, serde_json::Value>,
    parameters: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct Definition {
    description: Option<String>,
    properties: Option<BTreeMap<String, Property>>,
    required: Vec<String>,
    #[serde(rename = "x-kubernetes-group-version-kind")]
    kinds: Vec<Kind>,
    #[serde(rename = "x-kubernetes-map-type")]
    map_type: Option<String>,
}

#[derive(Deserialize, Clone)]
struct Kind {
    group: String,
    version: String,
    kind: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct Property {
    description: Option<String>,
    #[serde(rename = "$ref")]
    reference: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    format: Option<String>,
    items: Option<Box<Property>>,
    #[serde(rename = "additionalProperties")]
    values: Option<Box<Property>>,
    #[serde(rename = "x-kubernetes-list-type")]
    list_type: Option<String>,
    #[serde(rename = "x-kubernetes-list-map-keys")]
    list_keys: Vec<String>,
    #[serde(rename = "x-kubernetes-map-type")]
    map_type: Option<String>,
    #[serde(rename = "x-kubernetes-patch-merge-key")]
    merge_key: Option<String>,
    #[serde(rename = "x-kubernetes-patch-strategy")]
    strategy: Option<String>,
}

/// Field → number, type, repeated.
type Message = BTreeMap<String, Vec<serde_json::Value>>;
type Messages = BTreeMap<String, Message>;

/// One field of the table.
struct Field {
    name: String,
    number: u64,
    ty: String,
    attributes: Vec<String>,
}

struct Type {
    fields: Vec<Field>,
    inline: Vec<(u64, String)>,
    kinds: Vec<Kind>,
    atomic: bool,
}

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).context("usage: minik8s-api-gen FACTS")?;
    let read = |name: &str| {
        let path = std::path::Path::new(&folder).join(name);
        std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
    };
    let swagger: Swagger = serde_json::from_slice(&read("swagger.json")?)?;
    if std::env::args().nth(2).as_deref() == Some("discovery") {
        let found = serde_json::from_slice(&read("discovery-aggregated-v2.json")?)?;
        return discovery::write(&found, &swagger.paths);
    }
    if std::env::args().nth(2).as_deref() == Some("descriptions") {
        return descriptions::write(&swagger);
    }
    let messages: Messages = serde_json::from_slice(&read("protobuf-fields.json")?)?;
    let mut types = BTreeMap::new();
    for (name, definition) in &swagger.definitions {
        if let (None, Some(properties)) = (facts::scalar(name), &definition.properties) {
            types.insert(short(name), described(name, definition, properties, &messages)?);
        } else if facts::scalar(name).is_none() {
            types.insert(short(name), described(name, definition, &BTreeMap::new(), &messages)?);
        }
    }
    add_message_only_types(&mut types, &messages)?;
    check_references(&types)?;
    write(&types)
}

/// `io.k8s.api.core.v1.Pod` and `k8s.io.api.core.v1.Pod` → `api.core.v1.Pod`.
fn short(name: &str) -> String {
    name.trim_start_matches("io.k8s.").trim_start_matches("k8s.io.").replace('_', "-")
}

fn message<'a>(messages: &'a Messages, name: &str) -> Option<&'a Message> {
    messages.get(&format!("k8s.io.{}", short(name).replace('-', "_")))
}

/// JSON and protobuf spell some names differently (`uid` and `uID`, `x-kubernetes-map-type` and
/// `xKubernetesMapType`).
fn folded(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn described(
    name: &str,
    definition: &Definition,
    properties: &BTreeMap<String, Property>,
    messages: &Messages,
) -> Result<Type> {
    let numbers: BTreeMap<String, (u64, String)> = message(messages, name)
        .into_iter()
        .flatten()
        .map(|(field, facts)| Ok((folded(field), (number(facts)?, wire_type(facts)?))))
        .collect::<Result<_>>()?;
    let mut used = BTreeSet::new();
    let mut fields = Vec::new();
    for (field, property) in properties {
        let is_type_meta = !definition.kinds.is_empty() && matches!(field.as_str(), "apiVersion" | "kind");
        let number = numbers.get(&folded(field)).filter(|_| !is_type_meta).map_or(0, |(number, _)| *number);
        used.insert(folded(field));
        let owner = name.rsplit('.').next().unwrap_or_default();
        let ty = json_type(property).with_context(|| format!("{name}.{field}"))?;
        fields.push(Field {
            name: field.clone(),
            number,
            attributes: attributes(owner, field, &ty, property, definition.required.contains(field)),
            ty,
        });
    }
    let inline = numbers
        .iter()
        .filter(|(field, _)| !used.contains(*field))
        .map(|(_, (number, ty))| (*number, short(ty)))
        .collect();
    let atomic = definition.map_type.as_deref() == Some("atomic");
    Ok(Type { fields, inline, kinds: definition.kinds.clone(), atomic })
}

fn number(facts: &[serde_json::Value]) -> Result<u64> {
    facts.first().and_then(serde_json::Value::as_u64).context("a field without number")
}

fn wire_type(facts: &[serde_json::Value]) -> Result<String> {
    Ok(facts.get(1).and_then(serde_json::Value::as_str).context("a field without type")?.to_string())
}

fn json_type(property: &Property) -> Result<String> {
    if let Some(reference) = &property.reference {
        let name = reference.trim_start_matches("#/definitions/");
        return Ok(facts::scalar(name).map_or_else(|| format!("@{}", short(name)), str::to_string));
    }
    Ok(match (property.kind.as_deref(), property.format.as_deref()) {
        (Some("array"), _) => {
            format!("[]{}", json_type(property.items.as_deref().context("an array without items")?)?)
        }
        (Some("object"), _) => {
            format!("{{}}{}", json_type(property.values.as_deref().context("an object without values")?)?)
        }
        (Some("string"), Some("byte")) => "bytes".to_string(),
        (Some("string"), _) => "string".to_string(),
        (Some("integer"), Some("int32")) => "int32".to_string(),
        (Some("integer"), _) => "int64".to_string(),
        (Some("number"), _) => "number".to_string(),
        (Some("boolean"), _) => "bool".to_string(),
        other => bail!("unknown type {other:?}"),
    })
}

fn attributes(owner: &str, field: &str, ty: &str, property: &Property, required: bool) -> Vec<String> {
    let mut attributes = Vec::new();
    if required {
        attributes.push("required".to_string());
    } else if facts::is_omitted_when_zero(owner, field, property.kind.as_deref()) {
        attributes.push("zero".to_string());
    } else if facts::is_embedded(owner, field, ty) {
        attributes.push("embedded".to_string());
    }
    if let Some(list_type) = &property.list_type {
        attributes.push(format!("list={list_type}"));
    }
    if !property.list_keys.is_empty() {
        attributes.push(format!("keys={}", property.list_keys.join(",")));
    }
    if let Some(map_type) = &property.map_type {
        attributes.push(format!("map={map_type}"));
    }
    if let Some(strategy) = &property.strategy {
        attributes.push(format!("patch={strategy}"));
    }
    if let Some(key) = &property.merge_key {
        attributes.push(format!("mergeKey={key}"));
    }
    attributes
}

/// Messages without a JSON definition: what is inline in others, and options, lists and reviews that have no
/// path.
fn add_message_only_types(types: &mut BTreeMap<String, Type>, messages: &Messages) -> Result<()> {
    let mut wanted: Vec<String> = facts::MESSAGE_ONLY.iter().map(|(name, ..)| name.to_string()).collect();
    wanted.extend(types.values().flat_map(|ty| &ty.inline).map(|(_, name)| name.clone()));
    while let Some(name) = wanted.pop() {
        if types.contains_key(&name) {
            continue;
        }
        let fields = message(messages, &name).with_context(|| format!("no message {name}"))?;
        let own = facts::MESSAGE_ONLY.iter().find(|(own, ..)| *own == name);
        let kinds =
            own.iter().filter(|(.., version)| !version.is_empty()).map(|(name, group, version)| Kind {
                group: group.to_string(),
                version: version.to_string(),
                kind: name.rsplit('.').next().unwrap_or_default().to_string(),
            });
        let mut ty = Type { fields: Vec::new(), inline: Vec::new(), kinds: kinds.collect(), atomic: false };
        for (field, facts) in fields {
            let reference = short(&wire_type(facts)?);
            if facts::INLINE_IN_MESSAGE_ONLY.contains(&(name.as_str(), field.as_str())) {
                wanted.push(reference.clone());
                ty.inline.push((number(facts)?, reference));
                continue;
            }
            let owner = name.rsplit('.').next().unwrap_or_default();
            let wire = message_type(facts)?;
            let zero = facts::is_omitted_when_zero(owner, field, json_kind(&wire));
            ty.fields.push(Field {
                name: field.clone(),
                number: number(facts)?,
                attributes: if zero { vec!["zero".to_string()] } else { Vec::new() },
                ty: wire,
            });
        }
        wanted.extend(ty.fields.iter().filter_map(|field| referred(&field.ty)).map(str::to_string));
        add_inlined_fields(&mut ty, types);
        types.insert(name, ty);
    }
    Ok(())
}

/// An inlined message's fields are also fields of the JSON object that inlines it.
fn add_inlined_fields(ty: &mut Type, types: &BTreeMap<String, Type>) {
    let inlined: Vec<Field> = ty
        .inline
        .iter()
        .filter_map(|(_, name)| types.get(name))
        .flat_map(|inner| &inner.fields)
        .map(|field| Field {
            name: field.name.clone(),
            number: 0,
            ty: field.ty.clone(),
            attributes: field.attributes.clone(),
        })
        .collect();
    ty.fields.extend(inlined);
}

fn json_kind(wire: &str) -> Option<&'static str> {
    match wire {
        "bool" => Some("boolean"),
        "int32" | "int64" => Some("integer"),
        "string" => Some("string"),
        _ => None,
    }
}

fn message_type(facts: &[serde_json::Value]) -> Result<String> {
    let wire = wire_type(facts)?;
    let repeated = if facts.len() > 2 { "[]" } else { "" };
    let element = |wire: &str| -> Result<String> {
        Ok(match wire {
            "string" | "int32" | "int64" | "bool" | "bytes" => wire.to_string(),
            "double" => "number".to_string(),
            _ if wire.ends_with(".ExtraValue") || wire.ends_with(".Verbs") => "[]string".to_string(),
            _ if wire.contains('.') => {
                let name = format!("io.k8s.{}", short(wire));
                facts::scalar(&name).map_or_else(|| format!("@{}", short(wire)), str::to_string)
            }
            other => bail!("unknown wire type {other}"),
        })
    };
    match wire.strip_prefix("map<string,").and_then(|rest| rest.strip_suffix('>')) {
        Some(value) => Ok(format!("{{}}{}", element(value)?)),
        None => Ok(format!("{repeated}{}", element(&wire)?)),
    }
}

fn referred(ty: &str) -> Option<&str> {
    ty.trim_start_matches("[]").trim_start_matches("{}").strip_prefix('@')
}

fn check_references(types: &BTreeMap<String, Type>) -> Result<()> {
    for (name, ty) in types {
        for referred in ty.fields.iter().filter_map(|field| referred(&field.ty)) {
            anyhow::ensure!(types.contains_key(referred), "{name} refers to {referred}, which is missing");
        }
    }
    Ok(())
}

fn write(types: &BTreeMap<String, Type>) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    writeln!(
        out,
        "# The schema table. Made by src/api/gen; do not edit. src/api/schema/table.rs describes the format."
    )?;
    for (name, ty) in types {
        write!(out, "type {name}")?;
        if ty.atomic {
            write!(out, " atomic")?;
        }
        // A type of every group (WatchEvent, DeleteOptions) is found by its kind alone.
        if ty.kinds.len() > 1 || ty.kinds.iter().any(|kind| kind.group == "*") {
            write!(out, " any={}", ty.kinds[0].kind)?;
        } else if let Some(kind) = ty.kinds.first() {
            write!(out, " kind={}/{}/{}", kind.group, kind.version, kind.kind)?;
        }
        writeln!(out)?;
        for (number, inline) in &ty.inline {
            writeln!(out, "< {number} {inline}")?;
        }
        for field in &ty.fields {
            write!(out, " {} {} {}", field.name, field.number, field.ty)?;
            for attribute in &field.attributes {
                write!(out, " {attribute}")?;
            }
            writeln!(out)?;
        }
    }
    Ok(out.flush()?)
}
