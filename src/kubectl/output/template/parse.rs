//! From text to nodes: actions are cut out first, then each is split into tokens.

use serde_json::Value;

use super::{Defined, Node, Pipeline, TemplateError, Term};

type Parsed<T> = Result<T, TemplateError>;

/// What a list of nodes ended with.
enum End {
    Eof,
    Closed,
    /// `else`, and the rest of its action (`if …`, `with …`).
    Else(String),
}

/// So deep bodies and parentheses may stand in each other.
const MAX_DEPTH: usize = 100;

struct Parser<'a> {
    rest: &'a str,
    defined: Defined,
    depth: usize,
    /// The action before trimmed what follows it.
    trim: bool,
}

pub(super) fn template(text: &str) -> Parsed<(Vec<Node>, Defined)> {
    let mut parser = Parser { rest: text, defined: Defined::new(), depth: 0, trim: false };
    match parser.nodes()? {
        (nodes, End::Eof) => Ok((nodes, parser.defined)),
        (_, End::Closed) => Err(TemplateError::new("unexpected {{end}}")),
        (_, End::Else(_)) => Err(TemplateError::new("unexpected {{else}}")),
    }
}

impl Parser<'_> {
    /// The next text, and the action behind it.
    fn piece(&mut self) -> Parsed<(String, Option<String>)> {
        let Some(open) = self.rest.find("{{") else {
            let text = if self.trim { self.rest.trim_start() } else { self.rest };
            self.rest = "";
            return Ok((text.to_string(), None));
        };
        let mut text = &self.rest[..open];
        let mut inside = &self.rest[open + 2..];
        if self.trim {
            text = text.trim_start();
        }
        if let Some(after) = inside.strip_prefix('-').filter(|after| after.starts_with(char::is_whitespace)) {
            text = text.trim_end();
            inside = after;
        }
        let close = action_end(inside).ok_or_else(|| TemplateError::new("unclosed action"))?;
        let mut action = &inside[..close];
        self.rest = &inside[close + 2..];
        self.trim = false;
        if let Some(before) = action.strip_suffix('-').filter(|before| before.ends_with(char::is_whitespace))
        {
            self.trim = true;
            action = before;
        }
        Ok((text.to_string(), Some(action.trim().to_string())))
    }

    fn nodes(&mut self) -> Parsed<(Vec<Node>, End)> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(TemplateError::new("the template is nested too deeply"));
        }
        let nodes = self.nodes_here();
        self.depth -= 1;
        nodes
    }

    fn nodes_here(&mut self) -> Parsed<(Vec<Node>, End)> {
        let mut nodes = Vec::new();
        loop {
            let (text, action) = self.piece()?;
            if !text.is_empty() {
                nodes.push(Node::Text(text));
            }
            let Some(action) = action else { return Ok((nodes, End::Eof)) };
            // A keyword ends where its letters end: `{{range.items}}` and `{{if(eq .a 1)}}` are Go's as well.
            let letters = action.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(action.len());
            let (word, rest) = action.split_at(letters);
            match word {
                "" if action.is_empty() => return Err(TemplateError::new("missing value for command")),
                "" if action.starts_with("/*") => {}
                "end" => return Ok((nodes, End::Closed)),
                "else" => return Ok((nodes, End::Else(rest.trim().to_string()))),
                "if" => nodes.push(self.branches(rest)?),
                "with" => nodes.push(self.with(rest)?),
                "range" => nodes.push(self.range(rest)?),
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                "define" if self.depth > 1 => {
                    return Err(TemplateError::new("unexpected {{define}} clause"));
                }
                "define" => match named(rest, "define clause")? {
                    (name, None) => self.define(name)?,
                    _ => return Err(TemplateError::new("unexpected <pipeline> in define clause")),
                },
                "block" => {
                    let (name, over) = named(rest, "block clause")?;
                    let over = over.ok_or_else(|| TemplateError::new("missing value for block clause"))?;
                    self.define(name.clone())?;
                    nodes.push(Node::Template(name, Some(over)));
                }
                "template" => {
                    let (name, over) = named(rest, "template clause")?;
                    nodes.push(Node::Template(name, over));
                }
                _ => nodes.push(Node::Action(pipeline(&action)?)),
            }
        }
    }

    fn branches(&mut self, condition: &str) -> Parsed<Node> {
        let mut branches = Vec::new();
        let mut condition = Some(pipeline(condition)?);
        loop {
            let (body, end) = self.nodes()?;
            let last = condition.is_none();
            branches.push((condition.take(), body));
            match end {
                End::Closed => return Ok(Node::If(branches)),
                End::Eof => return Err(TemplateError::new("unexpected EOF")),
                End::Else(_) if last => return Err(TemplateError::new("expected end; found {{else}}")),
                End::Else(rest) => {
                    let next = rest
                        .strip_prefix("if")
                        .filter(|next| !next.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
                    condition = match next {
                        Some(next) => Some(pipeline(next)?),
                        None if rest.is_empty() => None,
                        None => return Err(TemplateError::new(format!("unexpected {rest:?} in else"))),
                    };
                }
            }
        }
    }

    /// The body of a template of its own. One of a name that is known takes its place.
    fn define(&mut self, name: String) -> Parsed<()> {
        match self.nodes()? {
            (body, End::Closed) => {
                self.defined.insert(name, body);
                Ok(())
            }
            (_, End::Else(_)) => Err(TemplateError::new("unexpected {{else}} in define clause")),
            (_, End::Eof) => Err(TemplateError::new("unexpected EOF")),
        }
    }

    fn with(&mut self, head: &str) -> Parsed<Node> {
        let over = pipeline(head)?;
        let (body, end) = self.nodes()?;
        let otherwise = match end {
            End::Closed => Vec::new(),
            End::Eof => return Err(TemplateError::new("unexpected EOF")),
            End::Else(rest) => {
                match rest.strip_prefix("with").filter(|next| next.starts_with([' ', '(', '.', '$'])) {
                    // It shares the one `end`.
                    Some(next) => {
                        self.depth += 1;
                        if self.depth > MAX_DEPTH {
                            return Err(TemplateError::new("the template is nested too deeply"));
                        }
                        let inner = self.with(next)?;
                        self.depth -= 1;
                        vec![inner]
                    }
                    None => match self.nodes()? {
                        (otherwise, End::Closed) => otherwise,
                        (_, End::Else(_)) => return Err(TemplateError::new("expected end; found {{else}}")),
                        (_, End::Eof) => return Err(TemplateError::new("unexpected EOF")),
                    },
                }
            }
        };
        Ok(Node::With(over, body, otherwise))
    }

    /// A body up to `end`, and what stands behind `else`.
    fn body(&mut self) -> Parsed<(Vec<Node>, Vec<Node>)> {
        match self.nodes()? {
            (body, End::Closed) => Ok((body, Vec::new())),
            (body, End::Else(_)) => match self.nodes()? {
                (otherwise, End::Closed) => Ok((body, otherwise)),
                _ => Err(TemplateError::new("unexpected EOF")),
            },
            (_, End::Eof) => Err(TemplateError::new("unexpected EOF")),
        }
    }

    fn range(&mut self, head: &str) -> Parsed<Node> {
        let (variables, over) = match head.split_once(":=") {
            Some((names, over)) if names.trim_start().starts_with('$') => {
                (names.split(',').map(|name| name.trim().to_string()).collect(), over)
            }
            _ => (Vec::new(), head),
        };
        let over = pipeline(over)?;
        let (body, otherwise) = self.body()?;
        Ok(Node::Range { variables, over, body, otherwise })
    }
}

