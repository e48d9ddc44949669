//! JSON as `kubectl -o json` writes it: four spaces, and `<`, `>`, `&` escaped as Go does.

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

/// With a line end.
pub(crate) fn pretty(value: &Value) -> String {
    let mut out = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"    "));
    if value.serialize(&mut serializer).is_err() {
        return format!("{value}\n");
    }
    let mut text = go_escaped(&String::from_utf8_lossy(&out));
    text.push('\n');
    text
}

/// One line, as Go's `json.Marshal`.
pub(crate) fn compact(value: &Value) -> String {
    go_escaped(&value.to_string())
}

/// Outside of strings JSON has none of these characters, so replacing them everywhere is right.
fn go_escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}
