//! ConfigMaps and Secrets that are made from literals and files, and the hash in their names.

use std::collections::BTreeMap;

use base64::Engine;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::error::{BuildError, Built};
use super::kustomization::{GeneratorArgs, GeneratorOptions};
use super::loader::Loader;
use super::node::{Kind, Node, Scalar, Tag};
use super::resource::{Behavior, Resource};
use crate::paths;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Made {
    ConfigMap,
    Secret,
}

pub(crate) fn generate(made: Made, args: &GeneratorArgs, loader: &Loader) -> Built<Resource> {
    let mut node = Kind::Map.empty();
    node.set("apiVersion", Node::string("v1"))?;
    node.set("kind", Node::string(if made == Made::Secret { "Secret" } else { "ConfigMap" }))?;
    if args.name.is_empty() {
        return Err(BuildError::told("a configmap must have a name"));
    }
    let mut metadata = Kind::Map.empty();
    metadata.set("name", Node::string(&args.name))?;
    if !args.namespace.is_empty() {
        metadata.set("namespace", Node::string(&args.namespace))?;
    }
    if made == Made::Secret {
        let ty = if args.secret_type.is_empty() { "Opaque" } else { &args.secret_type };
        node.set("type", Node::string(ty))?;
    }
    let data = pairs(args, loader)?;
    put_data(made, &data, &mut node)?;
    if let Some(options) = &args.options {
        put_options(options, &mut metadata, &mut node)?;
    }
    node.set("metadata", metadata)?;
    let mut resource = Resource::new(node);
    resource.needs_hash = !args.options.as_ref().is_some_and(|options| options.disable_name_suffix_hash);
    resource.behavior = Behavior::named(&args.behavior);
    Ok(resource)
}

fn put_options(options: &GeneratorOptions, metadata: &mut Node, node: &mut Node) -> Built<()> {
    for (field, texts) in [("labels", &options.labels), ("annotations", &options.annotations)] {
        if texts.is_empty() {
            continue;
        }
        let mut map = Kind::Map.empty();
        for (key, value) in texts {
            map.set(key, Node::string(value))?;
        }
        metadata.set(field, map)?;
    }
    if options.immutable {
        node.set(
            "immutable",
            Node::Scalar(Scalar { text: "true".to_string(), tag: Tag::Bool, plain: true }),
        )?;
    }
    Ok(())
}

fn put_data(made: Made, data: &BTreeMap<String, Vec<u8>>, node: &mut Node) -> Built<()> {
    if made == Made::Secret {
        // A Secret has the member even if nothing is in it.
        node.set("data", Kind::Map.empty())?;
    }
    for (key, bytes) in data {
        let (field, text) = match (made, std::str::from_utf8(bytes)) {
            (Made::ConfigMap, Ok(text)) => ("data", text.to_string()),
            (Made::ConfigMap, Err(_)) => ("binaryData", encode(bytes)),
            (Made::Secret, _) => ("data", encode(bytes)),
        };
        if node.get(field).is_none() {
            node.set(field, Kind::Map.empty())?;
        }
        if let Some(map) = node.get_mut(field) {
            map.set(key, Node::string(text))?;
        }
    }
    Ok(())
}

/// Base64 in lines of 70, if there is more than one.
fn encode(bytes: &[u8]) -> String {
    const LINE: usize = 70;
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    if text.len() < LINE {
        return text;
    }
    let mut lines = String::with_capacity(text.len() + text.len() / LINE + 1);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        lines.push_str(line);
        lines.push('\n');
        rest = more;
    }
    lines
}

fn pairs(args: &GeneratorArgs, loader: &Loader) -> Built<BTreeMap<String, Vec<u8>>> {
    let loading = |error: BuildError, what: &str, sources: &[String]| {
        error.doing(format!("{what} [{}]", sources.join(" "))).doing("loading KV pairs")
    };
    let mut all = Vec::new();
    for file in &args.envs {
        let content = loader.load(file).map_err(|error| loading(error, "env source files:", &args.envs))?;
        env_lines(&content, &mut all).map_err(|error| loading(error, "env source files:", &args.envs))?;
    }
    for literal in &args.literals {
        let pair =
            literal_pair(literal).map_err(|error| loading(error, "literal sources", &args.literals))?;
        all.push(pair);
    }
    for file in &args.files {
        let read = || {
            let (key, path) = file_source(file)?;
            Ok((key, loader.load(&path)?))
        };
        all.push(read().map_err(|error| loading(error, "file sources:", &args.files))?);
    }
    let mut known = BTreeMap::new();
    for (key, value) in all {
        if known.insert(key.clone(), value).is_some() {
            return Err(BuildError::told(format!(
                "configmap {} illegally repeats the key `{key}`",
                args.name
            )));
        }
    }
    Ok(known)
}

