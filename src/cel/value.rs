//! What expressions come to. Values borrow from the program and from the trees that it looks at.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;

use crate::budget::Budget;
use crate::duration;
use crate::error::EvalError;
use crate::opaque::Opaque;
use crate::shared::Shared;

/// What an expression or a function comes to.
pub(crate) type Evaluated<'a> = Result<Value<'a>, EvalError>;

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Shared<'a, str>),
    Bytes(Shared<'a, [u8]>),
    List(Rc<Nested<Vec<Value<'a>>>>),
    Map(Rc<Nested<BTreeMap<Key<'a>, Value<'a>>>>),
    /// A list or an object that is looked at where it lies.
    Json(&'a Json),
    Timestamp(Timestamp),
    Duration(SignedDuration),
    Type(&'static str),
    Optional(Option<Rc<Nested<Value<'a>>>>),
    /// A quantity, an address, an authorizer.
    Opaque(Rc<Opaque>),
    /// `Object.spec{…}`: part of what a policy applies.
    Struct(Rc<Nested<(String, BTreeMap<Key<'a>, Value<'a>>)>>),
}

/// What holds values, with how deep they lie in each other: whoever drops a value goes down to its innermost
/// part on the stack, so an evaluation makes none that is deeper than its budget allows.
#[derive(Clone, Debug)]
pub struct Nested<T> {
    depth: u32,
    content: T,
}

impl<T> Nested<T> {
    fn over(content: T, parts: impl Fn(&T) -> u32) -> Rc<Self> {
        let depth = parts(&content).saturating_add(1);
        Rc::new(Nested { depth, content })
    }

    pub(crate) fn into_inner(self) -> T {
        self.content
    }
}

impl<T> Deref for Nested<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.content
    }
}

fn deepest<'v, 'a: 'v>(values: impl Iterator<Item = &'v Value<'a>>) -> u32 {
    values.map(Value::depth).max().unwrap_or(0)
}

/// The key of a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key<'a> {
    Bool(bool),
    Int(i64),
    String(Shared<'a, str>),
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Bool(value) => write!(out, "{value}"),
            Key::Int(value) => write!(out, "{value}"),
            Key::String(value) => out.write_str(value),
        }
    }
}

impl<'a> Key<'a> {
    pub(crate) fn of(value: &Value<'a>) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Int(*value),
            Value::Uint(value) => Key::Int(i64::try_from(*value).ok()?),
            Value::Double(value) if value.fract() == 0.0 => Key::Int(*value as i64),
            Value::String(value) => Key::String(value.clone()),
            _ => return None,
        })
    }

    /// What it costs to compare it.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Key::String(text) => u64::try_from(text.len()).unwrap_or(u64::MAX),
            _ => 1,
        }
    }

    pub(crate) fn value(&self) -> Value<'a> {
        match self {
            Key::Bool(value) => Value::Bool(*value),
            Key::Int(value) => Value::Int(*value),
            Key::String(value) => Value::String(value.clone()),
        }
    }
}

impl<'a> From<&'a Json> for Value<'a> {
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Value::Int(number),
                (None, Some(number)) => Value::Uint(number),
                _ => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::String(Shared::Borrowed(text)),
            Json::Array(_) | Json::Object(_) => Value::Json(json),
        }
    }
}

impl<'a> Value<'a> {
    pub fn text(text: impl Into<String>) -> Self {
        Value::String(Shared::Owned(Rc::from(text.into())))
    }

    pub fn list(values: Vec<Value<'a>>) -> Self {
        Value::List(Nested::over(values, |values| deepest(values.iter())))
    }

