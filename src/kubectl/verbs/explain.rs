//! `kubectl explain`: documentation of fields from the server's OpenAPI v3, in upstream's present form; in
//! its older one (`--output plaintext-openapiv2`) in `old`.

mod old;

use clap::Args;
use serde_json::Value;

use crate::discovery::Row;
use crate::env::{Env, print};
use crate::error::{Error, Result};

/// Get documentation for a resource
#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// TYPE[.FIELD…]
    path: String,
    /// All fields below, without documentation
    #[arg(short = 'R', long)]
    recursive: bool,
    #[arg(long)]
    api_version: Option<String>,
    /// plaintext or plaintext-openapiv2
    #[arg(short = 'o', long, default_value = "plaintext")]
    output: String,
}

pub(crate) async fn run(env: &Env, args: ExplainArgs) -> Result<()> {
    if !matches!(args.output.as_str(), "plaintext" | "plaintext-openapiv2") {
        return Err(Error::message(format!(
            "unrecognized format: {}. Available: plaintext, plaintext-openapiv2",
            args.output
        )));
    }
    let mut parts = args.path.split('.');
    let resource = parts.next().unwrap_or_default();
    let row = env.resource(resource).await?;
    let fields: Vec<&str> = parts.collect();
    let version = args.api_version.clone().unwrap_or_else(|| row.api_version());
    let root = if version.contains('/') { format!("apis/{version}") } else { format!("api/{version}") };
    let document = env.rest().await?.get(&format!("/openapi/v3/{root}")).await?;
    let schemas = Schemas { all: &document["components"]["schemas"] };
    let Some(schema) = schemas.of_kind(&row, &version) else {
        return Err(Error::message(format!(
            "couldn't find resource for {:?}",
            format!("{version}, Kind={}", row.kind)
        )));
    };
    let view = View { schemas: &schemas, recursive: args.recursive };
    match args.output.as_str() {
        "plaintext" => {
            let mut out = String::new();
            if let Some((group, _)) = version.split_once('/') {
                out.push_str(&format!("GROUP:      {group}\n"));
            }
            let bare = version.rsplit('/').next().unwrap_or_default();
            out.push_str(&format!("KIND:       {}\nVERSION:    {bare}\n\n", row.kind));
            if !view.output(schema, &fields, &mut Vec::new(), &mut out) {
                return Err(missing(&fields));
            }
            out.push('\n');
            print(&out)
        }
        _ => print(&old::text(&schemas, (&row.kind, &version), schema, &fields, args.recursive)?),
    }
}

fn missing(fields: &[&str]) -> Error {
    Error::message(format!("field {:?} does not exist", fields.last().copied().unwrap_or_default()))
}

struct Schemas<'a> {
    all: &'a Value,
}

