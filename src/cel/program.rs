//! A program and what it is run on.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::ast::{Expr, Macro};
use crate::authorizer::Authorizer;
use crate::budget::Budget;
use crate::error::{EvalError, ParseError};
use crate::eval::Evaluation;
use crate::functions;
use crate::parser::parse;
use crate::patterns::{Constants, Library};
use crate::types;
use crate::value::Value;

/// What the names of a program stand for.
pub struct Activation<'a> {
    names: HashMap<&'a str, Value<'a>>,
    /// `variables.NAME`: evaluated when they are first asked for.
    variables: Vec<(&'a str, &'a Program)>,
    known: RefCell<HashMap<&'a str, Result<Value<'a>, EvalError>>>,
    pub(crate) budget: &'a Budget,
    pub(crate) authorizer: Option<&'a dyn Authorizer>,
}

impl<'a> Activation<'a> {
    pub fn new(budget: &'a Budget) -> Self {
        let (names, variables) = (HashMap::new(), Vec::new());
        Activation { names, variables, known: RefCell::default(), budget, authorizer: None }
    }

    pub fn set(mut self, name: &'a str, value: impl Into<Value<'a>>) -> Self {
        self.names.insert(name, value.into());
        self
    }

    /// Programs that others may name as `variables.NAME`, each those before it.
    pub fn variables(mut self, variables: Vec<(&'a str, &'a Program)>) -> Self {
        self.variables = variables;
        self
    }

    /// Who answers for `authorizer`; the name itself is set by the caller.
    pub fn authorizer(mut self, authorizer: &'a dyn Authorizer) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<Value<'a>> {
        self.names.get(name).cloned()
    }

    pub(crate) fn has_variables(&self) -> bool {
        !self.variables.is_empty()
    }

    /// The value of a variable.
    pub(crate) fn variable(&self, name: &str) -> Result<Value<'a>, EvalError> {
        if let Some(known) = self.known.borrow().get(name) {
            return known.clone();
        }
        let found = self.variables.iter().find(|(own, _)| *own == name);
        let &(name, program) = found.ok_or_else(|| EvalError::NoKey(name.to_string()))?;
        // While it is being evaluated it is not there: variables do not go in circles.
        let circle =
            EvalError::other(format!("composited variable {name:?} fails to evaluate: it needs itself"));
        self.known.borrow_mut().insert(name, Err(circle));
        let value = program.evaluate(self);
        let value = value.map_err(|error| {
            EvalError::other(format!("composited variable {name:?} fails to evaluate: {error}"))
        });
        self.known.borrow_mut().insert(name, value.clone());
        value
    }
}

/// An expression that has been read.
#[derive(Clone, Debug)]
pub struct Program {
    source: String,
    expression: Expr,
    patterns: Constants,
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Program {
    /// Reads an expression that may use these names; an error tells of the first thing that is wrong.
    pub fn compile(source: &str, names: &[&str]) -> Result<Program, ParseError> {
        Program::compile_with(source, names, &Library::default())
    }

    /// The same of one among others, which share the room for their patterns.
    pub fn compile_with(source: &str, names: &[&str], library: &Library) -> Result<Program, ParseError> {
        let expression = parse(source)?;
        let checked = check(&expression, &mut names.to_vec());
        checked.map_err(|undeclared| {
            let at = source.find(&undeclared.0).unwrap_or(0);
            ParseError::at(source, at, undeclared.to_string())
        })?;
        let mut patterns = Constants::default();
        constants(&expression, library, &mut patterns).map_err(|(text, error)| {
            let at = source.find(text).unwrap_or(0);
            ParseError::at(source, at, error.to_string())
        })?;
        Ok(Program { source: source.to_string(), expression, patterns })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn expression(&self) -> &Expr {
        &self.expression
    }

    /// Whether the program uses a name.
    pub fn uses(&self, name: &str) -> bool {
        uses(&self.expression, name)
    }

    pub fn evaluate<'a>(&'a self, activation: &Activation<'a>) -> Result<Value<'a>, EvalError> {
        activation.budget.call(|| Evaluation::new(activation, &self.patterns).expression(&self.expression))
    }

    /// The same of a program that is to say yes or no.
    pub fn holds<'a>(&'a self, activation: &Activation<'a>) -> Result<bool, EvalError> {
        match self.evaluate(activation)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(EvalError::other(format!(
                "cel expression evaluates to {}, not to bool",
                other.type_name()
            ))),
        }
    }
}