    pub fn map(entries: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (Key::String(Shared::Borrowed(key)), value));
        Value::of_map(entries.collect())
    }

    pub(crate) fn of_map(map: BTreeMap<Key<'a>, Value<'a>>) -> Self {
        Value::Map(Nested::over(map, |map| deepest(map.values())))
    }

    pub(crate) fn structure(name: &str, fields: BTreeMap<Key<'a>, Value<'a>>) -> Self {
        Value::Struct(Nested::over((name.to_string(), fields), |of| deepest(of.1.values())))
    }

    /// How many lists, maps and the like lie in each other; trees of JSON, which are only borrowed, count as
    /// nothing.
    pub(crate) fn depth(&self) -> u32 {
        match self {
            Value::List(list) => list.depth,
            Value::Map(map) => map.depth,
            Value::Optional(Some(value)) => value.depth,
            Value::Struct(object) => object.depth,
            _ => 0,
        }
    }

    /// A string of the format `date-time`, or of `date`.
    pub fn timestamp(text: &str) -> Option<Self> {
        let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
        let time = text.parse().ok().or_else(|| day().map(|day| day.timestamp()));
        time.map(Value::Timestamp)
    }

    /// A string of the format `duration`.
    pub fn duration(text: &str) -> Option<Self> {
        duration::parse(text).map(Value::Duration)
    }

    /// A value that may be nothing.
    pub fn optional(value: Option<Value<'a>>) -> Self {
        Value::Optional(value.map(|value| Nested::over(value, Value::depth)))
    }

    pub(crate) fn some(value: Value<'a>) -> Self {
        Value::optional(Some(value))
    }

    /// The name of its type.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::List(_) | Value::Json(Json::Array(_)) => "list",
            Value::Map(_) | Value::Json(_) => "map",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Opaque(opaque) => opaque.type_name(),
            Value::Struct(object) => &object.0,
        }
    }

    /// About how large it is, in elements or characters: what functions on it cost.
    pub(crate) fn size(&self) -> u64 {
        let size = match self {
            Value::String(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(list) => list.len(),
            Value::Map(map) => map.len(),
            Value::Json(Json::Array(list)) => list.len(),
            Value::Json(Json::Object(map)) => map.len(),
            Value::Struct(object) => object.1.len(),
            Value::Optional(Some(value)) => return value.size(),
            Value::Opaque(opaque) => return opaque.size(),
            _ => 1,
        };
        u64::try_from(size).unwrap_or(u64::MAX)
    }

    /// The elements of a list.
    pub fn elements(&self) -> Option<Vec<Value<'a>>> {
        match self {
            Value::List(list) => Some(list.to_vec()),
            Value::Json(Json::Array(list)) => Some(list.iter().map(Value::from).collect()),
            _ => None,
        }
    }

    /// The elements of a list, one by one.
    pub(crate) fn iter<'v>(&'v self) -> Option<Box<dyn DoubleEndedIterator<Item = Value<'a>> + 'v>> {
        match self {
            Value::List(list) => Some(Box::new(list.iter().cloned())),
            Value::Json(Json::Array(list)) => Some(Box::new(list.iter().map(Value::from))),
            _ => None,
        }
    }

    /// The entries of a map, one by one.
    pub(crate) fn entries<'v>(&'v self) -> Option<Box<dyn Iterator<Item = (Key<'a>, Value<'a>)> + 'v>> {
        match self {
            Value::Map(map) => Some(Box::new(map.iter().map(|(key, value)| (key.clone(), value.clone())))),
            Value::Json(Json::Object(map)) => {
                let entry = |(key, value): (&'a String, &'a Json)| {
                    (Key::String(Shared::Borrowed(key.as_str())), Value::from(value))
                };
                Some(Box::new(map.iter().map(entry)))
            }
            _ => None,
        }
    }

    /// A member of a map by key; none if this is no map, and inside none if it has no such key.
    pub(crate) fn get(&self, key: &Key<'_>) -> Option<Option<Value<'a>>> {
        match self {
            Value::Map(map) => {
                let found = map.iter().find(|(own, _)| **own == *key).map(|(_, value)| value.clone());
                Some(found)
            }
            Value::Struct(object) => {
                Some(object.1.iter().find(|(own, _)| **own == *key).map(|(_, v)| v.clone()))
            }
            Value::Json(Json::Object(map)) => Some(match key {
                Key::String(name) => map.get(&**name).map(Value::from),
                _ => None,
            }),
            _ => None,
        }
    }

    /// Whether two values are equal; values of different types are not. Paid part by part.
    pub(crate) fn equals(&self, other: &Value<'_>, budget: &Budget) -> Result<bool, EvalError> {
        let _deeper = budget.deeper()?;
        budget.tenths(self.text_size().min(other.text_size()).saturating_add(1))?;
        if let Some(order) = numeric(self, other) {
            return Ok(order == Some(Ordering::Equal));
        }
        Ok(match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(one), Value::Bool(two)) => one == two,
            (Value::String(one), Value::String(two)) => one == two,
            (Value::Bytes(one), Value::Bytes(two)) => one == two,
            (Value::Timestamp(one), Value::Timestamp(two)) => one == two,
            (Value::Duration(one), Value::Duration(two)) => one == two,
            (Value::Type(one), Value::Type(two)) => one == two,
            (Value::Optional(None), Value::Optional(None)) => true,
            (Value::Optional(Some(one)), Value::Optional(Some(two))) => return one.equals(two, budget),
            (Value::Opaque(one), Value::Opaque(two)) => one.equals(two),
            (Value::Json(one), Value::Json(two)) if std::ptr::eq(*one, *two) => true,
            _ if self.size() != other.size() => false,
            _ => match (self.iter(), other.iter(), self.entries()) {
                (Some(one), Some(two), _) => {
                    for (one, two) in one.zip(two) {
                        if !one.equals(&two, budget)? {
                            return Ok(false);
                        }
                    }
                    true
                }
                (.., Some(entries)) => return self.same_entries(entries, other, budget),
                _ => false,
            },
        })
    }

    fn same_entries<'v>(
        &self,
        entries: impl Iterator<Item = (Key<'v>, Value<'v>)>,
        other: &Value<'_>,
        budget: &Budget,
    ) -> Result<bool, EvalError> {
        for (key, value) in entries {
            budget.tenths(key.size().saturating_add(other.lookup()))?;
            let Some(Some(found)) = other.get(&key) else { return Ok(false) };
            if !value.equals(&found, budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn text_size(&self) -> u64 {
        match self {
            Value::String(_) | Value::Bytes(_) | Value::Opaque(_) => self.size(),
            _ => 0,
        }
    }

    /// What it costs to look a member up: only trees of JSON have an index that fits every key.
    pub(crate) fn lookup(&self) -> u64 {
        match self {
            Value::Map(_) | Value::Struct(_) => self.size(),
            _ => 1,
        }
    }

    /// Pays for a walk through all of a value, before somebody walks.
    pub(crate) fn pay_walk(&self, budget: &Budget) -> Result<(), EvalError> {
        let _deeper = budget.deeper()?;
        budget.tenths(self.text_size().saturating_add(1))?;
        if let Value::Optional(Some(inner)) = self {
            return inner.pay_walk(budget);
        }
        for one in self.iter().into_iter().flatten() {
            one.pay_walk(budget)?;
        }
        if let Value::Struct(object) = self {
            for (key, value) in &object.1 {
                budget.tenths(key.size())?;
                value.pay_walk(budget)?;
            }
        }
        for (key, value) in self.entries().into_iter().flatten() {
            budget.tenths(key.size())?;
            value.pay_walk(budget)?;
        }
        Ok(())
    }

    /// The order of two values, if they have one.
    pub(crate) fn order(&self, other: &Value<'_>) -> Option<Ordering> {
        if let Some(order) = numeric(self, other) {
            return order;
        }
        match (self, other) {
            (Value::Bool(one), Value::Bool(two)) => Some(one.cmp(two)),
            (Value::String(one), Value::String(two)) => Some(one.cmp(two)),
            (Value::Bytes(one), Value::Bytes(two)) => Some(one.cmp(two)),
            (Value::Timestamp(one), Value::Timestamp(two)) => Some(one.cmp(two)),
            (Value::Duration(one), Value::Duration(two)) => Some(one.cmp(two)),
            _ => None,
        }
    }

    /// As JSON; none for what JSON has no form of. Parts that are shared are there once and are written as
    /// often as they are named, so this is paid, too.
    pub fn to_json(&self, budget: &Budget) -> Result<Option<Json>, EvalError> {
        // Trees take more room than values.
        budget.call(|| (0..8).try_for_each(|_| self.pay_walk(budget)))?;
        Ok(self.json())
    }

    fn json(&self) -> Option<Json> {
        Some(match self {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => (*value).into(),
            Value::Uint(value) => (*value).into(),
            Value::Double(value) => serde_json::Number::from_f64(*value)?.into(),
            Value::String(value) => Json::String(value.to_string()),
            Value::Json(value) => (*value).clone(),
            Value::List(list) => Json::Array(list.iter().map(Value::json).collect::<Option<_>>()?),
            Value::Map(map) => object(map)?,
            Value::Struct(of) => object(&of.1)?,
            Value::Timestamp(time) => Json::String(time.to_string()),
            Value::Duration(duration) => Json::String(duration::seconds(*duration)),
            Value::Optional(Some(value)) => value.json()?,
            _ => return None,
        })
    }
}

fn object(map: &BTreeMap<Key<'_>, Value<'_>>) -> Option<Json> {
    let entry = |(key, value): (&Key<'_>, &Value<'_>)| match key {
        Key::String(key) => Some((key.to_string(), value.json()?)),
        _ => None,
    };
    map.iter().map(entry).collect::<Option<serde_json::Map<_, _>>>().map(Json::Object)
}

/// The order of two numbers, of whatever types; the outer none if they are not both numbers.
fn numeric(one: &Value<'_>, two: &Value<'_>) -> Option<Option<Ordering>> {
    let whole = |value: &Value<'_>| match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    let double = |value: &Value<'_>| match value {
        Value::Double(value) => Some(*value),
        other => whole(other).map(|value| value as f64),
    };
    if let (Some(one), Some(two)) = (whole(one), whole(two)) {
        return Some(Some(one.cmp(&two)));
    }
    Some(double(one)?.partial_cmp(&double(two)?))
}
