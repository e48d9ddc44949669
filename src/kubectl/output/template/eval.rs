//! Evaluation of templates.

use serde_json::Value;

use super::functions::call;
use super::{Defined, Node, Pipeline, TemplateError, Term};

pub(super) type Evaluated<T> = Result<T, TemplateError>;

/// What a body asks of the loop around it.
enum Flow {
    Next,
    Break,
    Continue,
}

struct Run<'a> {
    out: String,
    variables: Vec<(String, Option<Value>)>,
    /// What `$` is.
    root: Maybe,
    defined: &'a Defined,
    depth: usize,
}

/// So deep templates may call each other, and so much they may write.
const MAX_DEPTH: usize = 100;
const MAX_OUTPUT: usize = 1 << 30;

pub(super) fn render(nodes: &[Node], defined: &Defined, object: &Value) -> Evaluated<String> {
    let root = Some(object.clone());
    let mut run = Run { out: String::new(), variables: Vec::new(), root: root.clone(), defined, depth: 0 };
    run.nodes(nodes, &root)?;
    Ok(run.out)
}

/// None is a value that is not there: it prints `<no value>` and counts as false.
pub(super) type Maybe = Option<Value>;

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Maybe) -> Evaluated<Flow> {
        let known = self.variables.len();
        for node in nodes {
            match self.node(node, dot)? {
                Flow::Next => {}
                flow => {
                    self.variables.truncate(known);
                    return Ok(flow);
                }
            }
        }
        self.variables.truncate(known);
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &Node, dot: &Maybe) -> Evaluated<Flow> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.assign.is_none() {
                    self.out.push_str(&text(&value));
                }
            }
            Node::If(branches) => {
                for (condition, body) in branches {
                    let holds = match condition {
                        Some(condition) => truth(&self.pipeline(condition, dot)?),
                        None => true,
                    };
                    if holds {
                        return self.nodes(body, dot);
                    }
                }
            }
            Node::With(over, body, otherwise) => {
                let value = self.pipeline(over, dot)?;
                return if truth(&value) { self.nodes(body, &value) } else { self.nodes(otherwise, dot) };
            }
            Node::Range { variables, over, body, otherwise } => {
                let value = self.pipeline(over, dot)?;
                self.range(variables, value, body, otherwise, dot)?;
            }
            Node::Template(name, over) => self.template(name, over.as_ref(), dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    /// Another template, which sees nothing of this one but the value it is given.
    fn template(&mut self, name: &str, over: Option<&Pipeline>, dot: &Maybe) -> Evaluated<()> {
        let value = over.map(|over| self.pipeline(over, dot)).transpose()?.flatten();
        let Some(body) = self.defined.get(name) else {
            return Err(TemplateError::new(format!("template {name:?} not defined")));
        };
        if self.depth == MAX_DEPTH || self.out.len() > MAX_OUTPUT {
            return Err(TemplateError::new(format!("exceeded maximum template depth ({MAX_DEPTH})")));
        }
        let variables = std::mem::take(&mut self.variables);
        let root = std::mem::replace(&mut self.root, value.clone());
        self.depth += 1;
        self.nodes(body, &value)?;
        self.depth -= 1;
        self.root = root;
        self.variables = variables;
        Ok(())
    }

    fn range(
        &mut self,
        variables: &[String],
        over: Maybe,
        body: &[Node],
        otherwise: &[Node],
        dot: &Maybe,
    ) -> Evaluated<()> {
        let items: Vec<(Value, Value)> = match over {
            Some(Value::Array(items)) => {
                items.into_iter().enumerate().map(|(index, item)| (Value::from(index), item)).collect()
            }
            Some(Value::Object(map)) => {
                map.into_iter().map(|(key, item)| (Value::String(key), item)).collect()
            }
            None | Some(Value::Null) => Vec::new(),
            Some(other) => {
                return Err(TemplateError::new(format!("range can't iterate over {}", text(&Some(other)))));
            }
        };
        if items.is_empty() {
            self.nodes(otherwise, dot)?;
            return Ok(());
        }
        for (key, item) in items {
            let known = self.variables.len();
            match variables {
                [] => {}
                [value] => self.variables.push((value.clone(), Some(item.clone()))),
                [index, value, ..] => {
                    self.variables.push((index.clone(), Some(key)));
                    self.variables.push((value.clone(), Some(item.clone())));
                }
            }
            let flow = self.nodes(body, &Some(item))?;
            self.variables.truncate(known);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Maybe) -> Evaluated<Maybe> {
        let mut value: Option<Maybe> = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, value, dot)?);
        }
        let value = value.flatten();
        match &pipeline.assign {
            Some((name, true)) => self.variables.push((name.clone(), value.clone())),
            Some((name, false)) => match self.variables.iter_mut().rfind(|(own, _)| own == name) {
                Some((_, slot)) => *slot = value.clone(),
                None => return Err(TemplateError::new(format!("undefined variable {name:?}"))),
            },
            None => {}
        }
        Ok(value)
    }

    /// A value, or a function with arguments; what came through the pipe is the last argument.
    fn command(&mut self, terms: &[Term], piped: Option<Maybe>, dot: &Maybe) -> Evaluated<Maybe> {
        let Some((first, rest)) = terms.split_first() else {
            return Err(TemplateError::new("missing value for command"));
        };
        let Term::Function(name) = first else {
            if !rest.is_empty() || piped.is_some() {
                return Err(TemplateError::new("can't give argument to non-function"));
            }
            return self.term(first, dot);
        };
        // These stop at the first argument that decides.
        if matches!(name.as_str(), "and" | "or") {
            let mut last = None;
            for term in rest {
                last = self.term(term, dot)?;
                if truth(&last) == (name == "or") {
                    return Ok(last);
                }
            }
            return Ok(piped.unwrap_or(last));
        }
        let mut arguments: Vec<Maybe> =
            rest.iter().map(|term| self.term(term, dot)).collect::<Evaluated<_>>()?;
        arguments.extend(piped);
        call(name, &arguments)
    }

    fn term(&mut self, term: &Term, dot: &Maybe) -> Evaluated<Maybe> {
        match term {
            Term::Literal(value) => Ok(Some(value.clone())),
            Term::Field(names) => Ok(walk(dot.clone(), names)),
            Term::Variable(name, names) if name == "$" => Ok(walk(self.root.clone(), names)),
            Term::Variable(name, names) => match self.variables.iter().rfind(|(own, _)| own == name) {
                Some((_, value)) => Ok(walk(value.clone(), names)),
                None => Err(TemplateError::new(format!("undefined variable {name:?}"))),
            },
            Term::Group(pipeline, names) => Ok(walk(self.pipeline(pipeline, dot)?, names)),
            Term::Function(name) => call(name, &[]),
        }
    }
}

