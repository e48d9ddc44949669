//! From template text to parts and steps: a cursor over characters, no tokens.

use serde_json::{Number, Value};

use super::{JsonPathError, Part, PathStep};

fn fail<T>(text: impl Into<String>) -> Result<T, JsonPathError> {
    Err(JsonPathError(text.into()))
}

/// How deep ranges and filters may nest. Nobody writes more than two; each level takes some of the stack.
const MAX_DEPTH: usize = 32;

struct Cursor<'a> {
    rest: &'a str,
    depth: usize,
}

/// What an action turned out to be.
enum Action {
    Steps(Vec<PathStep>),
    Range(Vec<PathStep>),
    End,
}

pub(super) fn template(text: &str) -> Result<Vec<Part>, JsonPathError> {
    let mut cursor = Cursor { rest: text, depth: 0 };
    let parts = cursor.parts(false)?;
    Ok(parts)
}

impl Cursor<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let first = self.peek()?;
        self.rest = &self.rest[first.len_utf8()..];
        Some(first)
    }

    /// Parts up to the end, or up to the `{end}` of the range we are in.
    fn parts(&mut self, in_range: bool) -> Result<Vec<Part>, JsonPathError> {
        let mut parts = Vec::new();
        loop {
            let Some(open) = self.rest.find('{') else {
                if in_range {
                    return fail("unexpected EOF: range without end");
                }
                if !self.rest.is_empty() {
                    parts.push(Part::Text(self.rest.to_string()));
                }
                return Ok(parts);
            };
            if open > 0 {
                parts.push(Part::Text(self.rest[..open].to_string()));
            }
            self.rest = &self.rest[open + 1..];
            match self.action()? {
                Action::Steps(steps) => parts.push(Part::Expression(steps)),
                Action::Range(steps) => {
                    self.deeper()?;
                    parts.push(Part::Range(steps, self.parts(true)?));
                    self.depth -= 1;
                }
                Action::End if in_range => return Ok(parts),
                Action::End => return fail("not in range, nothing to end"),
            }
        }
    }

    fn deeper(&mut self) -> Result<(), JsonPathError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { fail("ranges and filters are nested too deeply") } else { Ok(()) }
    }

    /// The inside of `{…}`, its closing brace included.
    fn action(&mut self) -> Result<Action, JsonPathError> {
        let mut steps = Vec::new();
        let mut is_range = false;
        loop {
            self.rest = self.rest.trim_start_matches(' ');
            match self.peek() {
                None | Some('\n' | '\r') => return fail("unclosed action"),
                Some('}') => {
                    self.next();
                    return Ok(if is_range { Action::Range(steps) } else { Action::Steps(steps) });
                }
                Some(letter) if letter.is_alphabetic() || letter == '_' => match self.word().as_str() {
                    "range" => is_range = true,
                    "end" => {
                        self.rest = self.rest.trim_start_matches(' ');
                        return if self.next() == Some('}') {
                            Ok(Action::End)
                        } else {
                            fail("unclosed action")
                        };
                    }
                    "true" => steps.push(PathStep::Literal(Value::Bool(true))),
                    "false" => steps.push(PathStep::Literal(Value::Bool(false))),
                    other => return fail(format!("unrecognized identifier {other}")),
                },
                Some(_) => self.step(&mut steps)?,
            }
        }
    }

    fn word(&mut self) -> String {
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_string()
    }

    /// One step that begins with a sign, quote or digit.
    fn step(&mut self, steps: &mut Vec<PathStep>) -> Result<(), JsonPathError> {
        if let Some(rest) = self.rest.strip_prefix("[?(") {
            self.rest = rest;
            steps.push(self.filter()?);
            return Ok(());
        }
        if let Some(rest) = self.rest.strip_prefix("..") {
            self.rest = rest;
            steps.push(PathStep::Recursive);
            if self.peek().is_some_and(|c| !is_terminator(c)) {
                steps.push(self.field());
            }
            return Ok(());
        }
        match self.next() {
            // Both mean the current object.
            Some('@' | '$') => {}
            Some('[') => steps.push(self.bracket()?),
            Some(quote @ ('"' | '\'')) => steps.push(PathStep::Literal(Value::String(self.quoted(quote)?))),
            Some('.') => {
                if self.peek().is_some_and(|c| !is_terminator(c)) {
                    steps.push(self.field());
                }
            }
            Some(sign) if sign == '+' || sign == '-' || sign.is_ascii_digit() => {
                let mut text = sign.to_string();
                while let Some(c) = self.peek().filter(|c| c.is_ascii_digit() || *c == '.') {
                    text.push(c);
                    self.next();
                }
                steps.push(PathStep::Literal(number(&text)?));
            }
            Some(other) => {
                return fail(format!(
                    "unrecognized character in action: U+{:04X} '{other}'",
                    u32::from(other)
                ));
            }
            None => return fail("unclosed action"),
        }
        Ok(())
    }

    /// A name up to a terminator; a backslash takes the next character as it is.
    fn field(&mut self) -> PathStep {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if c == '\\' {
                self.next();
                name.extend(self.next());
                continue;
            }
            if is_terminator(c) {
                break;
            }
            name.push(c);
            self.next();
        }
        if name == "*" { PathStep::Wildcard } else { PathStep::Field(name) }
    }

    /// After an opening quote: the text with Go's escapes.
    fn quoted(&mut self, quote: char) -> Result<String, JsonPathError> {
        let mut text = String::new();
        loop {
            match self.next() {
                None | Some('\n') => return fail("unterminated quoted string"),
                Some('\\') => match self.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some('0') => text.push('\0'),
                    Some(c @ ('\\' | '"' | '\'')) => text.push(c),
                    Some(c) => text.extend(['\\', c]),
                    None => return fail("unterminated quoted string"),
                },
                Some(c) if c == quote => return Ok(text),
                Some(c) => text.push(c),
            }
        }
    }

    /// After `[`: an index, slice, key, wildcard or union of those, with the closing bracket.
    fn bracket(&mut self) -> Result<PathStep, JsonPathError> {
        let mut members = vec![String::new()];
        let mut quote = None;
        loop {
            let Some(c) = self.next() else { return fail("unterminated array") };
            let last = members.len() - 1;
            match (c, quote) {
                ('\\', Some(_)) => {
                    members[last].push(c);
                    members[last].extend(self.next());
                }
                (c, Some(open)) => {
                    members[last].push(c);
                    if c == open {
                        quote = None;
                    }
                }
                ('\'' | '"', None) => {
                    members[last].push(c);
                    quote = Some(c);
                }
                (']', None) => break,
                (',', None) => members.push(String::new()),
                (c, None) => members[last].push(c),
            }
        }
        let mut steps: Vec<PathStep> =
            members.iter().map(|text| member(text.trim())).collect::<Result<_, _>>()?;
        if steps.len() == 1 {
            return Ok(steps.remove(0));
        }
        Ok(PathStep::Union(steps.into_iter().map(|step| vec![step]).collect()))
    }

    /// After `[?(`: `LEFT [OPERATOR RIGHT])]`.
    fn filter(&mut self) -> Result<PathStep, JsonPathError> {
        self.deeper()?;
        let mut depth = 1;
        let mut quote = None;
        let mut end = None;
        for (at, c) in self.rest.char_indices() {
            match (c, quote) {
                (c, Some(open)) if c == open => quote = None,
                (_, Some(_)) => {}
                ('\'' | '"', None) => quote = Some(c),
                ('(', None) => depth += 1,
                (')', None) => {
                    depth -= 1;
                    if depth == 0 {
                        end = Some(at);
                        break;
                    }
                }
                _ => {}
            }
        }
        let Some(end) = end else { return fail("unterminated filter") };
        let inside = &self.rest[..end];
        let Some(rest) = self.rest[end + 1..].trim_start().strip_prefix(']') else {
            return fail("unclosed array expect ]");
        };
        let (left, operator, right) = split_comparison(inside);
        let step = PathStep::Filter {
            left: expression(left, self.depth)?,
            operator: operator.to_string(),
            right: if operator == "exists" { Vec::new() } else { expression(right, self.depth)? },
        };
        self.depth -= 1;
        self.rest = rest;
        Ok(step)
    }
}

