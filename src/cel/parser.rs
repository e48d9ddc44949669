//! From tokens to an expression, by precedence; macros are recognised on the way, as cel-go does.

use crate::ast::{Binary, Expr, Macro, MacroKind};
use crate::error::ParseError;
use crate::lexer::{Token, tokens};

/// How deeply expressions may nest.
const MAX_DEPTH: usize = 100;
/// Bytes of an expression.
const MAX_SOURCE: usize = 1 << 16;

/// Names that no expression may use.
const RESERVED: [&str; 18] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
    "in",
];

pub(crate) fn parse(source: &str) -> Result<Expr, ParseError> {
    if source.len() > MAX_SOURCE {
        return Err(ParseError::at("", 0, format!("expression code point size exceeds limit: {MAX_SOURCE}")));
    }
    let mut parser = Parser { source, tokens: tokens(source)?, at: 0, depth: 0 };
    let expression = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(expression),
        other => {
            Err(parser.error(format!("Syntax error: mismatched input {} expecting <EOF>", shown(other))))
        }
    }
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
}

type Parsed = Result<Expr, ParseError>;

fn shown(token: &Token) -> String {
    match token {
        Token::End => "'<EOF>'".to_string(),
        Token::Sign(sign) => format!("'{sign}'"),
        Token::Ident(name) => format!("'{name}'"),
        Token::Int(number) => format!("'{number}'"),
        Token::Uint(number) => format!("'{number}u'"),
        Token::Double(number) => format!("'{number}'"),
        Token::String(text) => format!("'{text:?}'"),
        Token::Bytes(_) => "'bytes'".to_string(),
    }
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn error(&self, why: impl Into<String>) -> ParseError {
        ParseError::at(self.source, self.tokens[self.at].1, why)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    /// Takes a sign if it is the next token.
    fn has(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(next) if *next == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), ParseError> {
        if self.has(sign) {
            return Ok(());
        }
        Err(self.error(format!("Syntax error: mismatched input {} expecting '{sign}'", shown(self.peek()))))
    }

    fn expression(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("expression recursion limit exceeded: {MAX_DEPTH}")));
        }
        let condition = self.or()?;
        let expression = if self.has("?") {
            let then = self.or()?;
            self.expect(":")?;
            Expr::If(Box::new(condition), Box::new(then), Box::new(self.expression()?))
        } else {
            condition
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn or(&mut self) -> Parsed {
        let mut all = vec![self.and()?];
        while self.has("||") {
            all.push(self.and()?);
        }
        Ok(balanced(all, &|left, right| Expr::Or(Box::new(left), Box::new(right))))
    }

    fn and(&mut self) -> Parsed {
        let mut all = vec![self.relation()?];
        while self.has("&&") {
            all.push(self.relation()?);
        }
        Ok(balanced(all, &|left, right| Expr::And(Box::new(left), Box::new(right))))
    }

    fn relation(&mut self) -> Parsed {
        let mut left = self.sum()?;
        let mut links = 0;
        loop {
            let binary = match self.peek() {
                Token::Sign("==") => Binary::Equal,
                Token::Sign("!=") => Binary::NotEqual,
                Token::Sign("<") => Binary::Less,
                Token::Sign("<=") => Binary::LessEqual,
                Token::Sign(">") => Binary::Greater,
                Token::Sign(">=") => Binary::GreaterEqual,
                Token::Ident(name) if name == "in" => Binary::In,
                _ => return Ok(left),
            };
            self.at += 1;
            links = self.link(links)?;
            left = Expr::Binary(binary, Box::new(left), Box::new(self.sum()?));
        }
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        let mut links = 0;
        loop {
            let binary = match self.peek() {
                Token::Sign("+") => Binary::Add,
                Token::Sign("-") => Binary::Subtract,
                _ => return Ok(left),
            };
            self.at += 1;
            links = self.link(links)?;
            left = Expr::Binary(binary, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.unary()?;
        let mut links = 0;
        loop {
            let binary = match self.peek() {
                Token::Sign("*") => Binary::Multiply,
                Token::Sign("/") => Binary::Divide,
                Token::Sign("%") => Binary::Remainder,
                _ => return Ok(left),
            };
            self.at += 1;
            links = self.link(links)?;
            left = Expr::Binary(binary, Box::new(left), Box::new(self.unary()?));
        }
    }

    /// Counts a link of a chain, each of which is a level of the tree.
    fn link(&self, links: usize) -> Result<usize, ParseError> {
        if links < MAX_DEPTH {
            return Ok(links + 1);
        }
        Err(self.error(format!("expression recursion limit exceeded: {MAX_DEPTH}")))
    }

    fn unary(&mut self) -> Parsed {
        if self.has("!") {
            let mut even = false;
            while self.has("!") {
                even = !even;
            }
            let operand = self.member()?;
            return Ok(if even { operand } else { Expr::Not(Box::new(operand)) });
        }
        if self.has("-") {
            let mut even = false;
            while self.has("-") {
                even = !even;
            }
            if !even && let Token::Int(number) = *self.peek() {
                // The least integer has no positive counterpart.
                self.at += 1;
                let negated = i64::try_from(-i128::from(number));
                let literal = Expr::Int(negated.map_err(|_| self.error("invalid int literal"))?);
                return self.members(literal);
            }
            let operand = self.member()?;
            return Ok(if even { operand } else { Expr::Negate(Box::new(operand)) });
        }
        self.member()
    }

    fn member(&mut self) -> Parsed {
        let primary = self.primary()?;
        self.members(primary)
    }

    fn members(&mut self, mut operand: Expr) -> Parsed {
        let mut links = 0;
        loop {
            if self.has(".") {
                let optional = self.has("?");
                let field = self.name()?;
                operand = if !optional && self.has("(") {
                    self.call(Some(operand), field)?
                } else if !optional && matches!(self.peek(), Token::Sign("{")) && is_type_name(&operand) {
                    let name = format!("{}.{field}", type_name(&operand));
                    self.structure(name)?
                } else {
                    Expr::Select { operand: Box::new(operand), field: unescaped(&field), optional }
                };
            } else if self.has("[") {
                let optional = self.has("?");
                let index = self.expression()?;
                self.expect("]")?;
                operand = Expr::Index { operand: Box::new(operand), index: Box::new(index), optional };
            } else {
                return Ok(operand);
            }
            links = self.link(links)?;
        }
    }

    fn name(&mut self) -> Result<String, ParseError> {
        match self.take() {
            Token::Ident(name) => Ok(name),
            other => {
                self.at = self.at.saturating_sub(usize::from(other != Token::End));
                Err(self.error(format!("Syntax error: no viable alternative at input {}", shown(&other))))
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let start = self.at;
        match self.take() {
            Token::Int(number) => {
                i64::try_from(number).map(Expr::Int).map_err(|_| self.error("invalid int literal"))
            }
            Token::Uint(number) => Ok(Expr::Uint(number)),
            Token::Double(number) => Ok(Expr::Double(number)),
            Token::String(text) => Ok(Expr::String(text)),
            Token::Bytes(bytes) => Ok(Expr::Bytes(bytes)),
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => self.list(),
            Token::Sign("{") => self.map(),
            Token::Sign(".") => {
                let name = self.name()?;
                Ok(Expr::Ident(name))
            }
            Token::Ident(name) => match name.as_str() {
                "true" => Ok(Expr::Bool(true)),
                "false" => Ok(Expr::Bool(false)),
                "null" => Ok(Expr::Null),
                reserved if RESERVED.contains(&reserved) => {
                    self.at = start;
                    Err(self.error(format!("reserved identifier: {reserved}")))
                }
                _ if self.has("(") => self.call(None, name),
                _ if matches!(self.peek(), Token::Sign("{")) => self.structure(name),
                _ => Ok(Expr::Ident(name)),
            },
            other => {
                self.at = start;
                Err(self.error(format!("Syntax error: mismatched input {} expecting {{'[', '{{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}}", shown(&other))))
            }
        }
    }

    fn list(&mut self) -> Parsed {
        let mut elements = Vec::new();
        while !self.has("]") {
            let optional = self.has("?");
            elements.push((self.expression()?, optional));
            if !self.has(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(Expr::List(elements))
    }

    fn map(&mut self) -> Parsed {
        let mut entries = Vec::new();
        while !self.has("}") {
            let optional = self.has("?");
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?, optional));
            if !self.has(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Expr::Map(entries))
    }

    fn structure(&mut self, name: String) -> Parsed {
        self.expect("{")?;
        let mut fields = Vec::new();
        while !self.has("}") {
            let optional = self.has("?");
            let field = self.name()?;
            self.expect(":")?;
            fields.push((unescaped(&field), self.expression()?, optional));
            if !self.has(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Expr::Struct { name, fields })
    }

    /// The bracket is taken already.
    fn call(&mut self, target: Option<Expr>, name: String) -> Parsed {
        let start = self.at;
        let mut arguments = Vec::new();
        while !self.has(")") {
            arguments.push(self.expression()?);
            if !self.has(",") {
                self.expect(")")?;
                break;
            }
        }
        let refuse = |parser: &Self, why: String| ParseError::at(parser.source, parser.tokens[start].1, why);
        if target.is_none() && name == "has" {
            return match (arguments.pop(), arguments.is_empty()) {
                (Some(Expr::Select { operand, field, optional: false }), true) => {
                    Ok(Expr::Has { operand, field })
                }
                _ => Err(refuse(self, "invalid argument to has() macro".to_string())),
            };
        }
        let Some(target) = target else {
            return Ok(Expr::Call { target: None, name, arguments });
        };
        let Some(kind) = macro_kind(&target, &name, arguments.len()) else {
            return Ok(Expr::Call { target: Some(Box::new(target)), name, arguments });
        };
        let names = if name.starts_with("transform") { 2 } else { 1 };
        expand(kind, names, target, arguments)
            .map_err(|()| refuse(self, "argument must be a simple name".to_string()))
    }
}

/// A chain of the same operator as a tree that is not deeper than it must be.
fn balanced(mut all: Vec<Expr>, join: &dyn Fn(Expr, Expr) -> Expr) -> Expr {
    while all.len() > 1 {
        let mut pairs = Vec::with_capacity(all.len().div_ceil(2));
        let mut rest = all.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => join(left, right),
                None => left,
            });
        }
        all = pairs;
    }
    all.pop().unwrap_or(Expr::Null)
}

/// `Object.spec.template`: names of types are those of what a policy applies.
fn is_type_name(expression: &Expr) -> bool {
    match expression {
        Expr::Ident(name) => matches!(name.as_str(), "Object" | "JSONPatch"),
        Expr::Select { operand, optional: false, .. } => is_type_name(operand),
        _ => false,
    }
}

fn type_name(expression: &Expr) -> String {
    match expression {
        Expr::Ident(name) => name.clone(),
        Expr::Select { operand, field, .. } => format!("{}.{field}", type_name(operand)),
        _ => String::new(),
    }
}

fn macro_kind(target: &Expr, name: &str, arguments: usize) -> Option<MacroKind> {
    if matches!(target, Expr::Ident(namespace) if namespace == "cel") && (name, arguments) == ("bind", 3) {
        return Some(MacroKind::Bind);
    }
    Some(match (name, arguments) {
        ("all", 2 | 3) => MacroKind::All,
        ("exists", 2 | 3) => MacroKind::Exists,
        ("exists_one", 2) | ("existsOne", 2 | 3) => MacroKind::ExistsOne,
        ("filter", 2) => MacroKind::Filter,
        ("map", 2 | 3) | ("transformList", 3 | 4) => MacroKind::Map,
        ("transformMap", 3 | 4) => MacroKind::TransformMap,
        ("transformMapEntry", 3 | 4) => MacroKind::TransformMapEntry,
        ("optMap", 2) => MacroKind::OptMap,
        ("optFlatMap", 2) => MacroKind::OptFlatMap,
        _ => return None,
    })
}

/// `names` is how many there are at least.
fn expand(kind: MacroKind, names: usize, target: Expr, arguments: Vec<Expr>) -> Result<Expr, ()> {
    let count = arguments.len();
    let mut arguments = arguments.into_iter();
    let name = |arguments: &mut std::vec::IntoIter<Expr>| match arguments.next() {
        Some(Expr::Ident(name)) => Ok(name),
        _ => Err(()),
    };
    let quantifies = matches!(kind, MacroKind::All | MacroKind::Exists | MacroKind::ExistsOne);
    let has_two_names = names == 2 || quantifies && count == 3;
    if kind == MacroKind::Bind {
        let names = vec![name(&mut arguments)?];
        let over = arguments.next().ok_or(())?;
        let body = arguments.next().ok_or(())?;
        return Ok(Expr::Macro(Box::new(Macro { kind, over, names, filter: None, body })));
    }
    let mut names = vec![name(&mut arguments)?];
    if has_two_names {
        names.push(name(&mut arguments)?);
    }
    let mut rest: Vec<Expr> = arguments.collect();
    let body = rest.pop().ok_or(())?;
    let filter = rest.pop();
    Ok(Expr::Macro(Box::new(Macro { kind, over: target, names, filter, body })))
}

/// Names of fields that are no identifiers are written with escapes.
fn unescaped(name: &str) -> String {
    if !name.contains("__") {
        return name.to_string();
    }
    let mut out = String::new();
    let mut rest = name;
    while let Some(at) = rest.find("__") {
        out.push_str(&rest[..at]);
        let after = &rest[at + 2..];
        let known = after.find("__").and_then(|end| Some((plain(&after[..end])?, end)));
        match known {
            Some((plain, end)) => {
                out.push_str(plain);
                rest = &after[end + 2..];
            }
            None => {
                out.push_str("__");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn plain(escape: &str) -> Option<&'static str> {
    match escape {
        "underscores" => Some("__"),
        "dot" => Some("."),
        "dash" => Some("-"),
        "slash" => Some("/"),
        "true" => Some("true"),
        "false" => Some("false"),
        "null" => Some("null"),
        word => RESERVED.into_iter().find(|reserved| *reserved == word),
    }
}
