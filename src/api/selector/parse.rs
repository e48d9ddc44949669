//! Parsing label and field selectors from their text form.
//!
//! The label grammar is context-sensitive in one place: `in` and `notin` are operators only after a key, and
//! plain words elsewhere. Messages are upstream's, because clients print them.

use super::{FieldSelector, FieldTerm, LabelSelector, Operator, Requirement};
use crate::FieldError;
use crate::validation::{label_value, qualified_name};

/// What is wrong with a selector, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word,
    In,
    NotIn,
    Equals,
    NotEquals,
    Not,
    Greater,
    Less,
    Open,
    Close,
    Comma,
    End,
    /// Special characters that are no token.
    Unknown,
}

/// Requirements of one selector: a list of many objects asks each of them of each.
const MAX_REQUIREMENTS: usize = 500;
/// Terms of one field selector; there are a dozen fields at most.
const MAX_TERMS: usize = 100;

/// A token with its text.
type Item = (Token, String);

struct Parser {
    items: Vec<Item>,
    at: usize,
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// The longest token of special characters at the start of `text`, with its length.
fn special_token(text: &str) -> (Token, usize) {
    for (literal, token) in [("==", Token::Equals), ("!=", Token::NotEquals)] {
        if text.starts_with(literal) {
            return (token, 2);
        }
    }
    let token = match text.as_bytes().first() {
        Some(b'=') => Token::Equals,
        Some(b'!') => Token::Not,
        Some(b'>') => Token::Greater,
        Some(b'<') => Token::Less,
        Some(b'(') => Token::Open,
        Some(b')') => Token::Close,
        Some(b',') => Token::Comma,
        _ => Token::Unknown,
    };
    (token, 1)
}

fn scan(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while let Some(first) = rest.chars().next() {
        let (token, length) = if is_special(first) {
            special_token(rest)
        } else {
            let length = rest.find(|c| is_special(c) || is_space(c)).unwrap_or(rest.len());
            let token = match &rest[..length] {
                "in" => Token::In,
                "notin" => Token::NotIn,
                _ => Token::Word,
            };
            (token, length)
        };
        items.push((token, rest[..length].to_string()));
        rest = rest[length..].trim_start_matches(is_space);
    }
    items.push((Token::End, String::new()));
    items
}

impl Parser {
    /// The next token where values may stand: keywords are words there.
    fn peek(&self) -> Item {
        let (token, text) = self.items.get(self.at).cloned().unwrap_or((Token::End, String::new()));
        (if matches!(token, Token::In | Token::NotIn) { Token::Word } else { token }, text)
    }

    fn next(&mut self) -> Item {
        let item = self.peek();
        self.at += 1;
        item
    }

