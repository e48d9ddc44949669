//! `kubectl explain`: documentation of fields from the server's OpenAPI v3.

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
    #[arg(long)]
    recursive: bool,
    #[arg(long)]
    api_version: Option<String>,
    #[arg(long, hide = true)]
    output: Option<String>,
}

pub(crate) async fn run(env: &Env, args: ExplainArgs) -> Result<()> {
    let mut parts = args.path.split('.');
    let resource = parts.next().unwrap_or_default();
    let row = env.resource(resource).await?;
    let fields: Vec<&str> = parts.collect();
    let version = args.api_version.clone().unwrap_or_else(|| row.api_version());
    let root = if version.contains('/') { format!("apis/{version}") } else { format!("api/{version}") };
    let document = env.rest().await?.get(&format!("/openapi/v3/{root}")).await?;
    let schemas = Schemas { all: &document["components"]["schemas"] };
    let Some(mut schema) = schemas.of_kind(&row, &version) else {
        return Err(Error::message(format!(
            "couldn't find resource for {:?}",
            format!("{version}, Kind={}", row.kind)
        )));
    };
    let (mut shown_as, mut described) = (None, schema);
    for field in &fields {
        let Some(next) = schema["properties"].get(*field) else {
            return Err(Error::message(format!("field {field:?} does not exist")));
        };
        shown_as = Some((*field, schemas.type_of(next), next));
        (described, schema) = (next, schemas.target(next));
    }
    let mut description = String::new();
    schemas.describe(described, 0, &mut description);
    print(&text(&schemas, (&row, &version), (schema, &description), shown_as, args.recursive))
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

    fn reference(&self, value: &'a Value) -> Option<&'a str> {
        let direct = value["$ref"].as_str().or_else(|| value["allOf"][0]["$ref"].as_str());
        direct.and_then(|reference| reference.rsplit('/').next())
    }

    fn resolve(&self, value: &'a Value) -> &'a Value {
        self.reference(value).map_or(value, |name| &self.all[name])
    }

    /// The object type below a field: of the field itself, of its items, or of its values.
    fn target(&self, value: &'a Value) -> &'a Value {
        let own = self.resolve(value);
        if own["items"].is_object() {
            self.target(&own["items"])
        } else if own["additionalProperties"].is_object() {
            self.target(&own["additionalProperties"])
        } else {
            own
        }
    }

    /// What is said of a field, and of the types that it leads to, a line each.
    fn describe(&self, value: &'a Value, depth: usize, out: &mut String) {
        let direct = value["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
        let own = direct.map_or(value, |name| &self.all[name]);
        if let Some(about) = own["description"].as_str().filter(|about| !about.is_empty()) {
            out.push_str(about);
            out.push('\n');
        }
        let parts = own["allOf"].as_array().into_iter().flatten();
        let below = [&own["items"], &own["additionalProperties"]].into_iter().filter(|one| one.is_object());
        for part in parts.chain(below).filter(|_| depth < MAX_DEPTH) {
            self.describe(part, depth + 1, out);
        }
    }

    fn type_of(&self, value: &'a Value) -> String {
        if let Some(name) = self.reference(value) {
            let target = &self.all[name];
            let is_object = target["properties"].is_object()
                || target["type"].as_str().is_none_or(|kind| kind == "object");
            return if is_object {
                name.rsplit('.').next().unwrap_or_default().to_string()
            } else {
                self.type_of(target)
            };
        }
        match value["type"].as_str() {
            Some("array") => format!("[]{}", self.type_of(&value["items"])),
            Some("object") if value["additionalProperties"].is_object() => {
                format!("map[string]{}", self.type_of(&value["additionalProperties"]))
            }
            Some("object") => "Object".to_string(),
            Some(kind) => kind.to_string(),
            None => "Object".to_string(),
        }
    }
}

fn text(
    schemas: &Schemas<'_>,
    (row, version): (&Row, &str),
    (schema, description): (&Value, &str),
    shown_as: Option<(&str, String, &Value)>,
    recursive: bool,
) -> String {
    let (group, bare) = version.split_once('/').unwrap_or(("", version));
    let mut out = String::new();
    if !group.is_empty() {
        out.push_str(&format!("GROUP:      {group}\n"));
    }
    out.push_str(&format!("KIND:       {}\nVERSION:    {bare}\n\n", row.kind));
    if let Some((name, kind, field)) = &shown_as {
        out.push_str(&format!("FIELD: {name} <{kind}>\n"));
        let words: Vec<String> = enumerated(field).iter().map(|word| format!("\n    {word}")).collect();
        if !words.is_empty() {
            out.push_str(&format!("ENUM:{}", words.concat()));
        }
        out.push_str("\n\n");
    }
    let words = if description.is_empty() { "<empty>" } else { description };
    out.push_str(&format!("DESCRIPTION:\n{}\n", indented(&wrapped(words, 76), 4)));
    if schema["properties"].is_object() {
        out.push_str("FIELDS:\n");
        fields(schemas, schema, 2, recursive, &mut out, 0);
    }
    out.push('\n');
    out
}

/// The values that a field may have, if they are few.
fn enumerated(field: &Value) -> Vec<String> {
    let word = |value: &Value| match value {
        Value::String(text) if text.is_empty() => "\"\"".to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    field["enum"].as_array().into_iter().flatten().map(word).collect()
}

/// So many values of a field are told in a list of fields.
const SHOWN_VALUES: usize = 4;

/// Deeper than this only a schema that refers to itself goes.
const MAX_DEPTH: usize = 12;

fn fields(
    schemas: &Schemas<'_>,
    schema: &Value,
    indent: usize,
    recursive: bool,
    out: &mut String,
    depth: usize,
) {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let mark = if required.contains(&name.as_str()) { " -required-" } else { "" };
        out.push_str(&format!("{}{name}\t<{}>{mark}", " ".repeat(indent), schemas.type_of(field)));
        let mut words = enumerated(field);
        if !words.is_empty() {
            let more = if words.len() > SHOWN_VALUES { ", ...." } else { "" };
            words.truncate(SHOWN_VALUES);
            out.push_str(&format!("\n{}enum: {}{more}", " ".repeat(indent), words.join(", ")));
        }
        out.push('\n');
        if recursive {
            if depth < MAX_DEPTH {
                fields(schemas, schemas.target(field), indent + 2, true, out, depth + 1);
            }
            continue;
        }
        let description = field["description"].as_str().unwrap_or("<no description>");
        out.push_str(&indented(&wrapped(description, 78 - indent), indent + 2));
        out.push_str("\n\n");
    }
}

/// The text with every line set in, those without words too, as kubectl has them.
fn indented(text: &str, indent: usize) -> String {
    let pad = " ".repeat(indent);
    format!("{pad}{}", text.replace('\n', &format!("\n{pad}")))
}

/// Lines of at most so many columns. White space inside a line stays as it is.
fn wrapped(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            out.push('\n');
        }
        let mut width = 0;
        let mut rest = line;
        while !rest.is_empty() {
            let word_at = rest.find(|one: char| !one.is_whitespace()).unwrap_or(rest.len());
            let (space, tail) = rest.split_at(word_at);
            let (word, tail) = tail.split_at(tail.find(char::is_whitespace).unwrap_or(tail.len()));
            rest = tail;
            let (gap, length) = (space.chars().count(), word.chars().count());
            match width + gap + length > limit {
                // What begins a line stays there, however long it is.
                true if width + gap > 1 && length > 0 => {
                    out.push('\n');
                    width = length;
                }
                true if length == 0 => {}
                _ => {
                    out.push_str(space);
                    width += gap + length;
                }
            }
            out.push_str(word);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_wrapped_between_words() {
        assert_eq!(wrapped("one two three", 7), "one two\nthree");
        assert_eq!(wrapped("one\n\n  two", 7), "one\n\n  two");
        assert_eq!(wrapped("a much-too-long-word b", 8), "a\nmuch-too-long-word\nb");
        assert_eq!(indented("a\n\nb", 2), "  a\n  \n  b");
    }
}
