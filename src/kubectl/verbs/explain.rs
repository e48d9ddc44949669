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
    let mut shown_as = None;
    for field in &fields {
        let Some(next) = schema["properties"].get(*field) else {
            return Err(Error::message(format!("field {field:?} does not exist")));
        };
        shown_as = Some((*field, schemas.type_of(next), next));
        schema = schemas.target(next);
    }
    print(&text(&schemas, &row, &version, schema, shown_as, args.recursive))
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
    row: &Row,
    version: &str,
    schema: &Value,
    shown_as: Option<(&str, String, &Value)>,
    recursive: bool,
) -> String {
    let (group, bare) = version.split_once('/').unwrap_or(("", version));
    let mut out = String::new();
    if !group.is_empty() {
        out.push_str(&format!("GROUP:      {group}\n"));
    }
    out.push_str(&format!("KIND:       {}\nVERSION:    {bare}\n\n", row.kind));
    let mut description = schema["description"].as_str().unwrap_or_default();
    if let Some((name, kind, field)) = &shown_as {
        out.push_str(&format!("FIELD: {name} <{kind}>\n\n\n"));
        description = field["description"].as_str().unwrap_or(description);
    }
    out.push_str("DESCRIPTION:\n");
    let words = if description.is_empty() { "<empty>" } else { description };
    out.push_str(&wrapped(words, 4));
    if schema["properties"].is_object() {
        out.push_str(if description.is_empty() { "FIELDS:\n" } else { "\nFIELDS:\n" });
        fields(schemas, schema, 2, recursive, &mut out, 0);
    }
    out.push('\n');
    out
}

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
        out.push_str(&format!("{}{name}\t<{}>{mark}\n", " ".repeat(indent), schemas.type_of(field)));
        if recursive {
            if depth < MAX_DEPTH {
                fields(schemas, schemas.target(field), indent + 2, true, out, depth + 1);
            }
            continue;
        }
        let description = field["description"].as_str().unwrap_or("<no description>");
        out.push_str(&wrapped(description, indent + 2));
        out.push('\n');
    }
}

/// Lines of at most 80 columns.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && indent + line.len() + 1 + word.len() > 80 {
                out.push_str(&format!("{}{line}\n", " ".repeat(indent)));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        out.push_str(format!("{}{line}", " ".repeat(indent)).trim_end());
        out.push('\n');
    }
    out
}
