//! Patterns: Go's regular expressions, compiled by Rust's engine.
//!
//! Where the two differ, they are rewritten ([`crate::re2`]). A pattern is compiled once to see whether it is
//! valid and how large it is, and once more for the first value: most definitions never see one, and what is
//! compiled takes many times its text. Nodes share what has the same text.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use regex::Regex;

use super::limits::{MAX_PATTERN, MAX_PATTERNS};
use crate::re2::translate;

/// Bytes of a pattern's text: one that is longer is too large for certain, and while it is read it takes a
/// hundred times as many.
const MAX_TEXT: usize = 64 << 10;

/// Sizes that are tried, from the smallest on; a pattern counts as the first that it fits into.
const SIZES: [usize; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, MAX_PATTERN];

/// Room for states that one thread makes while it matches.
const CACHE: usize = 64 << 10;

/// A regular expression.
#[derive(Debug)]
pub(super) struct Pattern {
    /// As the definition has it.
    pub(super) text: String,
    size: usize,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub(super) fn matches(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| compile(&translate(&self.text)?, self.size));
        // It has been compiled before.
        compiled.as_ref().is_none_or(|pattern| pattern.is_match(text))
    }

    /// What a byte of a value may cost at worst: about a quarter of its states.
    pub(super) fn steps(&self) -> u64 {
        self.size as u64 / 128
    }
}

/// Why a pattern is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Invalid,
    /// Alone, or with those before it, it is too large.
    TooLarge,
}

/// The patterns of one definition.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    known: HashMap<String, Arc<Pattern>>,
    size: usize,
}

impl Patterns {
    pub(super) fn get(&mut self, text: &str) -> Result<Arc<Pattern>, Refused> {
        if let Some(pattern) = self.known.get(text) {
            return Ok(pattern.clone());
        }
        if text.len() > MAX_TEXT {
            return Err(Refused::TooLarge);
        }
        let translated = translate(text).ok_or(Refused::Invalid)?;
        let left = MAX_PATTERNS - self.size;
        let mut size = None;
        for most in SIZES.into_iter().filter(|most| *most <= left) {
            match build(&translated, most) {
                Ok(_) => {
                    size = Some(most);
                    break;
                }
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(_) => return Err(Refused::Invalid),
            }
        }
        let Some(size) = size else {
            // One that large is tried no more.
            self.size = MAX_PATTERNS;
            return Err(Refused::TooLarge);
        };
        self.size += size;
        let pattern = Arc::new(Pattern { text: text.to_string(), size, compiled: OnceLock::new() });
        self.known.insert(text.to_string(), pattern.clone());
        Ok(pattern)
    }
}

fn build(translated: &str, size: usize) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(translated).size_limit(size).dfa_size_limit(CACHE).build()
}

fn compile(translated: &str, size: usize) -> Option<Regex> {
    build(translated, size).ok()
}