impl<'a> Schemas<'a> {
    fn of_kind(&self, row: &Row, version: &str) -> Option<&'a Value> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        self.all.as_object()?.values().find(|schema| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array();
            kinds
                .into_iter()
                .flatten()
                .any(|one| one["kind"] == *row.kind && one["group"] == group && one["version"] == version)
        })
    }

    /// The name of the schema that a schema is a reference to.
    fn reference(value: &'a Value) -> Option<&'a str> {
        value["$ref"].as_str().and_then(|reference| reference.rsplit('/').next())
    }

    fn resolve(&self, value: &'a Value) -> &'a Value {
        Self::reference(value).map(|name| &self.all[name]).filter(|found| found.is_object()).unwrap_or(value)
    }

    fn type_of(&self, value: &'a Value) -> String {
        if value["items"].is_object() {
            return format!("[]{}", self.type_of(&value["items"]));
        }
        if value["additionalProperties"].is_object() {
            return format!("map[string]{}", self.type_of(&value["additionalProperties"]));
        }
        if let Some([only]) = value["allOf"].as_array().map(Vec::as_slice)
            && value["properties"].is_null()
        {
            return self.type_of(only);
        }
        if let Some(name) = Self::reference(value) {
            let kind = self.all[name]["type"].as_str().filter(|kind| *kind != "object");
            let last = || name.rsplit('.').next().unwrap_or("Object").to_string();
            return kind.map_or_else(last, str::to_string);
        }
        match value["type"].as_str() {
            None | Some("object") => "Object".to_string(),
            Some(kind) => kind.to_string(),
        }
    }
}

/// The present form.
struct View<'a, 'b> {
    schemas: &'b Schemas<'a>,
    recursive: bool,
}

impl<'a> View<'a, '_> {
    /// Follows a path of fields and prints what is at its end; answers whether there is such a field.
    fn output(&self, schema: &'a Value, path: &[&str], seen: &mut Vec<&'a str>, out: &mut String) -> bool {
        let reference = Schemas::reference(schema);
        let resolved = self.schemas.resolve(schema);
        let Some((first, rest)) = path.split_first() else {
            let mut description = String::new();
            self.description(resolved, &mut description, 0);
            let words = if description.is_empty() { "<empty>" } else { &description };
            out.push_str(&format!("DESCRIPTION:\n{}\n", indented(&wrapped(words, 76), 4)));
            external_docs(resolved, out);
            let mut fields = String::new();
            self.fields(resolved, 1, &mut Vec::new(), &mut fields);
            if !fields.is_empty() {
                out.push_str(&format!("FIELDS:\n{fields}"));
            }
            return true;
        };
        if reference.is_some_and(|name| seen.contains(&name)) {
            return false;
        }
        seen.extend(reference);
        if let Some(below) = resolved["properties"].get(*first) {
            if rest.is_empty() {
                let kind = self.schemas.type_of(below);
                out.push_str(&format!("FIELD: {first} <{kind}>\n"));
                if let Some(values) = below["enum"].as_array() {
                    out.push_str("ENUM:");
                    values.iter().for_each(|value| out.push_str(&format!("\n    {}", enum_text(value))));
                }
                out.push_str("\n\n");
            }
            return self.output(below, rest, &mut Vec::new(), out);
        }
        if resolved["items"].is_object() {
            return self.output(&resolved["items"], path, seen, out);
        }
        if resolved["additionalProperties"].is_object() {
            return self.output(&resolved["additionalProperties"], path, seen, out);
        }
        let all = resolved["allOf"].as_array().into_iter().flatten();
        all.into_iter().any(|one| self.output(one, path, &mut seen.clone(), out))
    }

    /// The description of a schema and of those it is made of, a line each.
    fn description(&self, schema: &'a Value, out: &mut String, depth: usize) {
        let resolved = self.schemas.resolve(schema);
        if let Some(text) = resolved["description"].as_str().filter(|text| !text.is_empty()) {
            out.push_str(&format!("{text}\n"));
        }
        if depth == MAX_DEPTH {
            return;
        }
        for one in resolved["allOf"].as_array().into_iter().flatten() {
            self.description(one, out, depth + 1);
        }
        for below in [&resolved["items"], &resolved["additionalProperties"]] {
            if below.is_object() {
                self.description(below, out, depth + 1);
            }
        }
    }

    fn fields(&self, schema: &'a Value, level: usize, seen: &mut Vec<&'a str>, out: &mut String) {
        let reference = Schemas::reference(schema);
        if level > MAX_DEPTH || reference.is_some_and(|name| seen.contains(&name)) {
            return;
        }
        let before = seen.len();
        seen.extend(reference);
        let resolved = self.schemas.resolve(schema);
        let properties = resolved["properties"].as_object().into_iter().flatten();
        let mut properties: Vec<(&String, &Value)> = properties.collect();
        properties.sort_by_key(|(name, _)| *name);
        for (name, field) in properties {
            self.field(resolved, name, field, level, out);
            if self.recursive {
                self.fields(field, level + 1, seen, out);
            }
        }
        for one in resolved["allOf"].as_array().into_iter().flatten() {
            self.fields(one, level, seen, out);
        }
        for below in [&resolved["items"], &resolved["additionalProperties"]] {
            if below.is_object() {
                self.fields(below, level, seen, out);
            }
        }
        seen.truncate(before);
    }

    fn field(&self, schema: &Value, name: &str, field: &'a Value, level: usize, out: &mut String) {
        let indent = level * 2;
        let pad = " ".repeat(indent);
        let mark = if is_required(schema, name) { " -required-" } else { "" };
        out.push_str(&format!("{pad}{name}\t<{}>{mark}", self.schemas.type_of(field)));
        if let Some(values) = field["enum"].as_array() {
            let mut shown: Vec<String> = values.iter().take(MAX_VALUES).map(enum_text).collect();
            if values.len() > MAX_VALUES {
                shown.push("....".to_string());
            }
            out.push_str(&format!("\n{pad}enum: {}", shown.join(", ")));
        }
        out.push('\n');
        if self.recursive {
            return;
        }
        let description = field["description"].as_str().filter(|text| !text.is_empty());
        let words = wrapped(description.unwrap_or("<no description>"), 78 - indent);
        out.push_str(&format!("{}\n\n", indented(&words, indent + 2)));
    }
}

/// Deeper than this only a schema that refers to itself goes.
const MAX_DEPTH: usize = 20;
/// So many values of an enumeration are shown beside a field.
const MAX_VALUES: usize = 4;

fn is_required(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().into_iter().flatten().any(|one| one == name)
}

fn enum_text(value: &Value) -> String {
    match value.as_str() {
        Some("") => "\"\"".to_string(),
        Some(text) => text.to_string(),
        None => value.to_string(),
    }
}

fn external_docs(schema: &Value, out: &mut String) {
    let docs = &schema["externalDocs"];
    if !docs.is_object() {
        return;
    }
    out.push_str("\nEXTERNAL DOCS:\n");
    if let Some(text) = docs["description"].as_str().filter(|text| !text.is_empty()) {
        out.push_str(&format!("{}\n", indented(&wrapped(text, 76), 4)));
    }
    if let Some(url) = docs["url"].as_str().filter(|url| !url.is_empty()) {
        out.push_str(&format!("    URL: {url}\n"));
    }
}

fn indented(text: &str, indent: usize) -> String {
    let pad = " ".repeat(indent);
    format!("{pad}{}", text.replace('\n', &format!("\n{pad}")))
}

/// Breaks lines that are longer than a limit at spaces. Breaks and spaces of the text stay.
fn wrapped(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut column, mut word, mut space) = (0, String::new(), String::new());
    let length = |text: &str| text.chars().count();
    for c in text.chars() {
        if c == '\n' {
            if !word.is_empty() || column + length(&space) <= limit {
                out.push_str(&space);
            }
            out.push_str(&word);
            out.push('\n');
            (column, word, space) = (0, String::new(), String::new());
        } else if c.is_whitespace() && c != '\u{a0}' {
            if space.is_empty() || !word.is_empty() {
                column += length(&space) + length(&word);
                out.push_str(&space);
                out.push_str(&word);
                word.clear();
                space.clear();
            }
            space.push(c);
        } else {
            word.push(c);
            let wide = length(&word);
            if column + wide + length(&space) > limit && wide < limit {
                out.push('\n');
                column = 0;
                space.clear();
            }
        }
    }
    if !word.is_empty() || column + length(&space) <= limit {
        out.push_str(&space);
    }
    out.push_str(&word);
    out
}

#[cfg(test)]
mod tests;
