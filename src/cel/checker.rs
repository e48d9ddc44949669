//! Types of an expression before it runs: fields that no object has, operators on what they are not for.
//!
//! Only what is sure is a fault: wherever a type is not known, anything may be there. Operators and macros
//! are judged as cel-go does; of functions it is known what they come to, not what they want. Expressions do
//! not remember where their parts stand, so a fault is shown at the first place that looks like it.

use crate::ast::{Binary, Expr, Macro, MacroKind};
use crate::error::ParseError;
use crate::functions;
use crate::program::Program;
use crate::types;
use crate::typing::Type;

/// What an expression comes to, and all that is wrong with its types.
pub struct Checked<'t> {
    pub of: Type<'t>,
    pub faults: Vec<ParseError>,
}

impl Program {
    /// Checks the types of the program, whose names stand for values of these types.
    pub fn check_types<'e, 't>(&'e self, names: &[(&'e str, Type<'t>)]) -> Checked<'t> {
        let mut checker = Checker { source: self.source(), scope: names.to_vec(), faults: Vec::new() };
        let of = checker.expression(self.expression());
        Checked { of, faults: checker.faults }
    }
}

struct Checker<'e, 't> {
    source: &'e str,
    /// The innermost last.
    scope: Vec<(&'e str, Type<'t>)>,
    faults: Vec<ParseError>,
}

impl<'e, 't> Checker<'e, 't> {
    fn fault(&mut self, at: &str, message: String) -> Type<'t> {
        let at = self.source.find(at).unwrap_or(0);
        self.faults.push(ParseError::at(self.source, at, message));
        Type::Dyn
    }

