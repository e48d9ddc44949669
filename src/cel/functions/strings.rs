//! Texts: of the language itself, of its `strings` extension, and Kubernetes' regular expressions.

use super::call::{Answer, Call, text_of};
use crate::budget::Budget;
use crate::duration;
use crate::error::EvalError;
use crate::shared::Shared;
use crate::value::{Evaluated, Value};

pub(super) const NAMES: &[&str] = &[
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "join",
    "lowerAscii",
    "upperAscii",
    "replace",
    "split",
    "substring",
    "trim",
    "format",
    "find",
    "findAll",
    "reverse",
    "strings.quote",
    "base64.encode",
    "base64.decode",
    "jsonpatch.escapeKey",
];

pub(super) fn call<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    if call.target.is_none() {
        return global(call);
    }
    if call.name == "join" {
        return join(call);
    }
    let text = text_of(call.target.as_ref()?)?;
    let argument = |at: usize| call.arguments.get(at).and_then(text_of);
    let number = |at: usize| match call.arguments.get(at) {
        Some(Value::Int(number)) => Some(*number),
        _ => None,
    };
    Some(match (call.name, call.arguments.len()) {
        ("contains", 1) => Ok(Value::Bool(text.contains(argument(0)?))),
        ("startsWith", 1) => Ok(Value::Bool(text.starts_with(argument(0)?))),
        ("endsWith", 1) => Ok(Value::Bool(text.ends_with(argument(0)?))),
        ("matches", 1) => matches(call, text, argument(0)?),
        ("find", 1) => {
            let pattern = call.patterns.get(argument(0)?, call.budget);
            pattern.and_then(|pattern| pattern.find(text, call.budget)).map(Value::text)
        }
        ("findAll", 1 | 2) => {
            let most = number(1).and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
            let pattern = call.patterns.get(argument(0)?, call.budget);
            let found = pattern.and_then(|pattern| pattern.find_all(text, most, call.budget));
            found.map(|found| Value::list(found.into_iter().map(Value::text).collect()))
        }
        ("lowerAscii", 0) => Ok(Value::text(text.to_ascii_lowercase())),
        ("upperAscii", 0) => Ok(Value::text(text.to_ascii_uppercase())),
        ("trim", 0) => Ok(Value::text(text.trim())),
        ("reverse", 0) => Ok(Value::text(text.chars().rev().collect::<String>())),
        ("charAt", 1) => char_at(text, number(0)?),
        ("indexOf", 1 | 2) => index_of(text, argument(0)?, call.arguments.get(1).map(|_| number(1)), false)?,
        ("lastIndexOf", 1 | 2) => {
            index_of(text, argument(0)?, call.arguments.get(1).map(|_| number(1)), true)?
        }
        ("replace", 2) => replace(call.budget, text, (argument(0)?, argument(1)?), usize::MAX),
        ("replace", 3) => {
            let most = usize::try_from(number(2)?).unwrap_or(usize::MAX);
            replace(call.budget, text, (argument(0)?, argument(1)?), most)
        }
        ("split", 1) => split(call.budget, text, argument(0)?, -1),
        ("split", 2) => split(call.budget, text, argument(0)?, number(1)?),
        ("substring", 1) => substring(text, number(0)?, None),
        ("substring", 2) => substring(text, number(0)?, Some(number(1)?)),
        ("format", 1) => {
            call.arguments[0].iter()?;
            format(call.budget, text, &call.arguments[0])
        }
        _ => return None,
    })
}

fn global<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    match (call.name, &call.arguments[..]) {
        ("base64.encode", [Value::Bytes(bytes)]) => Some(Ok(Value::text(STANDARD.encode(&**bytes)))),
        ("base64.decode", [Value::String(text)]) => Some(
            STANDARD
                .decode(&**text)
                .map(|bytes| Value::Bytes(Shared::Owned(bytes.into())))
                .map_err(|_| EvalError::other("illegal base64 data")),
        ),
        ("jsonpatch.escapeKey", [Value::String(key)]) => {
            Some(Ok(Value::text(key.replace('~', "~0").replace('/', "~1"))))
        }
        // A character may become ten.
        ("strings.quote", [Value::String(text)]) => {
            let paid = call.budget.spend(call.arguments[0].size());
            Some(paid.map(|()| Value::text(format!("{:?}", &**text))))
        }
        ("matches", [Value::String(text), Value::String(pattern)]) => Some(matches(call, text, pattern)),
        _ => None,
    }
}