fn literal_pair(literal: &str) -> Built<(String, Vec<u8>)> {
    match literal.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), unquoted(value).into())),
        _ => Err(BuildError::told(format!("invalid literal source {literal}, expected key=value"))),
    }
}

fn unquoted(text: &str) -> &str {
    for quote in ['"', '\''] {
        if text.len() >= 2
            && let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote))
        {
            return inner;
        }
    }
    text
}

fn file_source(source: &str) -> Built<(String, String)> {
    let refuse = |text: String| Err(BuildError::told(text));
    match source.split_once('=') {
        None => Ok((paths::base(source).to_string(), source.to_string())),
        Some((_, path)) if path.contains('=') => {
            refuse(format!("source {source:?} key name or file path contains '='"))
        }
        Some(("", path)) => refuse(format!("missing key name for file path {path:?} in source {source:?}")),
        Some((key, "")) => refuse(format!("missing file path for key name {key:?} in source {source:?}")),
        Some((key, path)) => Ok((key.to_string(), path.to_string())),
    }
}

fn env_lines(content: &[u8], pairs: &mut Vec<(String, Vec<u8>)>) -> Built<()> {
    for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(line) = std::str::from_utf8(line) else {
            let shown: Vec<String> = line.iter().map(u8::to_string).collect();
            let text = String::from_utf8_lossy(line);
            return Err(BuildError::told(format!(
                "line [{}] has invalid utf8 bytes : {text}",
                shown.join(" ")
            )));
        };
        let line = if number == 0 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if !key.is_empty() {
            pairs.push((key.to_string(), value.into()));
        }
    }
    Ok(())
}

/// The hash of what an object holds, in letters that make no words.
pub(crate) fn hash(node: &Node) -> Built<String> {
    let kind = node.get("kind").map_or("", Node::text);
    let value = |name: &str| -> Built<Value> {
        match node.get(name) {
            None => Ok(Value::String(String::new())),
            Some(Node::Scalar(scalar)) => Ok(Value::String(scalar.text.clone())),
            Some(map) => map.to_json(),
        }
    };
    let mut hashed = Map::new();
    match kind {
        "ConfigMap" => {
            hashed.insert("data".to_string(), value("data")?);
            if let binary @ Value::Object(_) = value("binaryData")? {
                hashed.insert("binaryData".to_string(), binary);
            }
        }
        "Secret" => {
            hashed.insert("type".to_string(), value("type")?);
            hashed.insert("data".to_string(), value("data")?);
            if let text @ Value::Object(_) = value("stringData")? {
                hashed.insert("stringData".to_string(), text);
            }
        }
        // Of other kinds upstream hashes its own structure of the document, which nobody else can repeat.
        _ => {
            hashed.insert("object".to_string(), node.to_json()?);
        }
    }
    hashed.insert("kind".to_string(), Value::String(kind.to_string()));
    // Upstream looks for a member `metadata/name`, which no object has: a name does not change the hash.
    hashed.insert("name".to_string(), Value::String(String::new()));
    Ok(hash_letters(&go_json(&Value::Object(hashed))))
}

/// The first ten digits of a text's hash; those that can make words are replaced.
pub(crate) fn hash_letters(text: &str) -> String {
    let digest = Sha256::digest(text);
    let hex: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    let letter = |one: char| match one {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        other => other,
    };
    hex.chars().map(letter).collect()
}

/// JSON as Go writes it: with `<`, `>` and `&` as escapes, which stand in texts only.
fn go_json(value: &Value) -> String {
    let plain = value.to_string();
    let mut out = String::with_capacity(plain.len());
    for one in plain.chars() {
        match one {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out
}
