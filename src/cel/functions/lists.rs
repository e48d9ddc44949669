//! Lists: Kubernetes' library, the language's `lists` extension, and sets.

use std::cmp::Ordering;
use std::ops::Not;

use super::call::{Answer, Call};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::operators;
use crate::value::{Evaluated, Value};

pub(super) const NAMES: &[&str] = &[
    "isSorted",
    "sum",
    "min",
    "max",
    "indexOf",
    "lastIndexOf",
    "slice",
    "flatten",
    "sort",
    "distinct",
    "reverse",
    "lists.range",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "first",
    "last",
];

/// Numbers that `lists.range` makes at most.
const MOST: i64 = 10_000;

pub(super) fn call<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    let Some(target) = &call.target else { return global(call) };
    target.iter()?;
    if let Err(error) = pay(call, target) {
        return Some(Err(error));
    }
    let (list, budget) = (target.elements()?, call.budget);
    let number = |at: usize| match call.arguments.get(at) {
        Some(Value::Int(number)) => Some(*number),
        _ => None,
    };
    let position = |at: Option<usize>| Ok(Value::Int(at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1)));
    Some(match (call.name, &call.arguments[..]) {
        ("isSorted", []) => is_sorted(&list),
        ("sum", []) => sum(&list, budget),
        ("min", []) => extreme(&list, Ordering::Less, "min"),
        ("max", []) => extreme(&list, Ordering::Greater, "max"),
        ("indexOf", [wanted]) => index_of(list.iter().enumerate(), wanted, budget).and_then(position),
        ("lastIndexOf", [wanted]) => {
            index_of(list.iter().enumerate().rev(), wanted, budget).and_then(position)
        }
        ("slice", [_, _]) => slice(&list, number(0)?, number(1)?),
        ("flatten", []) => flatten(list, 1, budget).map(Value::list),
        ("flatten", [_]) => flatten(list, number(0)?, budget).map(Value::list),
        ("sort", []) => sort(list),
        ("distinct", []) => distinct(list, budget).map(Value::list),
        ("reverse", []) => Ok(Value::list(list.into_iter().rev().collect())),
        ("first", []) => Ok(Value::optional(list.first().cloned())),
        ("last", []) => Ok(Value::optional(list.last().cloned())),
        _ => return None,
    })
}

fn global<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    match (call.name, &call.arguments[..]) {
        ("lists.range", [Value::Int(most)]) => {
            if *most > MOST {
                return Some(Err(EvalError::Cost));
            }
            let paid = call.budget.spend(u64::try_from(*most).unwrap_or(0));
            Some(paid.map(|()| Value::list((0..*most).map(Value::Int).collect())))
        }
        (name, [one, two]) if name.starts_with("sets.") => {
            one.iter()?;
            two.iter()?;
            sets(name, one, two, call.budget)
        }
        _ => None,
    }
}

/// Every element of one with every element of the other, which is paid before.
fn sets<'a>(name: &str, one: &Value<'a>, two: &Value<'a>, budget: &Budget) -> Answer<'a> {
    let product = one.size().saturating_mul(two.size());
    let is_twice = name == "sets.equivalent";
    if let Err(error) = budget.spend(product.saturating_mul(1 + u64::from(is_twice))) {
        return Some(Err(error));
    }
    let covers = |list: &Value<'a>, other: &Value<'a>| {
        every(other, |wanted| Ok(every(list, |own| Ok(!own.equals(wanted, budget)?))?.not()))
    };
    let found = match name {
        "sets.contains" => covers(one, two),
        "sets.equivalent" => covers(one, two).and_then(|covered| Ok(covered && covers(two, one)?)),
        "sets.intersects" => {
            every(two, |wanted| every(one, |own| Ok(!own.equals(wanted, budget)?))).map(bool::not)
        }
        _ => return None,
    };
    Some(found.map(Value::Bool))
}

