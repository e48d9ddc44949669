//! `-o`: how objects are printed.

pub(crate) mod columns;
pub(crate) mod json;
pub(crate) mod kyaml;
pub(crate) mod template;
pub(crate) mod text_table;
pub(crate) mod yaml;

use clap::Args;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::output::columns::Columns;
use crate::output::template::Template;
use api::json::{as_items, as_text};
use api::jsonpath::JsonPath;

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct OutputArgs {
    /// json, yaml, kyaml, name, wide, jsonpath=…, jsonpath-file=…, jsonpath-as-json=…, custom-columns=…,
    /// custom-columns-file=…, go-template=…, go-template-file=…
    #[arg(short = 'o', long)]
    pub(crate) output: Option<String>,
    /// Template for -o go-template and -o jsonpath
    #[arg(long)]
    pub(crate) template: Option<String>,
    /// Keep managedFields in json and yaml
    #[arg(long)]
    pub(crate) show_managed_fields: bool,
    /// Accepted for compatibility: missing keys print nothing
    #[arg(long, hide = true, default_value = "true")]
    pub(crate) allow_missing_template_keys: String,
}

pub(crate) enum Format {
    Human { wide: bool },
    Json,
    Yaml,
    Kyaml,
    Name,
    JsonPath { path: JsonPath, as_json: bool },
    Columns(Columns),
    Template(Template),
}

const ALLOWED: &str = "custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,kyaml,name,template,templatefile,wide,yaml";

impl OutputArgs {
    pub(crate) fn format(&self) -> Result<Format> {
        let Some(output) = self.output.as_deref().filter(|output| !output.is_empty()) else {
            return match &self.template {
                Some(template) => Ok(Format::Template(Template::parse(template)?)),
                None => Ok(Format::Human { wide: false }),
            };
        };
        let (name, inline) = match output.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (output, None),
        };
        let argument = inline.or_else(|| self.template.clone());
        let needed = |what: &str| {
            argument
                .clone()
                .ok_or_else(|| Error::message(format!("template format specified but no {what} given")))
        };
        let file = |what: &str| -> Result<String> {
            let path = needed(what)?;
            std::fs::read_to_string(&path)
                .map_err(|error| Error::message(format!("error reading --template {path}, {error}")))
        };
        let jsonpath = |text: &str| {
            let path = JsonPath::parse(text);
            path.map_err(|error| Error::message(format!("error parsing jsonpath {text}, {error}")))
        };
        match name {
            "wide" => Ok(Format::Human { wide: true }),
            "json" => Ok(Format::Json),
            "yaml" => Ok(Format::Yaml),
            "kyaml" => Ok(Format::Kyaml),
            "name" => Ok(Format::Name),
            "jsonpath" => Ok(Format::JsonPath { path: jsonpath(&needed("template")?)?, as_json: false }),
            "jsonpath-as-json" => {
                Ok(Format::JsonPath { path: jsonpath(&needed("template")?)?, as_json: true })
            }
            "jsonpath-file" => {
                Ok(Format::JsonPath { path: jsonpath(file("template")?.trim_end())?, as_json: false })
            }
            "custom-columns" => match &argument {
                Some(text) => Ok(Format::Columns(Columns::parse(text)?)),
                None => Err(Error::message("custom-columns format specified but no custom columns given")),
            },
            "custom-columns-file" => Ok(Format::Columns(Columns::parse_file(&file("template")?)?)),
            "go-template" | "template" => Ok(Format::Template(Template::parse(&needed("template")?)?)),
            "go-template-file" | "templatefile" => Ok(Format::Template(Template::parse(&file("template")?)?)),
            _ => Err(Error::message(format!(
                "unable to match a printer suitable for the output format {output:?}, allowed formats are: {ALLOWED}"
            ))),
        }
    }
}

impl Format {
    pub(crate) fn is_human(&self) -> bool {
        matches!(self, Format::Human { .. })
    }

    /// The text of one object (or of a `List`). Columns and names of a list are printed item by item.
    pub(crate) fn text(&self, object: &Value, show_managed_fields: bool, no_headers: bool) -> Result<String> {
        let stripped = || {
            let mut object = object.clone();
            if !show_managed_fields {
                strip_managed_fields(&mut object);
            }
            object
        };
        Ok(match self {
            Format::Json => json::pretty(&stripped()),
            Format::Yaml => yaml::to_yaml(&stripped()),
            Format::Kyaml => kyaml::to_kyaml(&stripped()),
            Format::Name | Format::Human { .. } => {
                items_of(object).into_iter().map(|item| format!("{}\n", title(item))).collect()
            }
            Format::JsonPath { path, as_json: false } => render(path, object)?,
            Format::JsonPath { path, as_json: true } => {
                let values = path.values(object)?;
                json::pretty(&Value::Array(values))
            }
            Format::Columns(columns) => columns.text(&items_of(object), no_headers)?,
            Format::Template(template) => template.render(object)?,
        })
    }
}

fn render(path: &JsonPath, object: &Value) -> Result<String> {
    path.render(object).map_err(|error| {
        let template = path.source();
        Error::message(format!(
            "error executing jsonpath {template:?}: Error executing template: {error}. Printing more information for debugging the template:\n\ttemplate was:\n\t\t{template}\n\tobject given to jsonpath engine was:\n\t\t{object}\n\n"
        ))
    })
}

pub(crate) fn is_list(object: &Value) -> bool {
    object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && object["items"].is_array()
}

fn items_of(object: &Value) -> Vec<&Value> {
    match object["items"].as_array() {
        Some(items) if is_list(object) => items.iter().collect(),
        _ => vec![object],
    }
}

fn strip_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if is_list(object)
        && let Some(items) = object.get_mut("items").and_then(Value::as_array_mut)
    {
        items.iter_mut().for_each(strip_managed_fields);
    }
}

/// `pod/x`, `deployment.apps/web`.
pub(crate) fn title(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match object["apiVersion"].as_str().unwrap_or_default().split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

/// `[a b]`, as Go prints a list.
pub(crate) fn bracketed(values: &Value) -> String {
    format!("[{}]", as_items(values).iter().map(as_text).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests;
