//! Evaluation of templates.

use std::cmp::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Node, Pipeline, Term};

pub(super) const FUNCTIONS: [&str; 17] = [
    "and",
    "base64decode",
    "eq",
    "exists",
    "ge",
    "gt",
    "index",
    "le",
    "len",
    "lt",
    "ne",
    "not",
    "or",
    "print",
    "printf",
    "println",
    "slice",
];

type Evaluated<T> = Result<T, String>;

/// What a body asks of the loop around it.
enum Flow {
    Next,
    Break,
    Continue,
}

struct Run<'a> {
    out: String,
    variables: Vec<(String, Option<Value>)>,
    root: &'a Value,
}

pub(super) fn render(nodes: &[Node], object: &Value) -> Evaluated<String> {
    let mut run = Run { out: String::new(), variables: Vec::new(), root: object };
    run.nodes(nodes, &Some(object.clone()))?;
    Ok(run.out)
}

/// None is a value that is not there: it prints `<no value>` and counts as false.
type Maybe = Option<Value>;

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
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
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
            Some(other) => return Err(format!("range can't iterate over {}", text(&Some(other)))),
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
                None => return Err(format!("undefined variable {name:?}")),
            },
            None => {}
        }
        Ok(value)
    }

    /// A value, or a function with arguments; what came through the pipe is the last argument.
    fn command(&mut self, terms: &[Term], piped: Option<Maybe>, dot: &Maybe) -> Evaluated<Maybe> {
        let Some((first, rest)) = terms.split_first() else {
            return Err("missing value for command".to_string());
        };
        let Term::Function(name) = first else {
            if !rest.is_empty() || piped.is_some() {
                return Err("can't give argument to non-function".to_string());
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
            Term::Variable(name, names) if name == "$" => Ok(walk(Some(self.root.clone()), names)),
            Term::Variable(name, names) => match self.variables.iter().rfind(|(own, _)| own == name) {
                Some((_, value)) => Ok(walk(value.clone(), names)),
                None => Err(format!("undefined variable {name:?}")),
            },
            Term::Group(pipeline, names) => Ok(walk(self.pipeline(pipeline, dot)?, names)),
            Term::Function(name) => call(name, &[]),
        }
    }
}

fn walk(value: Maybe, names: &[String]) -> Maybe {
    names.iter().fold(value, |value, name| value.and_then(|value| value.get(name).cloned()))
}

