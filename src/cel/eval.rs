//! Evaluation: a walk over the expression. Each step is paid for.
//!
//! `&&` and `||` look at the other side when one fails: `true || error` is true, in either order.

use std::collections::BTreeMap;

use crate::ast::{Binary, Expr, Macro, MacroKind};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::functions::{self, Call};
use crate::operators;
use crate::patterns::{Constants, Patterns};
use crate::program::Activation;
use crate::shared::Shared;
use crate::types;
use crate::value::{Evaluated, Key, Value};

/// One evaluation, with the names that macros have bound.
pub(crate) struct Evaluation<'e, 'a> {
    activation: &'e Activation<'a>,
    patterns: Patterns<'a>,
    bound: Vec<(&'a str, Value<'a>)>,
}

impl<'e, 'a> Evaluation<'e, 'a> {
    pub(crate) fn new(activation: &'e Activation<'a>, patterns: &'a Constants) -> Self {
        Evaluation { activation, patterns: Patterns::new(patterns), bound: Vec::new() }
    }

    fn spend(&self, steps: u64) -> Result<(), EvalError> {
        self.activation.budget.spend(steps)
    }

    fn tenths(&self, tenths: u64) -> Result<(), EvalError> {
        self.activation.budget.tenths(tenths)
    }

    pub(crate) fn expression(&mut self, expression: &'a Expr) -> Evaluated<'a> {
        let _deeper = self.activation.budget.deeper()?;
        self.spend(1)?;
        let value = match expression {
            Expr::Null => Ok(Value::Null),
            Expr::Bool(value) => Ok(Value::Bool(*value)),
            Expr::Int(value) => Ok(Value::Int(*value)),
            Expr::Uint(value) => Ok(Value::Uint(*value)),
            Expr::Double(value) => Ok(Value::Double(*value)),
            Expr::String(value) => Ok(Value::String(Shared::Borrowed(value))),
            Expr::Bytes(value) => Ok(Value::Bytes(Shared::Borrowed(value))),
            Expr::Ident(name) => self.name(name),
            Expr::Select { operand, field, optional } => self.select(expression, operand, field, *optional),
            Expr::Has { operand, field } => self.has(operand, field),
            Expr::Index { operand, index, optional } => self.index(operand, index, *optional),
            Expr::Call { target, name, arguments } => self.call(target.as_deref(), name, arguments),
            Expr::List(elements) => self.list(elements),
            Expr::Map(entries) => self.map(entries),
            Expr::Struct { name, fields } => self.structure(name, fields),
            Expr::Not(operand) => match self.expression(operand)? {
                Value::Bool(value) => Ok(Value::Bool(!value)),
                _ => Err(EvalError::NoOverload),
            },
            Expr::Negate(operand) => operators::negate(&self.expression(operand)?),
            Expr::And(one, two) => self.both(one, two, false),
            Expr::Or(one, two) => self.both(one, two, true),
            Expr::If(condition, then, otherwise) => match self.expression(condition)? {
                Value::Bool(true) => self.expression(then),
                Value::Bool(false) => self.expression(otherwise),
                _ => Err(EvalError::NoOverload),
            },
            Expr::Binary(operator, one, two) => {
                let (one, two) = (self.expression(one)?, self.expression(two)?);
                self.binary(*operator, one, two)
            }
            Expr::Macro(inner) => self.expand(inner),
        }?;
        // Here all that functions and macros make passes by.
        self.activation.budget.nested(&value)?;
        Ok(value)
    }

    fn name(&mut self, name: &'a str) -> Evaluated<'a> {
        let bound = self.bound.iter().rev().find(|(own, _)| *own == name).map(|(_, value)| value.clone());
        let found = bound.or_else(|| self.activation.get(name));
        found.or_else(|| types::type_value(name)).ok_or_else(|| EvalError::NoAttribute(name.to_string()))
    }

    fn is_variables(&self, operand: &Expr) -> bool {
        matches!(operand, Expr::Ident(name) if name == "variables") && self.activation.has_variables()
    }

    fn select(
        &mut self,
        whole: &'a Expr,
        operand: &'a Expr,
        field: &'a str,
        optional: bool,
    ) -> Evaluated<'a> {
        if self.is_variables(operand) {
            return self.activation.variable(field);
        }
        if field == "requestResource" && matches!(operand, Expr::Ident(name) if name == "authorizer") {
            let of_request = self.activation.get("authorizer.requestResource");
            return of_request.ok_or_else(|| EvalError::NoKey(field.to_string()));
        }
        if let Some(name) = types::type_of_path(whole) {
            return Ok(Value::Type(name));
        }
        let from = self.expression(operand)?;
        let (from, optional) = match from {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(value)) => ((**value).clone(), true),
            from => (from, optional),
        };
        self.tenths(from.lookup())?;
        let found = from.get(&Key::String(Shared::Borrowed(field))).ok_or(EvalError::NoOverload)?;
        match (found, optional) {
            (found, true) => Ok(Value::optional(found)),
            (Some(found), false) => Ok(found),
            (None, false) => Err(EvalError::NoKey(field.to_string())),
        }
    }

