//! The paths of one host: what a request's path leads to, as Ingress v1 says it. Pure.
//!
//! An exact path wins over prefixes, a longer prefix over a shorter one. Prefixes are compared by elements
//! and without the slash at their end; `ImplementationSpecific` means the same. A look-up costs one hash for
//! each length that prefixes of the host have, whatever the path is made of.

use std::collections::HashMap;
use std::fmt::Write;

/// How a rule's path is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Exact,
    Prefix,
}

#[derive(Clone, Debug)]
pub(crate) struct Paths<T> {
    exact: HashMap<String, T>,
    /// Without the slash at the end.
    prefixes: HashMap<String, T>,
    /// Lengths of `prefixes`, longest first.
    lengths: Vec<usize>,
    /// For what no path matches.
    pub(crate) default: Option<T>,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Paths { exact: HashMap::new(), prefixes: HashMap::new(), lengths: Vec::new(), default: None }
    }
}

/// A prefix as it is kept and compared.
fn trimmed(prefix: &str) -> &str {
    prefix.trim_end_matches('/')
}

impl<T> Paths<T> {
    pub(crate) fn get(&self, kind: Kind, path: &str) -> Option<&T> {
        match kind {
            Kind::Exact => self.exact.get(path),
            Kind::Prefix => self.prefixes.get(trimmed(path)),
        }
    }

    pub(crate) fn insert(&mut self, kind: Kind, path: &str, target: T) {
        match kind {
            Kind::Exact => {
                self.exact.insert(path.to_string(), target);
            }
            Kind::Prefix => {
                let key = trimmed(path).to_string();
                if let Err(at) = self.lengths.binary_search_by(|length| key.len().cmp(length)) {
                    self.lengths.insert(at, key.len());
                }
                self.prefixes.insert(key, target);
            }
        }
    }

    /// What a request's path leads to.
    pub(crate) fn find(&self, path: &str) -> Option<&T> {
        self.exact.get(path).or_else(|| self.covering(path).next())
    }

    /// What has a prefix of the path, the longest first.
    pub(crate) fn covering<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a T> {
        self.lengths.iter().filter_map(move |length| {
            let (start, rest) = path.split_at_checked(*length)?;
            let is_element = rest.starts_with('/') || (rest.is_empty() && *length > 0);
            if is_element { self.prefixes.get(start) } else { None }
        })
    }
}

/// A path as clients send it: what no URI may hold is written in hexadecimal digits.
pub(crate) fn as_sent(path: &str) -> String {
    let mut sent = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~'
                if !matches!(
                    byte,
                    b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'?' | b'#'
                ) =>
            {
                sent.push(char::from(byte));
            }
            _ => {
                let _ = write!(sent, "%{byte:02X}");
            }
        }
    }
    sent
}

/// Whether a path has elements that mean another place than they say: `.` and `..`, however they are written.
/// What is behind a prefix would not be what the rule's author thinks.
pub(crate) fn climbs(path: &str) -> bool {
    path.contains(['.', '%'])
        && path.split(['/', '\\']).any(|element| {
            let mut dots = 0;
            let mut rest = element.as_bytes();
            while !rest.is_empty() {
                rest = match rest {
                    [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
                    _ => return false,
                };
                dots += 1;
            }
            (1..=2).contains(&dots)
        })
}
