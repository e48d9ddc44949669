//! From text to tokens.

use crate::error::ParseError;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Int(u64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    Ident(String),
    /// An operator, a bracket, a comma.
    Sign(&'static str),
    End,
}

/// The longer ones first.
const SIGNS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*",
    "/", "%", "<", ">",
];

/// Tokens with the bytes that they begin at.
pub(crate) fn tokens(source: &str) -> Result<Vec<(Token, usize)>, ParseError> {
    let mut lexer = Lexer { source, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip();
        let start = lexer.at;
        let token = lexer.next()?;
        let is_end = token == Token::End;
        tokens.push((token, start));
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn error(&self, at: usize, why: impl Into<String>) -> ParseError {
        ParseError::at(self.source, at, why)
    }

    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            self.at += blank;
            if !self.rest().starts_with("//") {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn next(&mut self) -> Result<Token, ParseError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        if let Some((prefix, quote)) = quoted(rest) {
            return self.text(prefix, quote);
        }
        if first.is_ascii_digit() || first == '.' && rest[1..].starts_with(|next: char| next.is_ascii_digit())
        {
            return self.number();
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let name = rest[..end].to_string();
            self.at += end;
            return Ok(Token::Ident(name));
        }
        if first == '`' {
            let end =
                rest[1..].find('`').ok_or_else(|| self.error(self.at, "Syntax error: unterminated `"))?;
            let name = rest[1..=end].to_string();
            self.at += end + 2;
            return Ok(Token::Ident(name));
        }
        let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(*sign)) else {
            return Err(self.error(self.at, format!("Syntax error: token recognition error at: '{first}'")));
        };
        self.at += sign.len();
        Ok(Token::Sign(sign))
    }

    fn number(&mut self) -> Result<Token, ParseError> {
        let (start, rest) = (self.at, self.rest());
        let invalid =
            |lexer: &Self, text: &str| lexer.error(start, format!("invalid number literal: {text}"));
        if let Some(digits) = rest.strip_prefix("0x").or(rest.strip_prefix("0X")) {
            let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
            let number =
                u64::from_str_radix(&digits[..end], 16).map_err(|_| invalid(self, &rest[..end + 2]))?;
            self.at += end + 2;
            return Ok(self.whole(number));
        }
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let mut end = digits(rest);
        let mut is_double = false;
        if rest[end..].starts_with('.') && rest[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            is_double = true;
            end += 1 + digits(&rest[end + 1..]);
        }
        if let Some(exponent) = rest[end..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let length = digits(&exponent[sign..]);
            if length > 0 {
                is_double = true;
                end += 1 + sign + length;
            }
        }
        let text = &rest[..end];
        if is_double {
            let number = text.parse().map_err(|_| invalid(self, text))?;
            self.at += end;
            return Ok(Token::Double(number));
        }
        let number = text.parse().map_err(|_| invalid(self, text))?;
        self.at += end;
        Ok(self.whole(number))
    }

    fn whole(&mut self, number: u64) -> Token {
        if self.rest().starts_with(['u', 'U']) {
            self.at += 1;
            return Token::Uint(number);
        }
        Token::Int(number)
    }

    fn text(&mut self, prefix: usize, quote: &'static str) -> Result<Token, ParseError> {
        let start = self.at;
        let marks = self.rest()[..prefix].to_ascii_lowercase();
        let (is_raw, is_bytes) = (marks.contains('r'), marks.contains('b'));
        self.at += prefix + quote.len();
        let mut bytes = Vec::new();
        loop {
            if self.rest().starts_with(quote) {
                self.at += quote.len();
                break;
            }
            let Some(next) = self.rest().chars().next().filter(|next| *next != '\n' || quote.len() == 3)
            else {
                return Err(self.error(start, "Syntax error: unterminated string literal"));
            };
            self.at += next.len_utf8();
            if next == '\\' && !is_raw {
                self.escape(is_bytes, &mut bytes)?;
            } else {
                bytes.extend(next.to_string().bytes());
            }
        }
        if is_bytes {
            return Ok(Token::Bytes(bytes));
        }
        let text = String::from_utf8(bytes);
        text.map(Token::String).map_err(|_| self.error(start, "invalid UTF-8 in a string literal"))
    }

    fn escape(&mut self, is_bytes: bool, out: &mut Vec<u8>) -> Result<(), ParseError> {
        let start = self.at;
        let invalid = |lexer: &Self| lexer.error(start, "Syntax error: invalid escape sequence");
        let Some(mark) = self.rest().chars().next() else { return Err(invalid(self)) };
        self.at += mark.len_utf8();
        let plain = match mark {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '\'' | '"' | '`' | '?' => mark as u8,
            'x' | 'X' => return self.code(2, 16, is_bytes, out),
            'u' => return self.code(4, 16, false, out),
            'U' => return self.code(8, 16, false, out),
            '0'..='3' => {
                self.at -= 1;
                return self.code(3, 8, is_bytes, out);
            }
            _ => return Err(invalid(self)),
        };
        out.push(plain);
        Ok(())
    }

    fn code(&mut self, digits: usize, radix: u32, byte: bool, out: &mut Vec<u8>) -> Result<(), ParseError> {
        let invalid = |lexer: &Self| lexer.error(lexer.at, "Syntax error: invalid escape sequence");
        let text = self.rest().get(..digits).ok_or_else(|| invalid(self))?;
        let code = u32::from_str_radix(text, radix).map_err(|_| invalid(self))?;
        if byte {
            out.push(u8::try_from(code).map_err(|_| invalid(self))?);
        } else {
            let character = char::from_u32(code).ok_or_else(|| invalid(self))?;
            out.extend(character.to_string().bytes());
        }
        self.at += digits;
        Ok(())
    }
}

/// The marks before a literal and its quotes, if a text begins with one.
fn quoted(rest: &str) -> Option<(usize, &'static str)> {
    let prefix = rest.find(|c: char| !matches!(c, 'r' | 'R' | 'b' | 'B')).filter(|prefix| *prefix <= 2)?;
    let quotes = ["\"\"\"", "'''", "\"", "'"];
    quotes.into_iter().find(|quote| rest[prefix..].starts_with(quote)).map(|quote| (prefix, quote))
}
