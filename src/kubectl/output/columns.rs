//! `-o custom-columns=NAME:.metadata.name,…`.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::output::text_table;
use api::jsonpath::{JsonPath, text_of};

pub(crate) struct Columns(Vec<(String, JsonPath)>);

impl Columns {
    pub(crate) fn parse(spec: &str) -> Result<Self> {
        if spec.is_empty() {
            return Err(Error::message("custom-columns format specified but no custom columns given"));
        }
        let column = |part: &str| {
            let (header, path) = part.split_once(':').ok_or_else(|| {
                Error::message(format!(
                    "unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>"
                ))
            })?;
            Ok((header.to_string(), JsonPath::parse_relaxed(path)?))
        };
        split_outside_brackets(spec).iter().map(|part| column(part)).collect::<Result<_>>().map(Columns)
    }

    /// A line of headers and a line of paths.
    pub(crate) fn parse_file(text: &str) -> Result<Self> {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let (Some(headers), Some(paths)) = (lines.next(), lines.next()) else {
            return Err(Error::message(
                "expected a header line and a line of paths in the custom columns file",
            ));
        };
        let headers: Vec<&str> = headers.split_whitespace().collect();
        let paths: Vec<&str> = paths.split_whitespace().collect();
        if headers.len() != paths.len() {
            return Err(Error::message(format!(
                "number of headers ({}) and field specifications ({}) don't match",
                headers.len(),
                paths.len()
            )));
        }
        let parse = |(header, path): (&str, &str)| Ok((header.to_string(), JsonPath::parse_relaxed(path)?));
        headers.into_iter().zip(paths).map(parse).collect::<Result<_>>().map(Columns)
    }

    pub(crate) fn text(&self, objects: &[&Value], no_headers: bool) -> Result<String> {
        let mut lines = Vec::new();
        if !no_headers {
            lines.push(self.0.iter().map(|(header, _)| header.clone()).collect());
        }
        for object in objects {
            lines.push(self.0.iter().map(|(_, path)| cell(path, object)).collect::<Result<Vec<_>>>()?);
        }
        Ok(text_table::format(&lines))
    }
}

fn cell(path: &JsonPath, object: &Value) -> Result<String> {
    let texts: Vec<String> = path.values(object).unwrap_or_default().iter().map(go_text).collect();
    Ok(if texts.is_empty() { "<none>".to_string() } else { texts.join(",") })
}

/// How Go's `fmt` prints a decoded value: maps and lists without JSON's punctuation.
pub(crate) fn go_text(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let texts: Vec<String> = items.iter().map(go_text).collect();
            format!("[{}]", texts.join(" "))
        }
        Value::Object(map) => {
            let texts: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
            format!("map[{}]", texts.join(" "))
        }
        other => text_of(other),
    }
}

fn split_outside_brackets(spec: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut quote) = (0_i32, None);
    for c in spec.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('"' | '\'', None) if depth > 0 => quote = Some(c),
            ('[' | '(' | '{', None) => depth += 1,
            (']' | ')' | '}', None) => depth -= 1,
            (',', None) if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}