    fn no_overload(&mut self, sign: &str, shown: &str, types: &[&Type<'t>]) -> Type<'t> {
        let types: Vec<String> = types.iter().map(ToString::to_string).collect();
        let message = format!("found no matching overload for '{shown}' applied to '({})'", types.join(", "));
        self.fault(sign, message)
    }

    fn named(&self, name: &str) -> Option<Type<'t>> {
        self.scope.iter().rev().find(|(own, _)| *own == name).map(|(_, of)| of.clone())
    }

    fn expression(&mut self, expression: &'e Expr) -> Type<'t> {
        match expression {
            Expr::Null => Type::Null,
            Expr::Bool(_) => Type::Bool,
            Expr::Int(_) => Type::Int,
            Expr::Uint(_) => Type::Uint,
            Expr::Double(_) => Type::Double,
            Expr::String(_) => Type::String,
            Expr::Bytes(_) => Type::Bytes,
            Expr::Ident(name) => self.named(name).unwrap_or(Type::Dyn),
            Expr::Select { .. } if types::type_of_path(expression).is_some() => Type::Dyn,
            Expr::Select { operand, field, optional } => {
                let from = self.expression(operand);
                match (self.select(&from, field), optional) {
                    (found @ Type::Optional(_), true) if matches!(from, Type::Optional(_)) => found,
                    (found, true) => Type::optional(found),
                    (found, false) => found,
                }
            }
            Expr::Has { operand, field } => {
                let from = self.expression(operand);
                self.select(&from, field);
                Type::Bool
            }
            Expr::Index { operand, index, optional } => {
                self.expression(index);
                let from = self.expression(operand);
                let (from, optional) = match from {
                    Type::Optional(inner) => ((*inner).clone(), true),
                    from => (from, *optional),
                };
                let found = match from {
                    Type::List(of) | Type::Map(of) => (*of).clone(),
                    _ => Type::Dyn,
                };
                if optional { Type::optional(found) } else { found }
            }
            Expr::Call { target, name, arguments } => self.call(target.as_deref(), name, arguments),
            Expr::List(elements) => {
                let types = elements.iter().map(|(element, optional)| {
                    let of = self.expression(element);
                    if *optional { Type::Dyn } else { of }
                });
                let types: Vec<_> = types.collect();
                Type::list(joined(types))
            }
            Expr::Map(entries) => self.map(entries),
            Expr::Struct { fields, .. } => {
                fields.iter().for_each(|(_, value, _)| drop(self.expression(value)));
                Type::Dyn
            }
            Expr::Not(operand) => match self.expression(operand) {
                Type::Bool | Type::Dyn => Type::Bool,
                of => self.no_overload("!", "!_", &[&of]),
            },
            Expr::Negate(operand) => match self.expression(operand) {
                of @ (Type::Int | Type::Double | Type::Duration | Type::Dyn) => of,
                of => self.no_overload("-", "-_", &[&of]),
            },
            Expr::And(one, two) => self.logic("&&", "_&&_", one, two),
            Expr::Or(one, two) => self.logic("||", "_||_", one, two),
            Expr::If(condition, then, otherwise) => {
                let (condition, then) = (self.expression(condition), self.expression(then));
                let otherwise = self.expression(otherwise);
                if !matches!(condition, Type::Bool | Type::Dyn) {
                    return self.no_overload("?", "_?_:_", &[&condition, &then, &otherwise]);
                }
                joined(vec![then, otherwise])
            }
            Expr::Binary(operator, one, two) => {
                let (one, two) = (self.expression(one), self.expression(two));
                self.binary(*operator, &one, &two)
            }
            Expr::Macro(inner) => self.expand(inner),
        }
    }

    fn select(&mut self, from: &Type<'t>, field: &str) -> Type<'t> {
        match from {
            Type::Object(object) => match object.field(field) {
                Some(found) => found,
                None => {
                    let at = [format!(".{field}"), format!(".?{field}")];
                    let at = at.iter().find(|at| self.source.contains(*at)).cloned();
                    self.fault(&at.unwrap_or_default(), format!("undefined field '{field}'"))
                }
            },
            Type::Map(of) => (**of).clone(),
            Type::Optional(inner) => {
                let inner = (**inner).clone();
                Type::optional(self.select(&inner, field))
            }
            Type::Bool
            | Type::Int
            | Type::Uint
            | Type::Double
            | Type::String
            | Type::Bytes
            | Type::List(_) => {
                let message = format!("type '{from}' does not support field selection");
                self.fault(&format!(".{field}"), message)
            }
            _ => Type::Dyn,
        }
    }

    fn map(&mut self, entries: &'e [(Expr, Expr, bool)]) -> Type<'t> {
        let (mut values, mut texts) = (Vec::new(), true);
        for (key, value, optional) in entries {
            texts &= matches!(self.expression(key), Type::String);
            let value = self.expression(value);
            values.push(if *optional { Type::Dyn } else { value });
        }
        if texts { Type::map(joined(values)) } else { Type::Dyn }
    }

    fn logic(&mut self, sign: &str, shown: &str, one: &'e Expr, two: &'e Expr) -> Type<'t> {
        let (one, two) = (self.expression(one), self.expression(two));
        match (&one, &two) {
            (Type::Bool | Type::Dyn, Type::Bool | Type::Dyn) => Type::Bool,
            _ => self.no_overload(sign, shown, &[&one, &two]),
        }
    }

    fn binary(&mut self, operator: Binary, one: &Type<'t>, two: &Type<'t>) -> Type<'t> {
        let found = match operator {
            Binary::Equal | Binary::NotEqual => one.fits(two).then_some(Type::Bool),
            Binary::Less | Binary::LessEqual | Binary::Greater | Binary::GreaterEqual => ordered(one, two),
            Binary::In => match two {
                Type::List(_) | Type::Map(_) | Type::Dyn => Some(Type::Bool),
                _ => None,
            },
            _ if matches!((one, two), (Type::Dyn, _) | (_, Type::Dyn)) => Some(Type::Dyn),
            Binary::Add | Binary::Subtract => sum(operator, one, two),
            Binary::Multiply | Binary::Divide | Binary::Remainder => match (one, two) {
                (Type::Int, Type::Int) => Some(Type::Int),
                (Type::Uint, Type::Uint) => Some(Type::Uint),
                (Type::Double, Type::Double) if operator != Binary::Remainder => Some(Type::Double),
                _ => None,
            },
        };
        let (sign, shown) = sign(operator);
        found.unwrap_or_else(|| self.no_overload(sign, shown, &[one, two]))
    }

    fn call(&mut self, target: Option<&'e Expr>, name: &str, arguments: &'e [Expr]) -> Type<'t> {
        if let Some(Expr::Ident(namespace)) = target
            && functions::is_namespace(namespace)
            && self.named(namespace).is_none()
        {
            arguments.iter().for_each(|argument| drop(self.expression(argument)));
            return Type::Dyn;
        }
        let target = target.map(|target| self.expression(target));
        let arguments: Vec<_> = arguments.iter().map(|argument| self.expression(argument)).collect();
        match (&target, name, &arguments[..]) {
            (Some(Type::Optional(of)), "value", []) => (**of).clone(),
            (Some(Type::Optional(of)), "orValue", [other]) => joined(vec![(**of).clone(), other.clone()]),
            (Some(Type::Optional(_)), "hasValue", []) => Type::Bool,
            (None, "string", _) => Type::String,
            (None, "int", _) => Type::Int,
            (None, "uint", _) => Type::Uint,
            (None, "double", _) => Type::Double,
            (None, "bool", _) => Type::Bool,
            (None, "bytes", _) => Type::Bytes,
            (None, "timestamp", _) => Type::Timestamp,
            (None, "duration", _) => Type::Duration,
            (_, "size", _) => Type::Int,
            (Some(Type::String), "startsWith" | "endsWith" | "contains" | "matches", _) => Type::Bool,
            (Some(Type::String), "lowerAscii" | "upperAscii" | "trim" | "replace" | "substring", _) => {
                Type::String
            }
            (Some(Type::String), "split", _) => Type::list(Type::String),
            (Some(Type::List(_)), "join", _) => Type::String,
            _ => Type::Dyn,
        }
    }

    fn expand(&mut self, inner: &'e Macro) -> Type<'t> {
        let over = self.expression(&inner.over);
        let bound = match (inner.kind, &over) {
            (MacroKind::Bind, over) => vec![over.clone()],
            (MacroKind::OptMap | MacroKind::OptFlatMap, Type::Optional(of)) => vec![(**of).clone()],
            (MacroKind::OptMap | MacroKind::OptFlatMap, _) => vec![Type::Dyn],
            (_, Type::List(of)) if inner.names.len() == 1 => vec![(**of).clone()],
            (_, Type::List(of)) => vec![Type::Int, (**of).clone()],
            (_, Type::Map(of)) => vec![Type::String, (**of).clone()],
            (_, Type::Dyn | Type::Object(_)) => vec![Type::Dyn, Type::Dyn],
            (_, over) => {
                let message = format!(
                    "expression of type '{over}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.fault("", message);
                vec![Type::Dyn, Type::Dyn]
            }
        };
        let before = self.scope.len();
        self.scope.extend(inner.names.iter().map(String::as_str).zip(bound));
        if let Some(filter) = &inner.filter {
            self.expression(filter);
        }
        let body = self.expression(&inner.body);
        self.scope.truncate(before);
        match (inner.kind, over) {
            (MacroKind::All | MacroKind::Exists | MacroKind::ExistsOne, _) => Type::Bool,
            (MacroKind::Filter, over @ Type::List(_)) => over,
            (MacroKind::Filter, Type::Map(_)) => Type::list(Type::String),
            (MacroKind::Map, _) => Type::list(body),
            (MacroKind::Bind, _) => body,
            (MacroKind::OptMap, _) => Type::optional(body),
            (MacroKind::OptFlatMap, _) => body,
            _ => Type::Dyn,
        }
    }
}

/// The type of them all, if they have one.
fn joined<'t>(types: Vec<Type<'t>>) -> Type<'t> {
    let Some(first) = types.first() else { return Type::Dyn };
    let is_known = |of: &Type<'t>| !matches!(of, Type::Dyn | Type::Null);
    let is_same = types.iter().all(|of| is_known(of) && first.fits(of) && !matches!(of, Type::Object(_)));
    if is_same || types.len() == 1 { first.clone() } else { Type::Dyn }
}

/// Numbers are ordered across their types.
fn ordered<'t>(one: &Type<'t>, two: &Type<'t>) -> Option<Type<'t>> {
    let is_number = |of: &Type<'t>| matches!(of, Type::Int | Type::Uint | Type::Double);
    let has_order = |of: &Type<'t>| {
        use Type::{Bool, Bytes, Duration, Dyn, String, Timestamp};
        is_number(of) || matches!(of, Bool | String | Bytes | Timestamp | Duration | Dyn)
    };
    let is_one = one.fits(two) || is_number(one) && is_number(two);
    (is_one && has_order(one) && has_order(two)).then_some(Type::Bool)
}

