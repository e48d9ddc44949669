//! Writes YAML the way `kubectl -o yaml` does: sorted keys, lists not indented, quotes only where a plain
//! word would mean something else, blocks for text of several lines. Pure.

use std::cmp::Ordering;

use serde_json::Value;

/// One document, with a line end, without `---`.
pub(crate) fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(map, 0, &mut out),
        Value::Array(items) if !items.is_empty() => sequence(items, 0, &mut out),
        other => {
            scalar(other, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

fn indent(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', depth));
}

fn mapping(map: &serde_json::Map<String, Value>, depth: usize, out: &mut String) {
    let mut members: Vec<(&String, &Value)> = map.iter().collect();
    members.sort_by(|one, other| key_order(one.0, other.0));
    for (index, (key, value)) in members.into_iter().enumerate() {
        // The first key of a list item stands behind its dash.
        if index > 0 || !out.ends_with("- ") {
            indent(depth, out);
        }
        text(key, depth, true, out);
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                mapping(inner, depth + 2, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(items, depth, out);
            }
            other => {
                out.push(' ');
                scalar(other, depth, out);
                out.push('\n');
            }
        }
    }
}

fn sequence(items: &[Value], depth: usize, out: &mut String) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 || !out.ends_with("- ") {
            indent(depth, out);
        }
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => mapping(map, depth + 2, out),
            Value::Array(inner) if !inner.is_empty() => sequence(inner, depth + 2, out),
            other => {
                scalar(other, depth, out);
                out.push('\n');
            }
        }
    }
}

fn scalar(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        Value::String(string) => text(string, depth, false, out),
        Value::Number(number) if number.is_f64() => out.push_str(&float(number.as_f64().unwrap_or_default())),
        other => out.push_str(&other.to_string()),
    }
}

/// A text as a scalar, in the column of its map.
pub(crate) fn string(string: &str, depth: usize) -> String {
    let mut out = String::new();
    text(string, depth, false, &mut out);
    out
}

/// A float in the shortest form that is read back as the same one, as Go's `%g` has it.
pub(crate) fn float(number: f64) -> String {
    /// From this power of ten on the exponent is written.
    const LIMIT: i32 = 6;
    let shortest = format!("{number:e}");
    let Some((mantissa, exponent)) = shortest.split_once('e') else { return shortest };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..LIMIT).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// The order of keys: letters by their place, numbers in them by their value.
fn key_order(one: &str, other: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(one, other)| one != other) else {
        return a.len().cmp(&b.len());
    };
    match (a[at].is_alphabetic(), b[at].is_alphabetic()) {
        (true, true) => return a[at].cmp(&b[at]),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // Zeros count as digits of a number that has begun.
    let has_begun = a[..at].iter().rev().take_while(|one| one.is_ascii_digit()).any(|one| *one != '0');
    let start = i64::from(has_begun && (a[at] == '0' || b[at] == '0'));
    let number = |letters: &[char]| {
        let digits = letters[at..].iter().map_while(|one| one.to_digit(10));
        digits.fold((start, 0_usize), |(value, length), digit| {
            (value.wrapping_mul(10).wrapping_add(i64::from(digit)), length + 1)
        })
    };
    number(&a).cmp(&number(&b)).then(a[at].cmp(&b[at]))
}

fn text(string: &str, depth: usize, is_key: bool, out: &mut String) {
    if string.is_empty() {
        out.push_str("\"\"");
    } else if string.contains('\n') && !is_key && block_allowed(string) {
        block(string, depth, out);
    } else if resolves_to_other(string) || has_special(string) {
        let quoted = double_quoted(string);
        fold(&quoted, (!is_key).then_some(depth), true, out);
    } else if plain_allowed(string) {
        fold(string, (!is_key).then_some(depth), false, out);
    } else {
        fold(&format!("'{}'", string.replace('\'', "''")), (!is_key).then_some(depth), false, out);
    }
}

/// From this column on the next single space becomes a line break, as libyaml has it.
const BEST_WIDTH: usize = 80;

/// Writes a scalar with line breaks where it gets long. Keys (no depth) are never broken.
fn fold(scalar: &str, depth: Option<usize>, escapes: bool, out: &mut String) {
    let Some(depth) = depth else { return out.push_str(scalar) };
    let mut column = out.len() - out.rfind('\n').map_or(0, |at| at + 1);
    let mut after_space = false;
    let mut letters = scalar.chars().peekable();
    while let Some(c) = letters.next() {
        let next = letters.peek().copied();
        // Inside of double quotes a break may stand before further spaces, which then need a backslash.
        let breakable = next.is_some_and(|next| next != ' ' || escapes) && !after_space;
        if c == ' ' && breakable && column > BEST_WIDTH {
            out.push('\n');
            indent(depth + 2, out);
            column = depth + 2;
            if next == Some(' ') {
                out.push('\\');
                column += 1;
            }
            after_space = true;
            continue;
        }
        out.push(c);
        column += 1;
        after_space = c == ' ';
    }
}