/// Splits at the first comparison outside of quotes; without one the operator is `exists`.
fn split_comparison(text: &str) -> (&str, &str, &str) {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) => quote = Some(c),
            ('=' | '!' | '<' | '>', None) => {
                let rest = &text[at..];
                let found =
                    ["==", "!=", "<=", ">=", "=~", "<", ">"].into_iter().find(|one| rest.starts_with(one));
                let operator = found.unwrap_or(&rest[..1]);
                return (&text[..at], operator, &rest[operator.len()..]);
            }
            _ => {}
        }
    }
    (text, "exists", "")
}

/// An expression on its own, as in a filter.
fn expression(text: &str, depth: usize) -> Result<Vec<PathStep>, JsonPathError> {
    let closed = format!("{}}}", text.trim());
    match (Cursor { rest: &closed, depth }).action()? {
        Action::Steps(steps) => Ok(steps),
        _ => fail(format!("invalid filter expression {text:?}")),
    }
}

fn member(text: &str) -> Result<PathStep, JsonPathError> {
    if text == "*" {
        return Ok(PathStep::Slice { start: None, end: None, step: None, single: false });
    }
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"'))
        && text.len() >= 2
        && text.ends_with(quote)
    {
        let inner = &text[1..text.len() - 1];
        return Ok(PathStep::Field(inner.replace(&format!("\\{quote}"), &quote.to_string())));
    }
    let bounds: Vec<&str> = text.split(':').map(str::trim).collect();
    let number = |text: &str| match text {
        "" => Ok(None),
        text => text.parse::<i64>().map(Some).map_err(|_| ()),
    };
    let parsed: Result<Vec<Option<i64>>, ()> = bounds.iter().map(|bound| number(bound)).collect();
    match (parsed, bounds.len()) {
        (Ok(one), 1) if one[0].is_some() => {
            Ok(PathStep::Slice { start: one[0], end: None, step: None, single: true })
        }
        (Ok(many), 2 | 3) => {
            let step = many.get(2).copied().flatten();
            Ok(PathStep::Slice { start: many[0], end: many[1], step, single: false })
        }
        _ => fail(format!("invalid array index {text}")),
    }
}

fn number(text: &str) -> Result<Value, JsonPathError> {
    if let Ok(whole) = text.trim_start_matches('+').parse::<i64>() {
        return Ok(Value::from(whole));
    }
    let parsed = text.parse::<f64>().ok().and_then(Number::from_f64);
    parsed.map(Value::Number).ok_or_else(|| JsonPathError(format!("cannot parse number {text}")))
}

fn is_terminator(c: char) -> bool {
    matches!(c, '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}') || c.is_whitespace()
}