fn sum<'t>(operator: Binary, one: &Type<'t>, two: &Type<'t>) -> Option<Type<'t>> {
    let adds = operator == Binary::Add;
    Some(match (one, two) {
        (Type::Int, Type::Int) => Type::Int,
        (Type::Uint, Type::Uint) => Type::Uint,
        (Type::Double, Type::Double) => Type::Double,
        (Type::Duration, Type::Duration) => Type::Duration,
        (Type::Timestamp, Type::Duration) => Type::Timestamp,
        (Type::Duration, Type::Timestamp) if adds => Type::Timestamp,
        (Type::Timestamp, Type::Timestamp) if !adds => Type::Duration,
        (Type::String, Type::String) if adds => Type::String,
        (Type::Bytes, Type::Bytes) if adds => Type::Bytes,
        (Type::List(_), Type::List(_)) if adds => joined(vec![one.clone(), two.clone()]),
        _ => return None,
    })
}

/// How an operator is written, and how messages name it.
fn sign(operator: Binary) -> (&'static str, &'static str) {
    match operator {
        Binary::Equal => ("==", "_==_"),
        Binary::NotEqual => ("!=", "_!=_"),
        Binary::Less => ("<", "_<_"),
        Binary::LessEqual => ("<=", "_<=_"),
        Binary::Greater => (">", "_>_"),
        Binary::GreaterEqual => (">=", "_>=_"),
        Binary::In => (" in ", "@in"),
        Binary::Add => ("+", "_+_"),
        Binary::Subtract => ("-", "_-_"),
        Binary::Multiply => ("*", "_*_"),
        Binary::Divide => ("/", "_/_"),
        Binary::Remainder => ("%", "_%_"),
    }
}

#[cfg(test)]
mod tests;