    fn has(&mut self, operand: &'a Expr, field: &'a str) -> Evaluated<'a> {
        if self.is_variables(operand) {
            return Ok(Value::Bool(self.activation.variable(field).is_ok()));
        }
        let from = match self.expression(operand)? {
            Value::Optional(None) => return Ok(Value::Bool(false)),
            Value::Optional(Some(value)) => (**value).clone(),
            from => from,
        };
        self.tenths(from.lookup())?;
        let found = from.get(&Key::String(Shared::Borrowed(field))).ok_or(EvalError::NoOverload)?;
        Ok(Value::Bool(found.is_some()))
    }

    fn index(&mut self, operand: &'a Expr, index: &'a Expr, optional: bool) -> Evaluated<'a> {
        let (from, index) = (self.expression(operand)?, self.expression(index)?);
        let (from, optional) = match from {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(value)) => ((**value).clone(), true),
            from => (from, optional),
        };
        self.tenths(index.size().saturating_add(from.lookup()))?;
        match (operators::index(&from, &index), optional) {
            (found, false) => found,
            (Ok(found), true) => Ok(Value::some(found)),
            (Err(EvalError::NoKey(_) | EvalError::Bounds(_)), true) => Ok(Value::Optional(None)),
            (Err(error), true) => Err(error),
        }
    }

    fn call(&mut self, target: Option<&'a Expr>, name: &'a str, arguments: &'a [Expr]) -> Evaluated<'a> {
        if let Some(Expr::Ident(namespace)) = target
            && functions::is_namespace(namespace)
            && !self.bound.iter().any(|(own, _)| own == namespace)
            && self.activation.get(namespace).is_none()
        {
            let arguments = self.all(arguments)?;
            return self.function(&format!("{namespace}.{name}"), None, arguments);
        }
        let target = target.map(|target| self.expression(target)).transpose()?;
        // The other side of these is looked at only if it is needed.
        match (&target, name, arguments) {
            (Some(Value::Optional(Some(value))), "orValue", [_]) => return Ok((***value).clone()),
            (Some(Value::Optional(None)), "orValue" | "or", [other]) => return self.expression(other),
            (Some(some @ Value::Optional(Some(_))), "or", [_]) => return Ok(some.clone()),
            _ => {}
        }
        let arguments = self.all(arguments)?;
        self.function(name, target, arguments)
    }

    fn function(&self, name: &str, target: Option<Value<'a>>, arguments: Vec<Value<'a>>) -> Evaluated<'a> {
        let Activation { budget, authorizer, .. } = self.activation;
        functions::call(&Call {
            name,
            target,
            arguments,
            budget,
            patterns: &self.patterns,
            authorizer: *authorizer,
        })
    }

    fn all(&mut self, expressions: &'a [Expr]) -> Result<Vec<Value<'a>>, EvalError> {
        expressions.iter().map(|expression| self.expression(expression)).collect()
    }

    fn list(&mut self, elements: &'a [(Expr, bool)]) -> Evaluated<'a> {
        let mut list = Vec::with_capacity(elements.len());
        for (element, optional) in elements {
            match (self.expression(element)?, optional) {
                (Value::Optional(None), true) => {}
                (Value::Optional(Some(value)), true) => list.push((**value).clone()),
                (_, true) => return Err(EvalError::NoOverload),
                (value, false) => list.push(value),
            }
        }
        Ok(Value::list(list))
    }

    fn map(&mut self, entries: &'a [(Expr, Expr, bool)]) -> Evaluated<'a> {
        let mut map = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = Key::of(&self.expression(key)?);
            let key = key.ok_or_else(|| EvalError::other("unsupported key type"))?;
            self.tenths(key.size())?;
            let value = match (self.expression(value)?, optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(value)), true) => (**value).clone(),
                (_, true) => return Err(EvalError::NoOverload),
                (value, false) => value,
            };
            map.insert(key, value);
        }
        Ok(Value::of_map(map))
    }

    fn structure(&mut self, name: &str, fields: &'a [(String, Expr, bool)]) -> Evaluated<'a> {
        let mut map = BTreeMap::new();
        for (field, value, optional) in fields {
            let value = match (self.expression(value)?, optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(value)), true) => (**value).clone(),
                (_, true) => return Err(EvalError::NoOverload),
                (value, false) => value,
            };
            map.insert(Key::String(Shared::Borrowed(field.as_str())), value);
        }
        Ok(Value::structure(name, map))
    }

    /// `one && two`, or `one || two` if what decides is true.
    fn both(&mut self, one: &'a Expr, two: &'a Expr, decides: bool) -> Evaluated<'a> {
        let bool_of = |value: Evaluated<'a>| match value? {
            Value::Bool(value) => Ok(value),
            _ => Err(EvalError::NoOverload),
        };
        let one = bool_of(self.expression(one));
        if one == Ok(decides) {
            return Ok(Value::Bool(decides));
        }
        // Nothing is worth going on when there is nothing left to pay with.
        if one == Err(EvalError::Cost) {
            return Err(EvalError::Cost);
        }
        match (one, bool_of(self.expression(two))) {
            (_, Ok(two)) if two == decides => Ok(Value::Bool(decides)),
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(_), Ok(_)) => Ok(Value::Bool(!decides)),
        }
    }

    fn binary(&mut self, operator: Binary, one: Value<'a>, two: Value<'a>) -> Evaluated<'a> {
        // What is compared, copied or searched is paid by its size.
        let size = match operator {
            Binary::In => two.lookup().saturating_add(one.size()),
            Binary::Add => {
                let size = one.size().saturating_add(two.size());
                if one.iter().is_some() { size.saturating_mul(10) } else { size }
            }
            _ => one.size().min(two.size()),
        };
        self.tenths(size)?;
        operators::binary(operator, one, two, self.activation.budget)
    }

    fn expand(&mut self, inner: &'a Macro) -> Evaluated<'a> {
        let over = self.expression(&inner.over)?;
        let name = inner.names.first().map_or("", String::as_str);
        match (inner.kind, over) {
            (MacroKind::Bind, over) => self.with(&[(name, over)], &inner.body),
            (MacroKind::OptMap, Value::Optional(Some(value))) => {
                self.with(&[(name, (**value).clone())], &inner.body).map(Value::some)
            }
            (MacroKind::OptFlatMap, Value::Optional(Some(value))) => {
                self.with(&[(name, (**value).clone())], &inner.body)
            }
            (MacroKind::OptMap | MacroKind::OptFlatMap, Value::Optional(None)) => Ok(Value::Optional(None)),
            (MacroKind::OptMap | MacroKind::OptFlatMap, _) => Err(EvalError::NoOverload),
            (_, over) => self.comprehend(inner, &over),
        }
    }

    fn with(&mut self, names: &[(&'a str, Value<'a>)], body: &'a Expr) -> Evaluated<'a> {
        let before = self.bound.len();
        self.bound.extend(names.iter().cloned());
        let value = self.expression(body);
        self.bound.truncate(before);
        value
    }

    /// Round by round: what is walked through stays where it is.
    fn comprehend(&mut self, inner: &'a Macro, over: &Value<'a>) -> Evaluated<'a> {
        let mut result = Comprehension::new(inner.kind);
        let names: Vec<&'a str> = inner.names.iter().map(String::as_str).collect();
        if let Some(elements) = over.iter() {
            for (at, element) in elements.enumerate() {
                let key = Key::Int(i64::try_from(at).unwrap_or(i64::MAX));
                // The only name stands for the element.
                let bound = if names.len() == 1 { (None, element) } else { (Some(key.value()), element) };
                if self.round(inner, &names, bound, key, &mut result)? {
                    break;
                }
            }
            return result.end();
        }
        for (key, value) in over.entries().ok_or(EvalError::NoOverload)? {
            self.tenths(key.size())?;
            let bound = if names.len() == 1 { (None, key.value()) } else { (Some(key.value()), value) };
            if self.round(inner, &names, bound, key, &mut result)? {
                break;
            }
        }
        result.end()
    }

    /// One round with its names; true if no other is needed.
    fn round(
        &mut self,
        inner: &'a Macro,
        names: &[&'a str],
        (first, last): (Option<Value<'a>>, Value<'a>),
        key: Key<'a>,
        result: &mut Comprehension<'a>,
    ) -> Result<bool, EvalError> {
        self.spend(1)?;
        let before = self.bound.len();
        self.bound.extend(names.iter().copied().zip(first.into_iter().chain([last.clone()])));
        let meant = match &inner.filter {
            Some(filter) => self.expression(filter),
            None => Ok(Value::Bool(true)),
        };
        let value = match meant {
            Ok(Value::Bool(true)) => Ok(Some(self.expression(&inner.body))),
            Ok(Value::Bool(false)) => Ok(None),
            Ok(_) => Err(EvalError::NoOverload),
            Err(error) => Err(error),
        };
        self.bound.truncate(before);
        match value? {
            None => Ok(false),
            Some(Err(EvalError::Cost)) => Err(EvalError::Cost),
            Some(value) => result.take(value, last, key, self.activation.budget),
        }
    }
}

/// What rounds add up to.
struct Comprehension<'a> {
    kind: MacroKind,
    list: Vec<Value<'a>>,
    map: BTreeMap<Key<'a>, Value<'a>>,
    count: usize,
    /// The first round that failed; a later one may decide all the same.
    error: Option<EvalError>,
    decided: Option<bool>,
}