/// Where `}}` closes an action; not inside of quotes or comments.
fn action_end(text: &str) -> Option<usize> {
    if text.trim_start().starts_with("/*") {
        let comment = text.find("*/")? + 2;
        return text[comment..].find("}}").map(|at| comment + at);
    }
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(open) if c == '\\' && open != '`' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`' | '\'') => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

/// A template's name in quotes, and perhaps a pipeline behind it.
fn named(text: &str, what: &str) -> Parsed<(String, Option<Pipeline>)> {
    let mut tokens = Tokens { rest: text.trim_start(), depth: 0 };
    let quote = tokens.rest.chars().next().filter(|c| matches!(c, '"' | '`'));
    let Some(quote) = quote else {
        return Err(TemplateError::new(format!("unexpected {:?} in {what}", text.trim())));
    };
    let Term::Literal(Value::String(name)) = tokens.quoted(quote)? else {
        return Err(TemplateError::new(format!("unexpected {:?} in {what}", text.trim())));
    };
    let rest = tokens.rest.trim();
    let over = if rest.is_empty() { None } else { Some(pipeline(rest)?) };
    Ok((name, over))
}

fn pipeline(text: &str) -> Parsed<Pipeline> {
    let mut tokens = Tokens { rest: text, depth: 0 };
    let pipeline = tokens.pipeline()?;
    match tokens.rest.trim() {
        "" => Ok(pipeline),
        rest => Err(TemplateError::new(format!("unexpected {rest:?} in command"))),
    }
}

struct Tokens<'a> {
    rest: &'a str,
    depth: usize,
}