fn matches<'a>(call: &Call<'_, 'a>, text: &str, pattern: &str) -> Evaluated<'a> {
    let pattern = call.patterns.get(pattern, call.budget)?;
    pattern.is_match(text, call.budget).map(Value::Bool)
}

/// How large what is made of so many parts will be.
fn product(count: usize, size: usize) -> u64 {
    u64::try_from(count.saturating_mul(size)).unwrap_or(u64::MAX)
}

/// The result is paid before it is made.
fn replace<'a>(budget: &Budget, text: &str, (from, to): (&str, &str), most: usize) -> Evaluated<'a> {
    let count = text.matches(from).take(most).count();
    budget.tenths(product(count, to.len()).saturating_add(product(1, text.len())))?;
    Ok(Value::text(text.replacen(from, to, most)))
}

fn join<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    let list = call.target.as_ref()?;
    let separator = match call.arguments.first() {
        None => "",
        Some(value) => text_of(value)?,
    };
    list.iter()?;
    Some(joined(call.budget, list, separator))
}

/// Paid as upstream has it, for the size of the result, before it is made.
fn joined<'a>(budget: &Budget, list: &Value<'a>, separator: &str) -> Evaluated<'a> {
    budget.tenths(list.size().saturating_mul(product(1, separator.len()).saturating_add(1)))?;
    for one in list.iter().into_iter().flatten() {
        budget.tenths(one.size().saturating_mul(2))?;
    }
    let mut out = String::new();
    for (at, one) in list.iter().into_iter().flatten().enumerate() {
        if at > 0 {
            out.push_str(separator);
        }
        out.push_str(text_of(&one).ok_or(EvalError::NoOverload)?);
    }
    Ok(Value::text(out))
}

fn char_at<'a>(text: &str, at: i64) -> Evaluated<'a> {
    let count = text.chars().count();
    match usize::try_from(at) {
        Ok(at) if at == count => Ok(Value::text("")),
        Ok(at) if at < count => Ok(Value::text(text.chars().nth(at).into_iter().collect::<String>())),
        _ => Err(EvalError::other(format!("index out of range: {at}"))),
    }
}

/// Positions count characters.
fn index_of<'a>(text: &str, wanted: &str, from: Option<Option<i64>>, last: bool) -> Answer<'a> {
    let count = text.chars().count();
    let offset = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(offset, _)| offset);
    let position = |found: Option<usize>| {
        let at = found.map_or(-1, |offset| i64::try_from(text[..offset].chars().count()).unwrap_or(-1));
        Ok(Value::Int(at))
    };
    let Some(from) = from else {
        return Some(position(if last { text.rfind(wanted) } else { text.find(wanted) }));
    };
    let from = from?;
    let Some(start) = usize::try_from(from).ok().filter(|from| *from <= count) else {
        return Some(Err(EvalError::other(format!("index out of range: {from}"))));
    };
    if last {
        let end = (offset(start) + wanted.len()).min(text.len());
        let end = (end..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
        return Some(position(text[..end].rfind(wanted)));
    }
    let start = offset(start);
    Some(position(text[start..].find(wanted).map(|found| found + start)))
}

/// Each part is an element of a list, and is paid as one before.
fn split<'a>(budget: &Budget, text: &str, separator: &str, most: i64) -> Evaluated<'a> {
    let limit = usize::try_from(most).unwrap_or(usize::MAX);
    let count = text.matches(separator).take(limit).count();
    budget.tenths(product(count + 1, 10).saturating_add(product(1, text.len())))?;
    Ok(parts(text, separator, most))
}

fn parts<'a>(text: &str, separator: &str, most: i64) -> Value<'a> {
    let list = |parts: Vec<&str>| Value::list(parts.into_iter().map(Value::text).collect());
    match usize::try_from(most) {
        Ok(0) => list(Vec::new()),
        Ok(most) if separator.is_empty() => {
            let mut parts: Vec<String> = text.chars().take(most - 1).map(String::from).collect();
            let rest: String = text.chars().skip(most - 1).collect();
            parts.extend((!rest.is_empty()).then_some(rest));
            Value::list(parts.into_iter().map(Value::text).collect())
        }
        Ok(most) => list(text.splitn(most, separator).collect()),
        Err(_) if separator.is_empty() => {
            Value::list(text.chars().map(|one| Value::text(one.to_string())).collect())
        }
        Err(_) => list(text.split(separator).collect()),
    }
}

