//! The functions that templates may call.

use std::cmp::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::TemplateError;
use super::eval::{Evaluated, Maybe, go, text, truth};

pub(super) const FUNCTIONS: [&str; 20] = [
    "and",
    "base64decode",
    "eq",
    "exists",
    "ge",
    "gt",
    "html",
    "index",
    "js",
    "le",
    "len",
    "lt",
    "ne",
    "not",
    "or",
    "print",
    "printf",
    "println",
    "slice",
    "urlquery",
];

/// Wider than this nothing is printed.
const MAX_WIDTH: usize = 65_535;

pub(super) fn call(name: &str, arguments: &[Maybe]) -> Evaluated<Maybe> {
    let one = || {
        arguments.first().cloned().ok_or_else(|| {
            TemplateError::new(format!("wrong number of args for {name}: want at least 1 got 0"))
        })
    };
    let bool = |value: bool| Ok(Some(Value::Bool(value)));
    match name {
        "html" => Ok(Some(Value::String(html(&joined(arguments))))),
        "js" => Ok(Some(Value::String(js(&joined(arguments))))),
        "urlquery" => Ok(Some(Value::String(url_query(&joined(arguments))))),
        "not" => bool(!truth(&one()?)),
        "eq" => {
            let first = one()?;
            bool(arguments[1..].iter().any(|other| compare(&first, other) == Some(Ordering::Equal)))
        }
        "ne" | "lt" | "le" | "gt" | "ge" => {
            let [left, right] = arguments else {
                return Err(TemplateError::new(format!(
                    "wrong number of args for {name}: want 2 got {}",
                    arguments.len()
                )));
            };
            let order = compare(left, right);
            if name != "ne" && order.is_none() {
                return Err(TemplateError::new(format!(
                    "error calling {name}: incompatible types for comparison"
                )));
            }
            bool(match name {
                "ne" => order != Some(Ordering::Equal),
                "lt" => order == Some(Ordering::Less),
                "le" => order != Some(Ordering::Greater),
                "gt" => order == Some(Ordering::Greater),
                _ => order != Some(Ordering::Less),
            })
        }
        "len" => match one()? {
            Some(Value::String(text)) => Ok(Some(Value::from(text.len()))),
            Some(Value::Array(items)) => Ok(Some(Value::from(items.len()))),
            Some(Value::Object(map)) => Ok(Some(Value::from(map.len()))),
            other => Err(TemplateError::new(format!("error calling len: len of {}", text(&other)))),
        },
        "index" | "exists" => {
            let mut value = one()?;
            for key in &arguments[1..] {
                value = index(value, key, name == "exists")?;
            }
            if name == "exists" { bool(value.is_some()) } else { Ok(value) }
        }
        "slice" => {
            let Some(Value::String(string)) = one()? else {
                return Err(TemplateError::new("error calling slice: can only slice strings"));
            };
            let bound = |at: usize, default: usize| {
                let number = arguments.get(at).and_then(|value| value.as_ref()).and_then(Value::as_f64);
                number.map_or(default, |number| number as usize)
            };
            let part = string.get(bound(1, 0)..bound(2, string.len()));
            part.map(|part| Some(Value::String(part.to_string())))
                .ok_or_else(|| TemplateError::new("error calling slice: index out of range"))
        }
        "print" => Ok(Some(Value::String(arguments.iter().map(text).collect()))),
        "println" => {
            let texts: Vec<String> = arguments.iter().map(text).collect();
            Ok(Some(Value::String(texts.join(" ") + "\n")))
        }
        "printf" => printf(arguments).map(|text| Some(Value::String(text))),
        "base64decode" => {
            let decoded = one()?.as_ref().and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
            let bytes = decoded
                .ok_or_else(|| TemplateError::new("error calling base64decode: illegal base64 data"))?;
            Ok(Some(Value::String(String::from_utf8_lossy(&bytes).into_owned())))
        }
        other => Err(TemplateError::new(format!("function {other:?} not defined"))),
    }
}