impl Tokens<'_> {
    fn pipeline(&mut self) -> Parsed<Pipeline> {
        let trimmed = self.rest.trim_start();
        let mut assign = None;
        if let Some(name) = trimmed.strip_prefix('$') {
            let name_end =
                name.find(|c: char| !c.is_alphanumeric() && c != '_').map_or(trimmed.len(), |at| at + 1);
            let after = trimmed[name_end..].trim_start();
            for (sign, is_new) in [(":=", true), ("=", false)] {
                if let Some(rest) = after.strip_prefix(sign).filter(|rest| !rest.starts_with('=')) {
                    assign = Some((trimmed[..name_end].to_string(), is_new));
                    self.rest = rest;
                    break;
                }
            }
        }
        let mut commands = vec![Vec::new()];
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next() {
                None | Some(')') => break,
                Some('|') => {
                    self.rest = &self.rest[1..];
                    commands.push(Vec::new());
                }
                Some(_) => {
                    let term = self.term()?;
                    if let Some(command) = commands.last_mut() {
                        command.push(term);
                    }
                }
            }
        }
        if commands.iter().any(Vec::is_empty) {
            return Err(TemplateError::new("missing value for command"));
        }
        Ok(Pipeline { assign, commands })
    }

    /// `.a.b` behind something.
    fn chain(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(rest) = self.rest.strip_prefix('.') {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            if end == 0 {
                break;
            }
            names.push(rest[..end].to_string());
            self.rest = &rest[end..];
        }
        names
    }

    fn term(&mut self) -> Parsed<Term> {
        let first =
            self.rest.chars().next().ok_or_else(|| TemplateError::new("missing value for command"))?;
        match first {
            '.' if self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            '.' => {
                let names = self.chain();
                if names.is_empty() {
                    self.rest = &self.rest[1..];
                }
                Ok(Term::Field(names))
            }
            '$' => {
                let end = self.rest[1..]
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .map_or(self.rest.len(), |at| at + 1);
                let name = self.rest[..end].to_string();
                self.rest = &self.rest[end..];
                Ok(Term::Variable(name, self.chain()))
            }
            '(' => {
                self.rest = &self.rest[1..];
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(TemplateError::new("the template is nested too deeply"));
                }
                let inner = self.pipeline()?;
                self.depth -= 1;
                self.rest =
                    self.rest.strip_prefix(')').ok_or_else(|| TemplateError::new("unclosed left paren"))?;
                Ok(Term::Group(Box::new(inner), self.chain()))
            }
            '"' | '`' => self.quoted(first),
            '\'' => self.character(),
            c if c.is_ascii_digit() || matches!(c, '+' | '-') => self.number(),
            c if c.is_alphabetic() || c == '_' => {
                let end =
                    self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
                let word = &self.rest[..end];
                let term = match word {
                    "true" => Term::Literal(Value::Bool(true)),
                    "false" => Term::Literal(Value::Bool(false)),
                    "nil" => Term::Literal(Value::Null),
                    name if super::functions::FUNCTIONS.contains(&name) => Term::Function(name.to_string()),
                    name => return Err(TemplateError::new(format!("function {name:?} not defined"))),
                };
                self.rest = &self.rest[end..];
                Ok(term)
            }
            other => Err(TemplateError::new(format!("unexpected {other:?} in command"))),
        }
    }

    fn number(&mut self) -> Parsed<Term> {
        let mut before = ' ';
        let end = self
            .rest
            .char_indices()
            .find(|(at, c)| {
                // A sign stands at the beginning, or behind an exponent's letter.
                let is_sign = matches!(c, '+' | '-') && (*at == 0 || matches!(before, 'e' | 'E'));
                before = *c;
                !c.is_alphanumeric() && !matches!(c, '.' | '_') && !is_sign
            })
            .map_or(self.rest.len(), |(at, _)| at);
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        number_of(text)
            .map(Term::Literal)
            .ok_or_else(|| TemplateError::new(format!("bad number syntax: {text:?}")))
    }

    /// `'a'` is a number, as in Go.
    fn character(&mut self) -> Parsed<Term> {
        match self.quoted('\'')? {
            Term::Literal(Value::String(text)) if text.chars().count() == 1 => {
                let number = text.chars().next().map_or(0, u32::from);
                Ok(Term::Literal(Value::from(number)))
            }
            _ => Err(TemplateError::new("malformed character constant")),
        }
    }

    fn quoted(&mut self, quote: char) -> Parsed<Term> {
        let mut text = String::new();
        let mut letters = self.rest.char_indices().skip(1);
        while let Some((at, c)) = letters.next() {
            match c {
                c if c == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(Term::Literal(Value::String(text)));
                }
                '\\' if quote != '`' => {
                    let Some((_, c)) = letters.next() else { break };
                    let digits = match c {
                        'x' => 2,
                        'u' => 4,
                        'U' => 8,
                        _ => 0,
                    };
                    if digits > 0 {
                        let hex: String = letters.by_ref().take(digits).map(|(_, c)| c).collect();
                        let code = u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == digits);
                        let letter = code.and_then(char::from_u32);
                        text.push(letter.ok_or_else(|| TemplateError::new("invalid syntax"))?);
                        continue;
                    }
                    text.push(match c {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        'a' => '\u{7}',
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        'v' => '\u{b}',
                        other => other,
                    });
                }
                c => text.push(c),
            }
        }
        Err(TemplateError::new("unterminated quoted string"))
    }
}

/// A whole number in any of Go's forms, or a float.
fn number_of(text: &str) -> Option<Value> {
    let plain = text.replace('_', "");
    if let Ok(whole) = plain.parse::<i64>() {
        return Some(Value::from(whole));
    }
    let (sign, bare) = plain.strip_prefix('-').map_or((1, plain.as_str()), |bare| (-1, bare));
    let lower = bare.trim_start_matches('+').to_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            return i64::from_str_radix(digits, radix).ok().map(|whole| Value::from(sign * whole));
        }
    }
    plain.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from)
}