impl<'a> Comprehension<'a> {
    fn new(kind: MacroKind) -> Self {
        let (list, map) = (Vec::new(), BTreeMap::new());
        Comprehension { kind, list, map, count: 0, error: None, decided: None }
    }

    /// Takes the value of a round; true if no other is needed.
    fn take(
        &mut self,
        value: Evaluated<'a>,
        element: Value<'a>,
        key: Key<'a>,
        budget: &Budget,
    ) -> Result<bool, EvalError> {
        let bool_of = |value: Evaluated<'a>| match value? {
            Value::Bool(value) => Ok(value),
            _ => Err(EvalError::NoOverload),
        };
        match self.kind {
            MacroKind::All | MacroKind::Exists => {
                let decides = self.kind == MacroKind::Exists;
                match bool_of(value) {
                    Ok(value) if value == decides => self.decided = Some(decides),
                    Ok(_) => {}
                    Err(error) => self.error = self.error.take().or(Some(error)),
                }
            }
            MacroKind::ExistsOne => self.count += usize::from(bool_of(value)?),
            MacroKind::Filter => {
                if bool_of(value)? {
                    self.list.push(element);
                }
            }
            MacroKind::TransformMap => {
                self.map.insert(key, value?);
            }
            MacroKind::TransformMapEntry => {
                for (key, value) in value?.entries().ok_or(EvalError::NoOverload)? {
                    budget.tenths(key.size().saturating_add(10))?;
                    if self.map.insert(key.clone(), value).is_some() {
                        return Err(EvalError::other(format!("insert failed: key {key} already exists")));
                    }
                }
            }
            _ => self.list.push(value?),
        }
        Ok(self.decided.is_some())
    }

    fn end(self) -> Evaluated<'a> {
        match self.kind {
            MacroKind::All | MacroKind::Exists => match (self.decided, self.error) {
                (Some(decided), _) => Ok(Value::Bool(decided)),
                (None, Some(error)) => Err(error),
                (None, None) => Ok(Value::Bool(self.kind == MacroKind::All)),
            },
            MacroKind::ExistsOne => Ok(Value::Bool(self.count == 1)),
            MacroKind::TransformMap | MacroKind::TransformMapEntry => Ok(Value::of_map(self.map)),
            _ => Ok(Value::list(self.list)),
        }
    }
}
