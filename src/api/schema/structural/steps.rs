//! The steps that a check may still take.

use super::limits::MAX_STEPS;
use crate::FieldError;
use crate::validation::Path;

/// Steps that are left.
#[derive(Debug)]
pub(super) struct Steps {
    left: u64,
    /// Where they ran out.
    spent: Option<String>,
}

impl Steps {
    pub(super) fn new(steps: u64) -> Self {
        Steps { left: steps, spent: None }
    }

    /// False once there are not enough: the caller goes no further.
    pub(super) fn take(&mut self, steps: u64, path: &Path<'_>) -> bool {
        if self.spent.is_some() {
            return false;
        }
        match self.left.checked_sub(steps) {
            Some(left) => self.left = left,
            None => self.spent = Some(path.into()),
        }
        self.spent.is_none()
    }

    pub(super) fn is_spent(&self) -> bool {
        self.spent.is_some()
    }

    /// The fault of what took too many.
    pub(super) fn fault(&self) -> Option<FieldError> {
        let why = format!("checking this object against its schema would take more than {MAX_STEPS} steps");
        self.spent.as_ref().map(|path| FieldError::forbidden(path, why))
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> u64 {
        self.left
    }
}
