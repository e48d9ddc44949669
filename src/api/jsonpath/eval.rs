//! Evaluation: steps over borrowed values, text out.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::{JsonPathError, Part, Step, text_of};

type Current<'a> = Vec<Cow<'a, Value>>;

pub(super) fn render(parts: &[Part], object: &Value, out: &mut String) -> Result<(), JsonPathError> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Expression(steps) => {
                let results = walk(steps, vec![Cow::Borrowed(object)])?;
                let texts: Vec<String> = results.iter().map(|value| text_of(value)).collect();
                out.push_str(&texts.join(" "));
            }
            Part::Range(steps, body) => {
                for item in walk(steps, vec![Cow::Borrowed(object)])? {
                    render(body, &item, out)?;
                }
            }
        }
    }
    Ok(())
}

pub(super) fn values(parts: &[Part], object: &Value) -> Result<Vec<Value>, JsonPathError> {
    let mut found = Vec::new();
    for part in parts {
        match part {
            Part::Text(_) => {}
            Part::Expression(steps) => {
                found.extend(walk(steps, vec![Cow::Borrowed(object)])?.into_iter().map(Cow::into_owned));
            }
            Part::Range(steps, body) => {
                for item in walk(steps, vec![Cow::Borrowed(object)])? {
                    found.extend(values(body, &item)?);
                }
            }
        }
    }
    Ok(found)
}

fn walk<'a>(steps: &[Step], mut current: Current<'a>) -> Result<Current<'a>, JsonPathError> {
    for step in steps {
        current = advance(step, current)?;
    }
    Ok(current)
}

fn advance<'a>(step: &Step, current: Current<'a>) -> Result<Current<'a>, JsonPathError> {
    let mut next = Vec::new();
    match step {
        Step::Literal(value) => next.push(Cow::Owned(value.clone())),
        Step::Field(name) => next.extend(current.into_iter().filter_map(|value| field(value, name))),
        Step::Wildcard => next.extend(current.into_iter().flat_map(children)),
        Step::Recursive => {
            for value in current {
                descend(value, &mut next);
            }
        }
        Step::Union(members) => {
            for member in members {
                next.extend(walk(member, current.clone())?);
            }
        }
        Step::Slice { start, end, step, single } => {
            for value in current {
                next.extend(slice(value, *start, *end, *step, *single)?);
            }
        }
        Step::Filter { left, operator, right } => {
            for value in current {
                if !value.is_array() {
                    return Err(JsonPathError(format!(
                        "{} is not array or slice and cannot be filtered",
                        text_of(&value)
                    )));
                }
                for item in children(value) {
                    if passes(&item, left, operator, right)? {
                        next.push(item);
                    }
                }
            }
        }
    }
    Ok(next)
}

fn field<'a>(value: Cow<'a, Value>, name: &str) -> Option<Cow<'a, Value>> {
    match value {
        Cow::Borrowed(value) => value.get(name).map(Cow::Borrowed),
        Cow::Owned(mut value) => value.get_mut(name).map(|found| Cow::Owned(found.take())),
    }
}

fn children(value: Cow<'_, Value>) -> Vec<Cow<'_, Value>> {
    match value {
        Cow::Borrowed(Value::Array(items)) => items.iter().map(Cow::Borrowed).collect(),
        Cow::Borrowed(Value::Object(map)) => map.values().map(Cow::Borrowed).collect(),
        Cow::Owned(Value::Array(items)) => items.into_iter().map(Cow::Owned).collect(),
        Cow::Owned(Value::Object(map)) => map.into_iter().map(|(_, value)| Cow::Owned(value)).collect(),
        _ => Vec::new(),
    }
}

/// The value and all below it that have something below them.
fn descend<'a>(value: Cow<'a, Value>, found: &mut Current<'a>) {
    let below = children(value.clone());
    if below.is_empty() {
        return;
    }
    found.push(value);
    for child in below {
        descend(child, found);
    }
}

fn slice(
    value: Cow<'_, Value>,
    start: Option<i64>,
    end: Option<i64>,
    step: Option<i64>,
    single: bool,
) -> Result<Current<'_>, JsonPathError> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    if !value.is_array() {
        return Err(JsonPathError(format!("{} is not array or slice", text_of(&value))));
    }
    let items = children(value);
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let out_of_bounds =
        |index: i64| Err(JsonPathError(format!("array index out of bounds: index {index}, length {length}")));
    let from_end = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
    let first = from_end(start.unwrap_or(0));
    let last = if single { first.saturating_add(1) } else { end.map_or(length, from_end) };
    if first == last {
        return Ok(Vec::new());
    }
    if first >= length || first < 0 {
        return out_of_bounds(first);
    }
    if last > length || last < 0 {
        return out_of_bounds(last - 1);
    }
    if first > last {
        return Err(JsonPathError(format!("starting index {first} is greater than ending index {last}")));
    }
    let step = match step {
        None => 1,
        Some(step) if step > 0 => usize::try_from(step).unwrap_or(usize::MAX),
        Some(step) => return Err(JsonPathError(format!("step must be > 0, got {step}"))),
    };
    let bounds = |index: i64| usize::try_from(index).unwrap_or(0);
    Ok(items.into_iter().take(bounds(last)).skip(bounds(first)).step_by(step).collect())
}

fn passes(item: &Value, left: &[Step], operator: &str, right: &[Step]) -> Result<bool, JsonPathError> {
    let lefts = walk(left, vec![Cow::Borrowed(item)])?;
    if operator == "exists" {
        return Ok(!lefts.is_empty());
    }
    let rights = walk(right, vec![Cow::Borrowed(item)])?;
    let (left, right) = match (&lefts[..], &rights[..]) {
        ([left], [right]) => (left, right),
        ([], _) | (_, []) => return Ok(false),
        _ => return Err(JsonPathError("can only compare one element at a time".to_string())),
    };
    let order = compare(left, right);
    match operator {
        "==" => Ok(order == Some(Ordering::Equal)),
        "!=" => Ok(order != Some(Ordering::Equal)),
        "<" => Ok(order == Some(Ordering::Less)),
        ">" => Ok(order == Some(Ordering::Greater)),
        "<=" => Ok(matches!(order, Some(Ordering::Less | Ordering::Equal))),
        ">=" => Ok(matches!(order, Some(Ordering::Greater | Ordering::Equal))),
        other => Err(JsonPathError(format!("unrecognized filter operator {other}"))),
    }
}

/// None for values that cannot be compared.
fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
        (left, right) => (left == right).then_some(Ordering::Equal),
    }
}