fn substring<'a>(text: &str, start: i64, end: Option<i64>) -> Evaluated<'a> {
    let count = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let end = end.unwrap_or(count);
    if !(0..=count).contains(&start) || !(0..=count).contains(&end) {
        return Err(EvalError::other(format!(
            "index out of range: {}",
            if end > count { end } else { start }
        )));
    }
    if start > end {
        return Err(EvalError::other(format!("invalid substring range. start: {start}, end: {end}")));
    }
    let (skip, take) = (usize::try_from(start).unwrap_or(0), usize::try_from(end - start).unwrap_or(0));
    Ok(Value::text(text.chars().skip(skip).take(take).collect::<String>()))
}

/// `"%s and %d".format([…])`.
fn format<'a>(budget: &Budget, text: &str, arguments: &Value<'a>) -> Evaluated<'a> {
    // Numbers are longer as texts.
    (0..10).try_for_each(|_| arguments.pay_walk(budget))?;
    let (mut out, mut rest, mut next) = (String::new(), text, arguments.iter().into_iter().flatten());
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let digits = rest
            .strip_prefix('.')
            .map_or(0, |after| 1 + after.find(|one: char| !one.is_ascii_digit()).unwrap_or(after.len()));
        let precision = rest.get(1..digits).and_then(|digits| digits.parse::<usize>().ok());
        let Some(verb) = rest[digits..].chars().next() else {
            return Err(EvalError::other("unexpected end of string"));
        };
        rest = &rest[digits + verb.len_utf8()..];
        let value = next.next().ok_or_else(|| EvalError::other("index out of range"))?;
        // With all digits before and after the point.
        budget.spend(if matches!(verb, 'f' | 'e') { 50 } else { 1 })?;
        out.push_str(&formatted(verb, precision.map(|most| most.min(100)), &value)?);
    }
    out.push_str(rest);
    Ok(Value::text(out))
}

fn formatted(verb: char, precision: Option<usize>, value: &Value<'_>) -> Result<String, EvalError> {
    let whole = match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    let double = match value {
        Value::Double(value) => Some(*value),
        _ => whole.map(|whole| whole as f64),
    };
    let radix = |whole: i128, text: String| if whole < 0 { format!("-{text}") } else { text };
    let text = match (verb, whole, double) {
        ('s', ..) => Some(shown(value)),
        ('d', Some(whole), _) => Some(whole.to_string()),
        ('x', Some(whole), _) => Some(radix(whole, format!("{:x}", whole.unsigned_abs()))),
        ('X', Some(whole), _) => Some(radix(whole, format!("{:X}", whole.unsigned_abs()))),
        ('o', Some(whole), _) => Some(radix(whole, format!("{:o}", whole.unsigned_abs()))),
        ('b', Some(whole), _) => Some(radix(whole, format!("{:b}", whole.unsigned_abs()))),
        ('f', _, Some(double)) => Some(format!("{double:.*}", precision.unwrap_or(6))),
        ('e', _, Some(double)) => Some(format!("{double:.*e}", precision.unwrap_or(6))),
        _ => None,
    };
    text.ok_or_else(|| {
        EvalError::other(format!("error during formatting: unrecognized formatting clause {verb:?}"))
    })
}

/// A value as `%s` shows it.
fn shown(value: &Value<'_>) -> String {
    let mut out = String::new();
    show(value, &mut out);
    out
}

fn show(value: &Value<'_>, out: &mut String) {
    match value {
        Value::String(text) => out.push_str(text),
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(&value.to_string()),
        Value::Int(value) => out.push_str(&value.to_string()),
        Value::Uint(value) => out.push_str(&value.to_string()),
        Value::Double(value) => out.push_str(&value.to_string()),
        Value::Type(name) => out.push_str(name),
        Value::Bytes(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
        Value::Timestamp(time) => out.push_str(&time.to_string()),
        Value::Duration(duration) => out.push_str(&duration::seconds(*duration)),
        other => show_parts(other, out),
    }
}

fn show_parts(value: &Value<'_>, out: &mut String) {
    if let Some(list) = value.iter() {
        out.push('[');
        for (at, one) in list.enumerate() {
            out.push_str(if at > 0 { ", " } else { "" });
            show(&one, out);
        }
        out.push(']');
        return;
    }
    out.push('{');
    for (at, (key, value)) in value.entries().into_iter().flatten().enumerate() {
        out.push_str(if at > 0 { ", " } else { "" });
        show(&key.value(), out);
        out.push_str(": ");
        show(&value, out);
    }
    out.push('}');
}
