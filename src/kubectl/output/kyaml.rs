//! KYAML (KEP-5295), as `kubectl -o kyaml` writes it: YAML in braces, with quotes around every text, so that
//! neither indentation nor types are guessed. Pure.

use serde_json::Value;

/// One document, with the line that begins it and a line end.
pub(crate) fn to_kyaml(value: &Value) -> String {
    let mut out = "---\n".to_string();
    node(value, 0, &mut out);
    out.push('\n');
    out
}

fn indent(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn node(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if map.is_empty() => out.push_str("{}"),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Object(map) => {
            let mut members: Vec<(&String, &Value)> = map.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            out.push_str("{\n");
            for (key, value) in members {
                indent(depth + 1, out);
                match needs_quotes(key) {
                    true => quoted(key, true, depth + 1, out),
                    false => out.push_str(key),
                }
                out.push_str(": ");
                node(value, depth + 1, out);
                out.push_str(",\n");
            }
            indent(depth, out);
            out.push('}');
        }
        // Brackets of lists of objects and of lists stand beside theirs.
        Value::Array(items) if items.iter().all(|one| one.is_object() || one.is_array()) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                node(item, depth, out);
            }
            out.push(']');
        }
        Value::Array(items) => {
            out.push_str("[\n");
            for item in items {
                indent(depth + 1, out);
                node(item, depth + 1, out);
                out.push_str(",\n");
            }
            indent(depth, out);
            out.push(']');
        }
        Value::String(text) => quoted(text, false, depth + 1, out),
        other => out.push_str(&other.to_string()),
    }
}

/// A text in double quotes; one of several lines on as many, unless it must stay on one.
fn quoted(text: &str, one_line: bool, depth: usize, out: &mut String) {
    let folds = text.contains('\n') && !one_line;
    out.push('"');
    if folds {
        out.push_str("\\\n");
    }
    for c in text.chars() {
        if out.ends_with('\n') {
            indent(depth, out);
            // Space before a line is dropped: what belongs to the text is escaped.
            out.push(if c.is_whitespace() && c != '\n' { '\\' } else { ' ' });
        }
        match c {
            '\n' if folds => out.push_str("\\n\\\n"),
            '\t' if !one_line => out.push('\t'),
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push_str(&escaped(c)),
        }
    }
    if folds {
        if !out.ends_with('\n') {
            out.push_str("\\\n");
        }
        indent(depth, out);
    }
    out.push('"');
}

fn escaped(c: char) -> String {
    let name = match c {
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\u{c}' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\u{b}' => 'v',
        '\0' => '0',
        '\u{1b}' => 'e',
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        c if c < ' ' || c == '\u{7f}' => return format!("\\x{:02x}", u32::from(c)),
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{feff}' => {
            return format!("\\u{:04x}", u32::from(c));
        }
        c => return c.to_string(),
    };
    format!("\\{name}")
}

/// Whether a key could be taken for something else than a text, or has letters that mean something.
fn needs_quotes(key: &str) -> bool {
    let last = key.chars().count().saturating_sub(1);
    let is_plain = |(at, c): (usize, char)| {
        c.is_alphanumeric() || c == '_' || (at > 0 && at < last && matches!(c, '-' | '.' | '/'))
    };
    key.is_empty() || is_ambiguous(key) || !key.chars().enumerate().all(is_plain)
}

fn is_ambiguous(key: &str) -> bool {
    let lower = key.to_lowercase();
    const WORDS: [&str; 14] =
        ["null", "~", "true", "t", "y", "yes", "on", "false", "f", "n", "no", "off", ".inf", ".nan"];
    if WORDS.contains(&lower.as_str()) {
        return true;
    }
    let digits = lower.replace('_', "");
    let is_number = |text: &str| {
        let bare = text.trim_start_matches(['+', '-']);
        let radix = |prefix: &str, radix: u32| {
            bare.strip_prefix(prefix).is_some_and(|rest| u64::from_str_radix(rest, radix).is_ok())
        };
        text.parse::<f64>().is_ok() || radix("0x", 16) || radix("0o", 8) || radix("0b", 2)
    };
    // A date such as 2001-12-14.
    let is_date = || {
        let parts: Vec<&str> = key.split('-').collect();
        parts.len() == 3 && parts[0].len() == 4 && parts.iter().all(|one| one.parse::<u32>().is_ok())
    };
    is_number(&digits) || is_date()
}

#[cfg(test)]
mod tests;
