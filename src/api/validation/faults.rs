//! Collected faults of one object: the first hundred, and how many there were.

use std::ops::Deref;

use crate::FieldError;
use crate::bounds::MAX_FAULTS;

#[derive(Clone, Debug, Default)]
pub struct Faults {
    kept: Vec<FieldError>,
    count: usize,
}

impl Faults {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, fault: FieldError) {
        self.count += 1;
        if self.kept.len() < MAX_FAULTS {
            self.kept.push(fault);
        }
    }

    /// How many were found, also those that are not kept.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether further faults only count: whoever has to do much to word one may stop.
    pub fn is_full(&self) -> bool {
        self.kept.len() >= MAX_FAULTS
    }
}

impl Extend<FieldError> for Faults {
    fn extend<T: IntoIterator<Item = FieldError>>(&mut self, faults: T) {
        faults.into_iter().for_each(|fault| self.push(fault));
    }
}

impl FromIterator<FieldError> for Faults {
    fn from_iter<T: IntoIterator<Item = FieldError>>(faults: T) -> Self {
        let mut all = Faults::new();
        all.extend(faults);
        all
    }
}

/// Those that are kept.
impl Deref for Faults {
    type Target = [FieldError];

    fn deref(&self) -> &[FieldError] {
        &self.kept
    }
}

impl IntoIterator for Faults {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.kept.into_iter()
    }
}

impl From<Faults> for Vec<FieldError> {
    fn from(faults: Faults) -> Self {
        faults.kept
    }
}

impl From<Vec<FieldError>> for Faults {
    fn from(faults: Vec<FieldError>) -> Self {
        faults.into_iter().collect()
    }
}