fn every<'a>(
    list: &Value<'a>,
    holds: impl Fn(&Value<'a>) -> Result<bool, EvalError>,
) -> Result<bool, EvalError> {
    for one in list.iter().into_iter().flatten() {
        if !holds(&one)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A walk through a list, and the comparisons of what has to be put in order.
fn pay<'a>(call: &Call<'_, 'a>, list: &Value<'a>) -> Result<(), EvalError> {
    call.budget.spend(list.size())?;
    let walks = match call.name {
        "isSorted" | "min" | "max" => 1,
        "sort" => list.size().checked_ilog2().unwrap_or(0) + 1,
        _ => 0,
    };
    (0..walks).try_for_each(|_| list.pay_walk(call.budget))
}

fn index_of<'v, 'a: 'v>(
    list: impl Iterator<Item = (usize, &'v Value<'a>)>,
    wanted: &Value<'a>,
    budget: &Budget,
) -> Result<Option<usize>, EvalError> {
    for (at, one) in list {
        if one.equals(wanted, budget)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn is_sorted<'a>(list: &[Value<'a>]) -> Evaluated<'a> {
    for pair in list.windows(2) {
        match pair[0].order(&pair[1]) {
            None => return Err(EvalError::NoOverload),
            Some(Ordering::Greater) => return Ok(Value::Bool(false)),
            Some(_) => {}
        }
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(list: &[Value<'a>], budget: &Budget) -> Evaluated<'a> {
    let mut rest = list.iter().cloned();
    let Some(first) = rest.next() else { return Ok(Value::Int(0)) };
    rest.try_fold(first, |sum, one| match (&sum, &one) {
        (Value::String(_) | Value::List(_) | Value::Json(_), _) => Err(EvalError::NoOverload),
        _ => operators::binary(crate::ast::Binary::Add, sum, one, budget),
    })
}

fn extreme<'a>(list: &[Value<'a>], wanted: Ordering, name: &str) -> Evaluated<'a> {
    let mut rest = list.iter();
    let first = rest.next().ok_or_else(|| EvalError::other(format!("{name} called on empty list")))?;
    let mut best = first;
    for one in rest {
        match one.order(best) {
            None => return Err(EvalError::NoOverload),
            Some(order) if order == wanted => best = one,
            Some(_) => {}
        }
    }
    Ok(best.clone())
}

fn slice<'a>(list: &[Value<'a>], start: i64, end: i64) -> Evaluated<'a> {
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    let part = range.filter(|(start, end)| start <= end).and_then(|(start, end)| list.get(start..end));
    match part {
        Some(part) => Ok(Value::list(part.to_vec())),
        None => Err(EvalError::other(format!("cannot slice({start}, {end}), list is length {}", list.len()))),
    }
}

fn flatten<'a>(list: Vec<Value<'a>>, depth: i64, budget: &Budget) -> Result<Vec<Value<'a>>, EvalError> {
    let _deeper = budget.deeper()?;
    let mut out = Vec::new();
    for one in list {
        budget.spend(if depth > 0 { one.size() } else { 1 })?;
        match one.elements().filter(|_| depth > 0) {
            Some(inner) => out.extend(flatten(inner, depth - 1, budget)?),
            None => out.push(one),
        }
    }
    Ok(out)
}

fn sort(mut list: Vec<Value<'_>>) -> Evaluated<'_> {
    if list.windows(2).any(|pair| pair[0].order(&pair[1]).is_none()) {
        return Err(EvalError::NoOverload);
    }
    list.sort_by(|one, two| one.order(two).unwrap_or(Ordering::Equal));
    Ok(Value::list(list))
}

fn distinct<'a>(list: Vec<Value<'a>>, budget: &Budget) -> Result<Vec<Value<'a>>, EvalError> {
    let mut out: Vec<Value<'a>> = Vec::new();
    for one in list {
        if index_of(out.iter().enumerate(), &one, budget)?.is_none() {
            out.push(one);
        }
    }
    Ok(out)
}