fn walk(value: Maybe, names: &[String]) -> Maybe {
    names.iter().fold(value, |value, name| value.and_then(|value| value.get(name).cloned()))
}

pub(super) fn truth(value: &Maybe) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(bool)) => *bool,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
    }
}

/// As Go prints it: missing values are named, numbers are floats.
pub(super) fn text(value: &Maybe) -> String {
    match value {
        None | Some(Value::Null) => "<no value>".to_string(),
        Some(value) => go(value),
    }
}

pub(super) fn go(value: &Value) -> String {
    match value {
        Value::Number(number) => float(number.as_f64().unwrap_or(0.0)),
        Value::Array(items) => format!("[{}]", items.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", go(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        Value::Null => "<nil>".to_string(),
        Value::String(text) => text.clone(),
        Value::Bool(bool) => bool.to_string(),
    }
}

/// `%v` of a float64: an exponent from a million times ten on, if the digits need it.
fn float(number: f64) -> String {
    let exponent = if number == 0.0 { 0.0 } else { number.abs().log10().floor() };
    if (-4.0..21.0).contains(&exponent) && (exponent < 6.0 || number.fract() != 0.0) {
        return number.to_string();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, bare) = exponent.strip_prefix('-').map_or(("+", exponent), |bare| ("-", bare));
    format!("{digits}e{sign}{bare:0>2}")
}
