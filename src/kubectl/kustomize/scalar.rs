//! Which type the text of a plain scalar has, as go-yaml 3 decides it: YAML 1.2's words, and 1.1's octals.

use base64::Engine;
use serde_json::{Number, Value};

use super::error::{BuildError, Built};
use super::node::Tag;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Resolved {
    Text,
    Null,
    Bool(bool),
    Integer(Number),
    Float(f64),
    /// In the form that JSON has for it.
    Timestamp(String),
    Merge,
}

impl Resolved {
    pub(crate) fn tag(&self) -> Tag {
        match self {
            Resolved::Text => Tag::Text,
            Resolved::Null => Tag::Null,
            Resolved::Bool(_) => Tag::Bool,
            Resolved::Integer(_) => Tag::Integer,
            Resolved::Float(_) => Tag::Float,
            Resolved::Timestamp(_) => Tag::Timestamp,
            Resolved::Merge => Tag::Merge,
        }
    }

    pub(crate) fn to_json(&self, text: &str) -> Value {
        match self {
            Resolved::Text | Resolved::Merge => Value::String(text.to_string()),
            Resolved::Null => Value::Null,
            Resolved::Bool(one) => Value::Bool(*one),
            Resolved::Integer(one) => Value::Number(one.clone()),
            Resolved::Float(one) => float_to_json(*one),
            Resolved::Timestamp(one) => Value::String(one.clone()),
        }
    }
}

pub(crate) fn tag_name(tag: Tag) -> &'static str {
    match tag {
        Tag::Open | Tag::Text => "!!str",
        Tag::Integer => "!!int",
        Tag::Float => "!!float",
        Tag::Bool => "!!bool",
        Tag::Null => "!!null",
        Tag::Timestamp => "!!timestamp",
        Tag::Binary => "!!binary",
        Tag::Merge => "!!merge",
    }
}

/// The tag that a document names, `str` for `!!str`.
pub(crate) fn named_tag(name: &str) -> Option<Tag> {
    Some(match name {
        "str" => Tag::Text,
        "int" => Tag::Integer,
        "float" => Tag::Float,
        "bool" => Tag::Bool,
        "null" => Tag::Null,
        "timestamp" => Tag::Timestamp,
        "binary" => Tag::Binary,
        "merge" => Tag::Merge,
        _ => return None,
    })
}

/// A float without a fraction is an integer in JSON, as Go writes it.
fn float_to_json(float: f64) -> Value {
    const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;
    if float.fract() == 0.0 && float.abs() <= LARGEST_EXACT {
        #[allow(clippy::cast_possible_truncation, reason = "the bound above keeps it exact")]
        return Value::from(float as i64);
    }
    // JSON has no infinity; whoever reads a node refuses it before.
    Number::from_f64(float).map_or(Value::Null, Value::Number)
}

pub(crate) fn decode_binary(text: &str) -> Built<Value> {
    let packed: String = text.chars().filter(|one| !one.is_whitespace()).collect();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(packed)
        .map_err(|_| BuildError::told("yaml: !!binary value contains invalid base64 data"))?;
    Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()))
}

pub(crate) fn resolve(text: &str) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "true" | "True" | "TRUE" => return Resolved::Bool(true),
        "false" | "False" | "FALSE" => return Resolved::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Resolved::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
        "<<" => return Resolved::Merge,
        _ => {}
    }
    let first = text.as_bytes()[0];
    if first == b'.' {
        return if is_float(text) { float(text) } else { Resolved::Text };
    }
    if !first.is_ascii_digit() && first != b'+' && first != b'-' {
        return Resolved::Text;
    }
    if let Some(time) = timestamp(text) {
        return Resolved::Timestamp(time);
    }
    let plain = text.replace('_', "");
    if let Some(number) = integer(&plain) {
        return Resolved::Integer(number);
    }
    if is_float(&plain) { float(&plain) } else { Resolved::Text }
}

fn float(text: &str) -> Resolved {
    // A number that is too large for a float is a text.
    text.parse().ok().filter(|float: &f64| float.is_finite()).map_or(Resolved::Text, Resolved::Float)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |part: &str| part.bytes().all(|one| one.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

fn integer(text: &str) -> Option<Number> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = unsigned.to_ascii_lowercase();
    let (digits, radix) = match lower.as_str() {
        hex if hex.starts_with("0x") => (&hex[2..], 16),
        octal if octal.starts_with("0o") => (&octal[2..], 8),
        binary if binary.starts_with("0b") => (&binary[2..], 2),
        octal if octal.len() > 1 && octal.starts_with('0') => (&octal[1..], 8),
        decimal => (decimal, 10),
    };
    if !digits.chars().all(|one| one.is_digit(radix)) {
        return None;
    }
    if negative {
        return i64::from_str_radix(&format!("-{digits}"), radix).ok().map(Number::from);
    }
    u64::from_str_radix(digits, radix).ok().map(Number::from)
}

/// `2001-01-01`, and with a time of day; in RFC 3339.
fn timestamp(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let year = bytes.iter().take_while(|one| one.is_ascii_digit()).count();
    if year != 4 || bytes.get(4) != Some(&b'-') {
        return None;
    }
    let normal = text.replacen(['t', ' '], "T", 1);
    if let Ok(date) = jiff::civil::Date::strptime("%Y-%m-%d", &normal) {
        return Some(format!("{date}T00:00:00Z"));
    }
    // Without a zone it is UTC.
    let zoned = normal.ends_with('Z') || normal.get(10..).is_some_and(|time| time.contains(['+', '-']));
    let full = if zoned { normal } else { format!("{normal}Z") };
    let time: jiff::Timestamp = full.parse().ok()?;
    let offset = full.get(10..)?.rfind(['+', '-']).map(|at| full[10 + at..].to_string());
    match offset {
        // The zone is kept as it was written.
        Some(_) => Some(full),
        None => Some(time.to_string()),
    }
}
