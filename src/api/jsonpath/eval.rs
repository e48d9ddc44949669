//! Evaluation: steps over borrowed values, text out.
//!
//! Each value that a step looks at takes one from a budget. Recursive descents and unions multiply what comes
//! in, so a short path can reach far more values than the object has; who evaluates paths of others gives
//! them an end.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;

use serde_json::Value;

use super::{JsonPathError, Part, PathStep, text_of};

type Current<'a> = Vec<Cow<'a, Value>>;

/// How many values may be looked at yet.
pub(super) struct Budget(Cell<u64>);

impl Budget {
    pub(super) fn new(values: u64) -> Self {
        Budget(Cell::new(values))
    }

    fn take(&self, values: usize) -> Result<(), JsonPathError> {
        let left = self.0.get().checked_sub(values as u64);
        self.0.set(left.unwrap_or(0));
        left.map(drop).ok_or_else(|| JsonPathError("the path reaches too many values".to_string()))
    }
}

pub(super) fn render(
    parts: &[Part],
    object: &Value,
    budget: &Budget,
    out: &mut String,
) -> Result<(), JsonPathError> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Expression(steps) => {
                let results = walk(steps, vec![Cow::Borrowed(object)], budget)?;
                let texts: Vec<String> = results.iter().map(|value| text_of(value)).collect();
                out.push_str(&texts.join(" "));
            }
            Part::Range(steps, body) => {
                for item in walk(steps, vec![Cow::Borrowed(object)], budget)? {
                    render(body, &item, budget, out)?;
                }
            }
        }
    }
    Ok(())
}

/// The values of the expressions, in order; `most` of them at most.
pub(super) fn values(
    parts: &[Part],
    object: &Value,
    budget: &Budget,
    most: usize,
) -> Result<Vec<Value>, JsonPathError> {
    let mut found = Vec::new();
    for part in parts {
        let room = most.saturating_sub(found.len());
        match part {
            Part::Text(_) => {}
            Part::Expression(steps) => {
                let values = walk(steps, vec![Cow::Borrowed(object)], budget)?;
                found.extend(values.into_iter().take(room).map(Cow::into_owned));
            }
            Part::Range(steps, body) => {
                for item in walk(steps, vec![Cow::Borrowed(object)], budget)? {
                    let room = most.saturating_sub(found.len());
                    found.extend(values(body, &item, budget, room)?);
                }
            }
        }
    }
    Ok(found)
}

fn walk<'a>(
    steps: &[PathStep],
    mut current: Current<'a>,
    budget: &Budget,
) -> Result<Current<'a>, JsonPathError> {
    for step in steps {
        current = advance(step, current, budget)?;
    }
    Ok(current)
}

fn advance<'a>(step: &PathStep, current: Current<'a>, budget: &Budget) -> Result<Current<'a>, JsonPathError> {
    budget.take(current.len().max(1))?;
    let mut next = Vec::new();
    match step {
        PathStep::Literal(value) => next.push(Cow::Owned(value.clone())),
        PathStep::Field(name) => next.extend(current.into_iter().filter_map(|value| field(value, name))),
        PathStep::Wildcard => {
            for value in current {
                let below = children(value);
                budget.take(below.len())?;
                next.extend(below);
            }
        }
        PathStep::Recursive => {
            for value in current {
                descend(value, budget, &mut next)?;
            }
        }
        PathStep::Union(members) => {
            for member in members {
                budget.take(current.len())?;
                next.extend(walk(member, current.clone(), budget)?);
            }
        }
        PathStep::Slice { start, end, step, single } => {
            for value in current {
                next.extend(slice(value, *start, *end, *step, *single)?);
            }
        }
        PathStep::Filter { left, operator, right } => {
            for value in current {
                if !value.is_array() {
                    return Err(JsonPathError(format!(
                        "{} is not array or slice and cannot be filtered",
                        text_of(&value)
                    )));
                }
                for item in children(value) {
                    if passes(&item, left, operator, right, budget)? {
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
fn descend<'a>(value: Cow<'a, Value>, budget: &Budget, found: &mut Current<'a>) -> Result<(), JsonPathError> {
    let below = children(value.clone());
    budget.take(1 + below.len())?;
    if below.is_empty() {
        return Ok(());
    }
    found.push(value);
    below.into_iter().try_for_each(|child| descend(child, budget, found))
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

fn passes(
    item: &Value,
    left: &[PathStep],
    operator: &str,
    right: &[PathStep],
    budget: &Budget,
) -> Result<bool, JsonPathError> {
    let lefts = walk(left, vec![Cow::Borrowed(item)], budget)?;
    if operator == "exists" {
        return Ok(!lefts.is_empty());
    }
    let rights = walk(right, vec![Cow::Borrowed(item)], budget)?;
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
