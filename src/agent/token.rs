//! Tokens: `K10<SHA-256 of the CA's PEM>::<kind>:<secret>`, and `K10<hash>::<id>.<secret>` for those that
//! end.
//!
//! The hash lets a machine that has nothing but the token know that it talks to the right server; the secret
//! lets the server know the machine. A bare secret is accepted where trust on first use is accepted. A
//! machine that has joined needs no token any more: [`forget`] takes it out of where the installer has put
//! it.

use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Problem, files};

#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Lower-case hexadecimal SHA-256 of the CA bundle; none in a bare secret.
    pub ca_hash: Option<String>,
    pub secret: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token {{ ca_hash: {:?} }}", self.ca_hash)
    }
}

/// The hash of a CA bundle as tokens carry it.
pub fn hash_of(ca_pem: &str) -> String {
    Sha256::digest(ca_pem.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Token {
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| {
            Problem::new(
                "use the token",
                why,
                "copy it whole from the server's DATA/server/agent-token (it begins with K10)",
            )
        };
        let text = text.trim();
        let Some(rest) = text.strip_prefix("K10") else {
            if text.is_empty() || text.contains(char::is_whitespace) {
                return Err(wrong("it is empty or contains spaces"));
            }
            return Ok(Token { ca_hash: None, secret: text.to_string() });
        };
        let (hash, credentials) = rest.split_once("::").ok_or_else(|| wrong("it has no '::'"))?;
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong("its hash is not 64 hexadecimal digits"));
        }
        let secret = credentials.split_once(':').map_or(credentials, |(_, secret)| secret);
        if secret.is_empty() {
            return Err(wrong("it has no secret"));
        }
        Ok(Token { ca_hash: Some(hash.to_ascii_lowercase()), secret: secret.to_string() })
    }

    /// The form that is handed out. `kind` says whose it is: `server` or `node`.
    pub fn full(&self, ca_pem: &str, kind: &str) -> String {
        format!("K10{}::{kind}:{}", hash_of(ca_pem), self.secret)
    }

    /// The same of a token in the form `abcdef.0123456789abcdef`, whose first half is no secret.
    pub fn full_bootstrap(ca_pem: &str, token: &str) -> String {
        format!("K10{}::{token}", hash_of(ca_pem))
    }
}

/// Where the installer keeps what the service is started with.
pub(crate) const ENVIRONMENT_FILE: &str = "/etc/minik8s/minik8s.env";
const VARIABLE: &str = "MINIK8S_TOKEN";

/// Takes this token out of the installer's file, if it is in it. Another one, a server's for instance, stays.
pub fn forget(file: &Path, token: &str) -> Result<bool, Problem> {
    let Some(text) = files::read(file)? else { return Ok(false) };
    let is_it = |line: &str| {
        let value = line.split_once('=').filter(|(name, _)| *name == VARIABLE).map(|(_, value)| value);
        value.is_some_and(|value| unquoted(value) == token.trim())
    };
    if !text.lines().any(is_it) {
        return Ok(false);
    }
    let kept: String = text.lines().filter(|line| !is_it(line)).map(|line| format!("{line}\n")).collect();
    files::write(file, kept.as_bytes(), 0o600)?;
    Ok(true)
}

/// A value as the installer has quoted it.
pub(crate) fn unquoted(value: &str) -> String {
    let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let mut plain = String::new();
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    plain
}

#[cfg(test)]
mod tests;
