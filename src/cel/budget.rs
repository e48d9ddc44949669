//! What evaluations may cost.

use std::cell::Cell;

use crate::error::EvalError;
use crate::value::Value;

/// Steps that one evaluation may take, whatever the budget has.
const CALL: u64 = 1_000_000;
/// How deep expressions, variables and values may lie in each other: walks through them use the stack.
const DEPTH: u32 = 400;

/// Steps that evaluations may still take. Several share one where that is what is bounded.
///
/// Everything is paid before it is done, what is made by its size: ten bytes of a text are a step, and so is
/// an element of a list. So steps bound the memory of an evaluation, too.
#[derive(Debug)]
pub struct Budget {
    /// In tenths of steps, as is the next.
    left: Cell<u64>,
    /// Of the present evaluation.
    call: Cell<u64>,
    depth: Cell<u32>,
}

impl Budget {
    pub fn of(steps: u64) -> Self {
        let left = Cell::new(steps.saturating_mul(10));
        Budget { left, call: Cell::new(u64::MAX), depth: Cell::new(0) }
    }

    pub fn left(&self) -> u64 {
        self.left.get() / 10
    }

    pub fn spend(&self, steps: u64) -> Result<(), EvalError> {
        self.tenths(steps.saturating_mul(10))
    }

    pub(crate) fn tenths(&self, tenths: u64) -> Result<(), EvalError> {
        let is_enough = tenths <= self.left.get().min(self.call.get());
        self.left.set(self.left.get().saturating_sub(tenths));
        self.call.set(self.call.get().saturating_sub(tenths));
        is_enough.then_some(()).ok_or(EvalError::Cost)
    }

    /// One evaluation, with the steps of one.
    pub(crate) fn call<T>(&self, evaluate: impl FnOnce() -> Result<T, EvalError>) -> Result<T, EvalError> {
        let before = self.call.replace(CALL * 10);
        let value = evaluate();
        self.call.set(before);
        value
    }

    /// Refuses a value whose parts lie too deep in each other.
    pub(crate) fn nested(&self, value: &Value<'_>) -> Result<(), EvalError> {
        if value.depth() > DEPTH { Err(too_deep()) } else { Ok(()) }
    }

    /// One level deeper, until the guard is dropped.
    pub(crate) fn deeper(&self) -> Result<Deeper<'_>, EvalError> {
        if self.depth.get() == DEPTH {
            return Err(too_deep());
        }
        self.depth.set(self.depth.get() + 1);
        Ok(Deeper(self))
    }
}

fn too_deep() -> EvalError {
    EvalError::other(format!("expression recursion limit exceeded: {DEPTH}"))
}

pub(crate) struct Deeper<'b>(&'b Budget);

impl Drop for Deeper<'_> {
    fn drop(&mut self) {
        self.0.depth.set(self.0.depth.get() - 1);
    }
}