/// Parts of an expression, but for those of a macro, which have names of their own.
fn parts(expression: &Expr) -> Vec<&Expr> {
    match expression {
        Expr::Select { operand, .. } | Expr::Has { operand, .. } => vec![&**operand],
        Expr::Not(one) | Expr::Negate(one) => vec![&**one],
        Expr::Index { operand, index, .. } => vec![&**operand, &**index],
        Expr::And(one, two) | Expr::Or(one, two) | Expr::Binary(_, one, two) => vec![&**one, &**two],
        Expr::If(one, two, three) => vec![&**one, &**two, &**three],
        Expr::Call { target, arguments, .. } => {
            target.iter().map(|target| &**target).chain(arguments).collect()
        }
        Expr::List(elements) => elements.iter().map(|(element, _)| element).collect(),
        Expr::Map(entries) => entries.iter().flat_map(|(key, value, _)| [key, value]).collect(),
        Expr::Struct { fields, .. } => fields.iter().map(|(_, value, _)| value).collect(),
        _ => Vec::new(),
    }
}

/// Reads the patterns that stand in an expression.
fn constants<'e>(
    expression: &'e Expr,
    library: &Library,
    found: &mut Constants,
) -> Result<(), (&'e str, EvalError)> {
    if let Expr::Call { target, name, arguments } = expression
        && matches!(name.as_str(), "matches" | "find" | "findAll")
        && let Some(Expr::String(text)) = arguments.get(usize::from(target.is_none()))
    {
        found.add(text, library).map_err(|error| (text.as_str(), error))?;
    }
    if let Expr::Macro(inner) = expression {
        let all = [Some(&inner.over), inner.filter.as_ref(), Some(&inner.body)];
        return all.into_iter().flatten().try_for_each(|part| constants(part, library, found));
    }
    parts(expression).into_iter().try_for_each(|part| constants(part, library, found))
}

/// A name that nobody knows.
#[derive(Debug, thiserror::Error)]
#[error("undeclared reference to '{0}' (in container '')")]
struct Undeclared(String);

/// Looks for names and functions that nobody knows.
fn check<'e>(expression: &'e Expr, scope: &mut Vec<&'e str>) -> Result<(), Undeclared> {
    let undeclared = |name: &str| Err(Undeclared(name.to_string()));
    match expression {
        Expr::Ident(name) => {
            if scope.contains(&name.as_str()) || types::is_type(name) {
                return Ok(());
            }
            return undeclared(name);
        }
        Expr::Select { .. } if types::type_of_path(expression).is_some() => return Ok(()),
        Expr::Macro(inner) => {
            let Macro { over, names, filter, body, .. } = &**inner;
            check(over, scope)?;
            let before = scope.len();
            scope.extend(names.iter().map(String::as_str));
            filter.iter().try_for_each(|filter| check(filter, scope))?;
            check(body, scope)?;
            scope.truncate(before);
            return Ok(());
        }
        Expr::Call { target, name, arguments } => {
            if let Some(Expr::Ident(namespace)) = target.as_deref()
                && functions::is_namespace(namespace)
                && !scope.contains(&namespace.as_str())
            {
                if !functions::is_known(&format!("{namespace}.{name}")) {
                    return undeclared(&format!("{namespace}.{name}"));
                }
                return arguments.iter().try_for_each(|argument| check(argument, scope));
            }
            if !functions::is_known(name) {
                return undeclared(name);
            }
        }
        _ => {}
    }
    parts(expression).into_iter().try_for_each(|part| check(part, scope))
}

fn uses(expression: &Expr, name: &str) -> bool {
    match expression {
        Expr::Ident(own) => own == name,
        Expr::Macro(inner) => {
            let rest = [Some(&inner.body), inner.filter.as_ref()];
            uses(&inner.over, name)
                || !inner.names.iter().any(|own| own == name)
                    && rest.into_iter().flatten().any(|part| uses(part, name))
        }
        other => parts(other).into_iter().any(|part| uses(part, name)),
    }
}
