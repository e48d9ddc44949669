//! Regular expressions: what it costs to read and to match them.
//!
//! Those that stand in an expression are read once, with it. Others are paid when they are read, before they
//! are: more for one that takes more memory. Matching costs what it does upstream, the length of the text
//! times the weight of the pattern.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use api::re2::translate;
use regex::{Regex, RegexBuilder};

use crate::budget::Budget;
use crate::error::EvalError;

/// How large a pattern may be once it is compiled, what it costs to try that, and its least weight.
const SIZES: [(usize, u64, u64); 3] = [(1 << 14, 400, 1), (1 << 17, 4_000, 8), (1 << 20, 40_000, 64)];
/// The largest of them.
const LARGEST: usize = 1 << 20;
/// A pattern may have so many bytes: even one that is refused is read to its end.
const LENGTH: usize = 8 * 1024;
/// Bytes that the patterns of one [`Library`] may take, each as the least of [`SIZES`] that it fits into.
const MOST: usize = 8 << 20;
/// So many patterns are kept, of an expression and of one evaluation.
const KEPT: usize = 16;

fn failed(why: &str, text: &str) -> EvalError {
    EvalError::other(format!("error parsing regexp: {why}: `{text}`"))
}

#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    size: usize,
    weight: u64,
}

impl Pattern {
    fn read(text: &str, budget: &Budget) -> Result<Pattern, EvalError> {
        Pattern::fitting(text, LARGEST, budget)?.ok_or_else(|| failed("expression too large", text))
    }

    /// None if it takes more room than that.
    fn fitting(text: &str, most: usize, budget: &Budget) -> Result<Option<Pattern>, EvalError> {
        let failed = |why: &str| failed(why, text);
        if text.len() > LENGTH {
            return Err(failed("expression too large"));
        }
        let translated = translate(text).ok_or_else(|| failed("invalid expression"))?;
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        for (size, steps, weight) in SIZES.into_iter().filter(|(size, ..)| *size <= most) {
            budget.spend(steps.saturating_add(length.saturating_mul(10)))?;
            match RegexBuilder::new(&translated).size_limit(size).dfa_size_limit(1 << 20).build() {
                Ok(regex) => {
                    return Ok(Some(Pattern { regex, size, weight: weight.max(length.div_ceil(4)) }));
                }
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(_) => return Err(failed("invalid expression")),
            }
        }
        Ok(None)
    }

    pub(crate) fn is_match(&self, text: &str, budget: &Budget) -> Result<bool, EvalError> {
        self.pay(text, budget)?;
        Ok(self.regex.is_match(text))
    }

    pub(crate) fn find<'t>(&self, text: &'t str, budget: &Budget) -> Result<&'t str, EvalError> {
        self.pay(text, budget)?;
        Ok(self.regex.find(text).map_or("", |found| found.as_str()))
    }

    /// Each further match may look at all of the rest once more.
    pub(crate) fn find_all<'t>(
        &self,
        text: &'t str,
        most: usize,
        budget: &Budget,
    ) -> Result<Vec<&'t str>, EvalError> {
        self.pay(text, budget)?;
        let mut found = Vec::new();
        for one in self.regex.find_iter(text).take(most) {
            let rest = u64::try_from(text.len() - one.end()).unwrap_or(u64::MAX);
            budget.tenths(rest.saturating_add(10))?;
            found.push(one.as_str());
        }
        Ok(found)
    }

    fn pay(&self, text: &str, budget: &Budget) -> Result<(), EvalError> {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX).saturating_add(1);
        budget.spend(length.div_ceil(10).saturating_mul(self.weight))
    }
}

/// The patterns that stand in the expressions of one definition or policy: each is there once, and together
/// they are bounded, because they are kept for as long as it is.
#[derive(Default)]
pub struct Library {
    known: RefCell<HashMap<String, Pattern>>,
    size: Cell<usize>,
}

impl Library {
    fn get(&self, text: &str) -> Result<Pattern, EvalError> {
        if let Some(pattern) = self.known.borrow().get(text) {
            return Ok(pattern.clone());
        }
        let left = MOST.saturating_sub(self.size.get());
        let read = Pattern::fitting(text, left, &Budget::of(u64::MAX / 10))?;
        let Some(pattern) = read else {
            if left >= LARGEST {
                return Err(failed("expression too large", text));
            }
            // With more room it might have been one. No other is tried.
            self.size.set(MOST);
            return Err(too_many());
        };
        self.size.set(self.size.get() + pattern.size);
        self.known.borrow_mut().insert(text.to_string(), pattern.clone());
        Ok(pattern)
    }

    /// Bytes that they take.
    pub fn size(&self) -> usize {
        self.size.get()
    }
}

fn too_many() -> EvalError {
    EvalError::other(format!(
        "the regular expressions of a definition or policy may take at most {MOST} bytes once they are compiled"
    ))
}

/// The patterns that stand in an expression.
#[derive(Clone, Debug, Default)]
pub(crate) struct Constants(HashMap<String, Pattern>);

impl Constants {
    /// Reads one more, as long as there are few; nobody pays for it but who has written the expression.
    pub(crate) fn add(&mut self, text: &str, library: &Library) -> Result<(), EvalError> {
        if self.0.len() < KEPT && !self.0.contains_key(text) {
            self.0.insert(text.to_string(), library.get(text)?);
        }
        Ok(())
    }
}

/// The patterns of one evaluation.
pub(crate) struct Patterns<'a> {
    constants: &'a Constants,
    read: RefCell<Vec<(String, Pattern)>>,
}

impl<'a> Patterns<'a> {
    pub(crate) fn new(constants: &'a Constants) -> Self {
        Patterns { constants, read: RefCell::default() }
    }

    pub(crate) fn get(&self, text: &str, budget: &Budget) -> Result<Pattern, EvalError> {
        if let Some(pattern) = self.constants.0.get(text) {
            return Ok(pattern.clone());
        }
        let mut read = self.read.borrow_mut();
        if let Some((_, pattern)) = read.iter().find(|(own, _)| own == text) {
            return Ok(pattern.clone());
        }
        let pattern = Pattern::read(text, budget)?;
        if read.len() == KEPT {
            read.remove(0);
        }
        read.push((text.to_string(), pattern.clone()));
        Ok(pattern)
    }
}