fn truth(value: &Maybe) -> bool {
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
fn text(value: &Maybe) -> String {
    match value {
        None | Some(Value::Null) => "<no value>".to_string(),
        Some(value) => go(value),
    }
}

fn go(value: &Value) -> String {
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

fn call(name: &str, arguments: &[Maybe]) -> Evaluated<Maybe> {
    let one = || {
        arguments
            .first()
            .cloned()
            .ok_or_else(|| format!("wrong number of args for {name}: want at least 1 got 0"))
    };
    let bool = |value: bool| Ok(Some(Value::Bool(value)));
    match name {
        "not" => bool(!truth(&one()?)),
        "eq" => {
            let first = one()?;
            bool(arguments[1..].iter().any(|other| compare(&first, other) == Some(Ordering::Equal)))
        }
        "ne" | "lt" | "le" | "gt" | "ge" => {
            let [left, right] = arguments else {
                return Err(format!("wrong number of args for {name}: want 2 got {}", arguments.len()));
            };
            let order = compare(left, right);
            if name != "ne" && order.is_none() {
                return Err(format!("error calling {name}: incompatible types for comparison"));
            }
            bool(match name {
                "ne" => order != Some(Ordering::Equal),
                "lt" => order == Some(Ordering::Less),
                "le" => order != Some(Ordering::Greater),
                "gt" => order == Some(Ordering::Greater),
                _ => order != Some(Ordering::Less),
            })
        }
        "len" => match one()? {
            Some(Value::String(text)) => Ok(Some(Value::from(text.len()))),
            Some(Value::Array(items)) => Ok(Some(Value::from(items.len()))),
            Some(Value::Object(map)) => Ok(Some(Value::from(map.len()))),
            other => Err(format!("error calling len: len of {}", text(&other))),
        },
        "index" | "exists" => {
            let mut value = one()?;
            for key in &arguments[1..] {
                value = index(value, key, name == "exists")?;
            }
            if name == "exists" { bool(value.is_some()) } else { Ok(value) }
        }
        "slice" => {
            let Some(Value::String(string)) = one()? else {
                return Err("error calling slice: can only slice strings".to_string());
            };
            let bound = |at: usize, default: usize| {
                let number = arguments.get(at).and_then(|value| value.as_ref()).and_then(Value::as_f64);
                number.map_or(default, |number| number as usize)
            };
            let part = string.get(bound(1, 0)..bound(2, string.len()));
            part.map(|part| Some(Value::String(part.to_string())))
                .ok_or_else(|| "error calling slice: index out of range".to_string())
        }
        "print" => Ok(Some(Value::String(arguments.iter().map(text).collect()))),
        "println" => {
            let texts: Vec<String> = arguments.iter().map(text).collect();
            Ok(Some(Value::String(texts.join(" ") + "\n")))
        }
        "printf" => printf(arguments).map(|text| Some(Value::String(text))),
        "base64decode" => {
            let decoded = one()?.as_ref().and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
            let bytes = decoded.ok_or("error calling base64decode: illegal base64 data")?;
            Ok(Some(Value::String(String::from_utf8_lossy(&bytes).into_owned())))
        }
        other => Err(format!("function {other:?} not defined")),
    }
}

fn index(value: Maybe, key: &Maybe, lenient: bool) -> Evaluated<Maybe> {
    match (value, key) {
        (Some(Value::Object(map)), Some(Value::String(key))) => Ok(map.get(key).cloned()),
        (Some(Value::Array(items)), Some(Value::Number(at))) => {
            let found = at.as_f64().filter(|at| *at >= 0.0).and_then(|at| items.get(at as usize).cloned());
            if found.is_none() && !lenient {
                return Err(format!("error calling index: index out of range: {at}"));
            }
            Ok(found)
        }
        (None | Some(Value::Null), _) if lenient => Ok(None),
        (None | Some(Value::Null), _) => Err("error calling index: index of untyped nil".to_string()),
        (Some(other), _) if !lenient => {
            Err(format!("error calling index: can't index item of {}", go(&other)))
        }
        _ => Ok(None),
    }
}

fn compare(left: &Maybe, right: &Maybe) -> Option<Ordering> {
    match (left, right) {
        (Some(Value::Number(left)), Some(Value::Number(right))) => {
            left.as_f64()?.partial_cmp(&right.as_f64()?)
        }
        (Some(Value::String(left)), Some(Value::String(right))) => Some(left.cmp(right)),
        (Some(Value::Bool(left)), Some(Value::Bool(right))) => Some(left.cmp(right)),
        (None | Some(Value::Null), None | Some(Value::Null)) => Some(Ordering::Equal),
        _ => None,
    }
}

/// `%s %v %d %q %f %t %%`, with a width and flags `-` and `0`.
fn printf(arguments: &[Maybe]) -> Evaluated<String> {
    let Some((Some(Value::String(format)), values)) = arguments.split_first() else {
        return Err("wrong type for value; expected string".to_string());
    };
    let mut values = values.iter();
    let mut out = String::new();
    let mut letters = format.chars().peekable();
    while let Some(c) = letters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        while let Some(next) = letters.peek().filter(|c| c.is_ascii_digit() || matches!(c, '-' | '.' | '+')) {
            spec.push(*next);
            letters.next();
        }
        let Some(verb) = letters.next() else { return Ok(out + "%!(NOVERB)") };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = values.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let shown = match (verb, value) {
            ('q', Some(Value::String(text))) => format!("{text:?}"),
            ('d', Some(Value::Number(number))) => format!("{:.0}", number.as_f64().unwrap_or(0.0)),
            ('f', Some(Value::Number(number))) => {
                let places = spec.split_once('.').and_then(|(_, places)| places.parse().ok()).unwrap_or(6);
                format!("{:.places$}", number.as_f64().unwrap_or(0.0))
            }
            (_, value) => text(value),
        };
        let width: usize =
            spec.trim_start_matches('-').split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        match (spec.starts_with('-'), spec.starts_with('0')) {
            (true, _) => out.push_str(&format!("{shown:<width$}")),
            (false, true) => out.push_str(&format!("{shown:0>width$}")),
            (false, false) => out.push_str(&format!("{shown:>width$}")),
        }
    }
    Ok(out)
}
