//! Values as Go prints them: messages of faults and conflicts carry them.

use serde_json::Value;

/// A number as `%v` prints a float.
fn number(number: &serde_json::Number) -> String {
    let Some(value) = number.as_f64() else { return number.to_string() };
    let plain = || if value.fract() == 0.0 { format!("{value:.0}") } else { value.to_string() };
    if value == 0.0 {
        return plain();
    }
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return plain() };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return plain();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `%v`.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => number(value),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(plain).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let members: Vec<String> =
                map.iter().map(|(name, value)| format!("{name}:{}", plain(value))).collect();
            format!("map[{}]", members.join(" "))
        }
    }
}

/// `%#v`.
pub(super) fn syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(map) => {
            let members: Vec<String> =
                map.iter().map(|(name, value)| format!("{name:?}:{}", syntax(value))).collect();
            format!("map[string]interface {{}}{{{}}}", members.join(", "))
        }
        scalar => plain(scalar),
    }
}

/// `%T`.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value inside of a path.
pub(super) fn in_path(value: &Value) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(in_path).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(map) => map.iter().map(|(name, value)| format!("{name}={}", in_path(value))).collect(),
        scalar => plain(scalar),
    }
}

/// An element of a path as conflicts and faults show it: `.name`, `[name="a"]`, `[="a"]`, `[3]`.
pub(super) fn element(key: &str) -> String {
    let (kind, rest) = key.split_at_checked(2).unwrap_or((key, ""));
    let value = || serde_json::from_str::<Value>(rest).unwrap_or(Value::Null);
    match kind {
        "f:" => format!(".{rest}"),
        "v:" => format!("[={}]", in_path(&value())),
        "k:" => {
            let keys = value();
            let keys: Vec<String> = keys
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| format!("{name}={}", in_path(value)))
                .collect();
            format!("[{}]", keys.join(","))
        }
        _ => format!("[{rest}]"),
    }
}