    fn next_operator(&mut self) -> Item {
        let item = self.items.get(self.at).cloned().unwrap_or((Token::End, String::new()));
        self.at += 1;
        item
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            let (token, text) = self.peek();
            match token {
                Token::Word | Token::Not => {}
                Token::End => return Ok(requirements),
                _ => {
                    return Err(SelectorError(format!(
                        "found '{text}', expected: !, identifier, or 'end of string'"
                    )));
                }
            }
            if requirements.len() == MAX_REQUIREMENTS {
                return Err(SelectorError(format!(
                    "the selector has more than {MAX_REQUIREMENTS} requirements"
                )));
            }
            let one = self
                .requirement()
                .map_err(|why| SelectorError(format!("unable to parse requirement: {why}")))?;
            requirements.push(one);
            match self.next() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => {
                    let (token, text) = self.peek();
                    if !matches!(token, Token::Word | Token::Not) {
                        return Err(SelectorError(format!("found '{text}', expected: identifier after ','")));
                    }
                }
                (_, text) => {
                    return Err(SelectorError(format!("found '{text}', expected: ',' or 'end of string'")));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let (mut token, mut key) = self.next();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next();
        }
        if token != Token::Word {
            return Err(SelectorError(format!("found '{key}', expected: identifier")));
        }
        let faults = qualified_name(&key);
        if !faults.is_empty() {
            return Err(SelectorError(FieldError::invalid("<nil>", &key, faults.join("; ")).to_string()));
        }
        if negated {
            return Ok(Requirement { key, operator: Operator::DoesNotExist, values: Vec::new() });
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(Requirement { key, operator: Operator::Exists, values: Vec::new() });
        }
        let operator = match self.next_operator() {
            (Token::In, _) => Operator::In,
            (Token::NotIn, _) => Operator::NotIn,
            (Token::Equals, _) => Operator::Equals,
            (Token::NotEquals, _) => Operator::NotEquals,
            (Token::Greater, _) => Operator::GreaterThan,
            (Token::Less, _) => Operator::LessThan,
            (_, text) => {
                return Err(SelectorError(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")));
            }
        };
        let mut values = match operator {
            Operator::In | Operator::NotIn => self.list()?,
            _ => vec![self.exact()?],
        };
        values.sort();
        values.dedup();
        checked(Requirement { key, operator, values })
    }

    /// `(a,b)`; an empty place between commas is the empty value.
    fn list(&mut self) -> Result<Vec<String>, SelectorError> {
        let (token, text) = self.next();
        if token != Token::Open {
            return Err(SelectorError(format!("found '{text}' expected: '('")));
        }
        let (token, text) = self.peek();
        match token {
            Token::Word | Token::Comma => {}
            Token::Close => {
                self.next();
                return Ok(Vec::new());
            }
            _ => return Err(SelectorError(format!("found '{text}', expected: ',', ')' or identifier"))),
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                (Token::Word, text) => {
                    values.push(text);
                    let (token, text) = self.peek();
                    match token {
                        Token::Comma => {}
                        Token::Close => break,
                        _ => return Err(SelectorError(format!("found '{text}', expected: ',' or ')'"))),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    match self.peek().0 {
                        Token::Close => {
                            values.push(String::new());
                            break;
                        }
                        Token::Comma => {
                            self.next();
                            values.push(String::new());
                        }
                        _ => {}
                    }
                }
                (_, text) => {
                    return Err(SelectorError(format!("found '{text}', expected: ',', or identifier")));
                }
            }
        }
        self.next();
        Ok(values)
    }

    /// The value after `=`; nothing there is the empty value.
    fn exact(&mut self) -> Result<String, SelectorError> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Word, text) => Ok(text),
            (_, text) => Err(SelectorError(format!("found '{text}', expected: identifier"))),
        }
    }
}

/// A requirement whose values fit its operator and are label values.
fn checked(requirement: Requirement) -> Result<Requirement, SelectorError> {
    let mut faults = Vec::new();
    let Requirement { key, operator, values } = &requirement;
    match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            let why = "for 'in', 'notin' operators, values set can't be empty";
            faults.push(FieldError::invalid("values", values, why));
        }
        Operator::GreaterThan | Operator::LessThan => {
            for (i, value) in values.iter().enumerate().filter(|(_, value)| value.parse::<i64>().is_err()) {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                faults.push(FieldError::invalid(format!("values[{i}]"), value, why));
            }
        }
        _ => {}
    }
    for (i, value) in values.iter().enumerate() {
        let why = label_value(value);
        if !why.is_empty() {
            faults.push(FieldError::invalid(format!("values[{i}][{key}]"), value, why.join("; ")));
        }
    }
    match faults.as_slice() {
        [] => Ok(requirement),
        [one] => Err(SelectorError(one.to_string())),
        many => {
            let texts: Vec<String> = many.iter().map(ToString::to_string).collect();
            Err(SelectorError(format!("[{}]", texts.join(", "))))
        }
    }
}

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (f,g),!h,i>1`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Parser { items: scan(text), at: 0 }.selector()?;
        requirements.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(LabelSelector { requirements, nothing: false })
    }
}

impl FieldSelector {
    /// Parses `path=value,path!=value`; `\` escapes `,`, `=` and itself in values.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parts = split_unescaped(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            if terms.len() == MAX_TERMS {
                return Err(SelectorError(format!("the field selector has more than {MAX_TERMS} terms")));
            }
            let misfit = || SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'"));
            let at = part.find('=').ok_or_else(misfit)?;
            let (path, equals, value) = match part[..at].strip_suffix('!') {
                Some(path) => (path, false, &part[at + 1..]),
                None => (&part[..at], true, part[at + 1..].strip_prefix('=').unwrap_or(&part[at + 1..])),
            };
            terms.push(FieldTerm { path: path.to_string(), equals, value: unescape(value)? });
        }
        Ok(FieldSelector { terms })
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                Some(next) => {
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: \\{next}"
                    )));
                }
                None => {
                    return Err(SelectorError(
                        "invalid field selector: invalid escape sequence: \\".to_string(),
                    ));
                }
            },
            ',' | '=' => {
                let code = u32::from(c);
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {code}"
                )));
            }
            _ => out.push(c),
        }
    }
    Ok(out)
}