/// Blocks cannot have spaces at the end of a line, nor hold characters that need escapes; tabs do.
fn block_allowed(string: &str) -> bool {
    let printable = string.chars().all(|c| c == '\n' || !is_escaped(c));
    printable && !string.split('\n').any(|line| line.ends_with(' '))
}

fn block(string: &str, depth: usize, out: &mut String) {
    out.push('|');
    if string.starts_with([' ', '\n']) {
        // The first line does not show how far the others are indented.
        out.push('2');
    }
    let chomp = if !string.ends_with('\n') {
        "-"
    } else if string == "\n" || string.ends_with("\n\n") {
        "+"
    } else {
        ""
    };
    out.push_str(chomp);
    let body = string.strip_suffix('\n').unwrap_or(string);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(depth + 2, out);
            out.push_str(line);
        }
    }
}

fn has_special(string: &str) -> bool {
    string.chars().any(|c| is_escaped(c) || c == '\u{2028}' || c == '\u{2029}')
}

/// Control characters, and what needs more than 16 bits: upstream's YAML does not count it as printable.
fn is_escaped(c: char) -> bool {
    c.is_control() || c == '\u{feff}' || c > '\u{ffff}'
}

fn double_quoted(string: &str) -> String {
    let mut out = String::from("\"");
    for c in string.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\u{85}' => out.push_str("\\N"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            c if c > '\u{ffff}' => out.push_str(&format!("\\U{:08X}", u32::from(c))),
            '\u{1b}' => out.push_str("\\e"),
            '\u{feff}' => out.push_str("\\uFEFF"),
            c if c.is_control() => out.push_str(&format!("\\x{:02X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Words and numbers of YAML 1.1 that would not be read back as text.
fn resolves_to_other(string: &str) -> bool {
    const WORDS: [&str; 30] = [
        "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF",
        "true", "True", "TRUE", "false", "False", "FALSE", "null", "Null", "NULL", "~", ".nan", ".NaN", "<<",
        "=",
    ];
    let lower = string.to_ascii_lowercase();
    WORDS.contains(&string)
        || lower.trim_start_matches(['+', '-']) == ".inf"
        || is_number(string)
        || is_date(string)
}

fn is_number(string: &str) -> bool {
    let plain = string.replace('_', "");
    let unsigned = plain.trim_start_matches(['+', '-']);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') || string.starts_with('_') {
        return false;
    }
    let radix = |prefix: &str, radix: u32| {
        unsigned
            .strip_prefix(prefix)
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)))
    };
    if radix("0x", 16) || radix("0b", 2) || radix("0o", 8) {
        return true;
    }
    // Rust also reads "infinity" and "nan", which begin with a letter and so never come here.
    unsigned.parse::<f64>().is_ok_and(f64::is_finite)
        && unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'))
        || is_sexagesimal(unsigned)
}

/// `1:30` is ninety in YAML 1.1.
fn is_sexagesimal(unsigned: &str) -> bool {
    let mut parts = unsigned.split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let digits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    digits(first) && !rest.is_empty() && rest.iter().all(|part| part.len() <= 2 && digits(part))
}

/// `2001-01-01` and full timestamps.
fn is_date(string: &str) -> bool {
    let bytes = string.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    let date = bytes.len() >= 10
        && digits(0..4)
        && bytes[4] == b'-'
        && digits(5..7)
        && bytes[7] == b'-'
        && digits(8..10);
    date && (bytes.len() == 10
        || (matches!(bytes[10], b'T' | b't' | b' ') && digits(11..13) && bytes.get(13) == Some(&b':')))
}

/// Whether the text can stand without quotes in block context.
fn plain_allowed(string: &str) -> bool {
    let first = string.chars().next().unwrap_or(' ');
    let second = string.chars().nth(1);
    let indicator = match first {
        '-' | '?' | ':' => second.is_none_or(char::is_whitespace),
        '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
            true
        }
        _ => false,
    };
    let document = string.starts_with("---") || string.starts_with("...");
    !indicator
        && !document
        && !string.starts_with(' ')
        && !string.ends_with(' ')
        && !string.contains(": ")
        && !string.ends_with(':')
        && !string.contains(" #")
}
