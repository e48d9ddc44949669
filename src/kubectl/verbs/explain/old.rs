//! The form that `explain` had before OpenAPI v3, which `--output plaintext-openapiv2` still gives.

use serde_json::Value;

use super::{MAX_DEPTH, Schemas, is_required, missing};
use crate::error::Result;

const WIDTH: usize = 80;

/// The whole text, of a kind (its name and version) or of a field of it.
pub(super) fn text<'a>(
    schemas: &Schemas<'a>,
    (kind, version): (&str, &str),
    schema: &'a Value,
    path: &[&str],
    recursive: bool,
) -> Result<String> {
    let old = Old { schemas };
    let mut out = format!("KIND:     {kind}\nVERSION:  {version}\n\n");
    let mut at = schema;
    for name in path {
        let object = old.object(at, &mut Vec::new()).ok_or_else(|| missing(path))?;
        at = object["properties"].get(*name).ok_or_else(|| missing(path))?;
    }
    let mut descriptions = Vec::new();
    let object = old.object(at, &mut descriptions);
    if let Some(name) = path.last() {
        let heading = if object.is_some() { "RESOURCE:" } else { "FIELD:   " };
        out.push_str(&format!("{heading} {name} <{}>\n\n", old.type_of(at)));
    }
    out.push_str("DESCRIPTION:\n");
    if descriptions.is_empty() {
        descriptions.push("<empty>");
    }
    for (index, text) in descriptions.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        lines(text, 5, &mut out);
    }
    if let Some(object) = object {
        out.push_str("\nFIELDS:\n");
        old.fields(object, 3, recursive, 0, &mut out);
    }
    Ok(out)
}

struct Old<'a, 'b> {
    schemas: &'b Schemas<'a>,
}

impl<'a> Old<'a, '_> {
    /// The object type at or below a schema, through references, lists and maps; on the way their
    /// descriptions.
    fn object(&self, schema: &'a Value, descriptions: &mut Vec<&'a str>) -> Option<&'a Value> {
        let mut at = schema;
        for _ in 0..MAX_DEPTH {
            descriptions.extend(at["description"].as_str().filter(|text| !text.is_empty()));
            let resolved = self.schemas.resolve(at);
            at = if !std::ptr::eq(resolved, at) {
                resolved
            } else if let Some(one) = at["allOf"].as_array().and_then(|all| all.first()) {
                one
            } else if at["items"].is_object() {
                &at["items"]
            } else if at["additionalProperties"].is_object() {
                &at["additionalProperties"]
            } else {
                return Some(at).filter(|at| at["properties"].is_object());
            };
        }
        None
    }

    /// Every object is just an `Object` here.
    fn type_of(&self, schema: &'a Value) -> String {
        let mut at = schema;
        for _ in 0..MAX_DEPTH {
            let resolved = self.schemas.resolve(at);
            at = if !std::ptr::eq(resolved, at) {
                resolved
            } else if let Some(one) = at["allOf"].as_array().and_then(|all| all.first()) {
                one
            } else {
                break;
            };
        }
        if at["items"].is_object() {
            return format!("[]{}", self.type_of(&at["items"]));
        }
        if at["additionalProperties"].is_object() {
            return format!("map[string]{}", self.type_of(&at["additionalProperties"]));
        }
        match at["type"].as_str() {
            None if at["properties"].is_null() => "string".to_string(),
            None | Some("object") => "Object".to_string(),
            Some(kind) => kind.to_string(),
        }
    }

    fn fields(&self, object: &'a Value, indent: usize, recursive: bool, depth: usize, out: &mut String) {
        let mut properties: Vec<_> = object["properties"].as_object().into_iter().flatten().collect();
        properties.sort_by_key(|(name, _)| *name);
        let pad = " ".repeat(indent);
        for (name, field) in properties {
            let kind = self.type_of(field);
            if recursive {
                out.push_str(&format!("{pad}{name}\t<{kind}>\n"));
                if depth < MAX_DEPTH
                    && let Some(below) = self.object(field, &mut Vec::new())
                    && !std::ptr::eq(below, object)
                {
                    self.fields(below, indent + 3, true, depth + 1, out);
                }
                continue;
            }
            let mark = if is_required(object, name) { " -required-" } else { "" };
            out.push_str(&format!("{pad}{name}\t<{kind}>{mark}\n"));
            let description = field["description"].as_str().filter(|text| !text.is_empty());
            lines(description.unwrap_or("<no description>"), indent + 2, out);
            out.push('\n');
        }
    }
}

/// Whether a line of a description begins a line of its own.
fn begins(last_word: &str, line: &str) -> bool {
    let bare = line.trim();
    let is_bullet = || {
        let mark = bare.split_whitespace().next().unwrap_or_default();
        let digits = mark.trim_end_matches('.');
        matches!(mark, "-" | "*") || !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
    };
    last_word.ends_with(':') || bare.is_empty() || is_bullet()
}

/// A description in lines of at most 80 columns; blocks of code, lists and empty lines stay.
fn lines(text: &str, indent: usize, out: &mut String) {
    let (pad, width) = (" ".repeat(indent), WIDTH.saturating_sub(indent));
    let mut line = String::new();
    let mut is_first = true;
    let flush = |line: &mut String, out: &mut String, first: &mut bool| {
        if !line.is_empty() {
            out.push_str(&format!("{pad}{line}\n"));
            line.clear();
            *first = false;
        }
    };
    for part in text.split('\n') {
        if part.starts_with("    ") {
            flush(&mut line, out, &mut is_first);
            out.push_str(&format!("{}{part}\n", " ".repeat(indent)));
            is_first = false;
            continue;
        }
        if part.trim().is_empty() && !(is_first && line.is_empty()) {
            flush(&mut line, out, &mut is_first);
            out.push('\n');
            continue;
        }
        let last = line.rsplit(' ').next().unwrap_or_default().to_string();
        if begins(&last, part) {
            flush(&mut line, out, &mut is_first);
        }
        for word in part.split_whitespace() {
            if !line.is_empty() && line.len() + 1 + word.len() > width {
                flush(&mut line, out, &mut is_first);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    flush(&mut line, out, &mut is_first);
}