fn index(value: Maybe, key: &Maybe, lenient: bool) -> Evaluated<Maybe> {
    match (value, key) {
        (Some(Value::Object(map)), Some(Value::String(key))) => Ok(map.get(key).cloned()),
        (Some(Value::Array(items)), Some(Value::Number(at))) => {
            let found = at.as_f64().filter(|at| *at >= 0.0).and_then(|at| items.get(at as usize).cloned());
            if found.is_none() && !lenient {
                return Err(TemplateError::new(format!("error calling index: index out of range: {at}")));
            }
            Ok(found)
        }
        (None | Some(Value::Null), _) if lenient => Ok(None),
        (None | Some(Value::Null), _) => Err(TemplateError::new("error calling index: index of untyped nil")),
        (Some(other), _) if !lenient => {
            Err(TemplateError::new(format!("error calling index: can't index item of {}", go(&other))))
        }
        _ => Ok(None),
    }
}

fn compare(left: &Maybe, right: &Maybe) -> Option<Ordering> {
    match (left, right) {
        (Some(Value::Number(left)), Some(Value::Number(right))) => {
            left.as_f64()?.partial_cmp(&right.as_f64()?)
        }
        (Some(Value::String(left)), Some(Value::String(right))) => Some(left.cmp(right)),
        (Some(Value::Bool(left)), Some(Value::Bool(right))) => Some(left.cmp(right)),
        (None | Some(Value::Null), None | Some(Value::Null)) => Some(Ordering::Equal),
        _ => None,
    }
}

/// `%s %v %d %q %f %t %%`, with a width and flags `-` and `0`.
fn printf(arguments: &[Maybe]) -> Evaluated<String> {
    let Some((Some(Value::String(format)), values)) = arguments.split_first() else {
        return Err(TemplateError::new("wrong type for value; expected string"));
    };
    let mut values = values.iter();
    let mut out = String::new();
    let mut letters = format.chars().peekable();
    while let Some(c) = letters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        while let Some(next) = letters.peek().filter(|c| c.is_ascii_digit() || matches!(c, '-' | '.' | '+')) {
            spec.push(*next);
            letters.next();
        }
        let Some(verb) = letters.next() else { return Ok(out + "%!(NOVERB)") };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = values.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let shown = match (verb, value) {
            ('q', Some(Value::String(text))) => format!("{text:?}"),
            ('d', Some(Value::Number(number))) => format!("{:.0}", number.as_f64().unwrap_or(0.0)),
            ('f', Some(Value::Number(number))) => {
                let places = spec.split_once('.').and_then(|(_, places)| places.parse().ok());
                let places: usize = places.map_or(6, |places: usize| places.min(MAX_WIDTH));
                format!("{:.places$}", number.as_f64().unwrap_or(0.0))
            }
            (_, value) => text(value),
        };
        let width = spec.trim_start_matches('-').split('.').next().and_then(|text| text.parse().ok());
        let width: usize = width.map_or(0, |width: usize| width.min(MAX_WIDTH));
        match (spec.starts_with('-'), spec.starts_with('0')) {
            (true, _) => out.push_str(&format!("{shown:<width$}")),
            (false, true) => out.push_str(&format!("{shown:0>width$}")),
            (false, false) => out.push_str(&format!("{shown:>width$}")),
        }
    }
    Ok(out)
}

/// Arguments as one text, with spaces between those that are no texts.
fn joined(arguments: &[Maybe]) -> String {
    let mut out = String::new();
    let mut before_is_text = true;
    for (index, argument) in arguments.iter().enumerate() {
        let is_text = matches!(argument, Some(Value::String(_)));
        if index > 0 && !is_text && !before_is_text {
            out.push(' ');
        }
        out.push_str(&text(argument));
        before_is_text = is_text;
    }
    out
}

fn html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn url_query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
