//! The token that joins nodes: `K10<SHA-256 of the CA's PEM>::server:<secret>`.
//!
//! The hash lets a machine that has nothing but the token know that it talks to the right server; the secret lets the server know the
//! machine. A bare secret is accepted where trust on first use is accepted.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::Problem;

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
                "copy it whole from the server's DATA/server/token (it begins with K10)",
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

    /// The form that is handed out.
    pub fn full(&self, ca_pem: &str) -> String {
        format!("K10{}::server:{}", hash_of(ca_pem), self.secret)
    }
}

#[cfg(test)]
mod tests;
