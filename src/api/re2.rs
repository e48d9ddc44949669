//! Go's regular expressions (RE2) for Rust's engine: schemas and expressions are written in them.
//!
//! The two differ in little: Go's `\d`, `\w` and `\s` are ASCII, a bracket or an operator inside of a class
//! is a character, and a brace that repeats nothing stands for itself. Such places are rewritten, and groups
//! need not capture: nobody asks for what they have captured.

use std::iter::Peekable;
use std::str::CharIndices;

/// Largest count of a repetition, as in Go.
const MAX_REPEAT: u32 = 1000;

/// From Go's syntax; none for what Go refuses and the engine would take.
pub fn translate(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.char_indices().peekable();
    while let Some((at, one)) = rest.next() {
        match one {
            '\\' => escape(&mut rest, &mut out)?,
            '[' => class(text, at, &mut rest, &mut out)?,
            '(' if text[at + 1..].starts_with('?') && named(&text[at + 2..]) => {
                // A name captures, which nobody asks for.
                rest.by_ref().find(|(_, one)| *one == '>')?;
                out.push_str("(?:");
            }
            '(' if !text[at + 1..].starts_with('?') => out.push_str("(?:"),
            '{' => match repetition(&text[at..]) {
                Some(most) if most > MAX_REPEAT => return None,
                Some(_) => out.push('{'),
                None => out.push_str("\\{"),
            },
            other => out.push(other),
        }
    }
    Some(out)
}

fn named(group: &str) -> bool {
    group.starts_with("P<") || group.starts_with('<') && !group.starts_with("<=") && !group.starts_with("<!")
}

/// Bytes that two counts and what is around them may take.
const MAX_COUNTS: usize = 24;

/// The larger count of a repetition such as `{1,5}`, if this is one.
fn repetition(text: &str) -> Option<u32> {
    let end = text.bytes().take(MAX_COUNTS).position(|byte| byte == b'}')?;
    let inside = text.get(1..end)?;
    let number = |text: &str| -> Option<u32> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u32::MAX))
    };
    match inside.split_once(',') {
        None => number(inside),
        Some((least, "")) => number(least),
        Some((least, most)) => Some(number(least)?.max(number(most)?)),
    }
}

/// What follows a backslash.
fn escape(rest: &mut Peekable<CharIndices<'_>>, out: &mut String) -> Option<()> {
    let (_, one) = rest.next()?;
    match one {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str(r"[\t\n\f\r ]"),
        'S' => out.push_str(r"[^\t\n\f\r ]"),
        'b' => out.push_str(r"(?-u:\b)"),
        'Q' => {
            let mut quoted = String::new();
            while let Some((_, one)) = rest.next() {
                if one == '\\' && rest.peek().is_some_and(|(_, next)| *next == 'E') {
                    rest.next();
                    break;
                }
                quoted.push(one);
            }
            out.push_str(&regex::escape(&quoted));
        }
        'C' => return None,
        other => {
            out.push('\\');
            out.push(other);
        }
    }
    Some(())
}

/// Whether this is a class such as `[:alpha:]` inside of another.
fn is_ascii_class(text: &str) -> bool {
    let Some(name) = text.strip_prefix("[:") else { return false };
    name.trim_start_matches(|one: char| one == '^' || one.is_ascii_lowercase()).starts_with(":]")
}

/// A class in brackets.
fn class(text: &str, at: usize, rest: &mut Peekable<CharIndices<'_>>, out: &mut String) -> Option<()> {
    out.push('[');
    let mut first = at + 1;
    if text[first..].starts_with('^') {
        rest.next();
        out.push('^');
        first += 1;
    }
    while let Some((at, one)) = rest.next() {
        match one {
            ']' if at > first => {
                out.push(']');
                return Some(());
            }
            ']' => out.push_str("\\]"),
            '\\' => escape(rest, out)?,
            '[' if is_ascii_class(&text[at..]) => {
                out.push('[');
                for (_, one) in rest.by_ref() {
                    out.push(one);
                    if one == ']' {
                        break;
                    }
                }
            }
            // Operators of the engine, characters in Go.
            '[' | '&' | '~' => {
                out.push('\\');
                out.push(one);
            }
            // Two of them are an operator.
            '-' if text[at + 1..].starts_with('-') => {
                rest.next();
                out.push_str("-\\-");
            }
            other => out.push(other),
        }
    }
    None
}
