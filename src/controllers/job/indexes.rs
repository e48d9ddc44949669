//! Sets of completion indexes as the status writes them: `0,3-5,7`.

use std::fmt;

/// Sorted intervals (first and last) that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(u32, u32)>);

impl Indexes {
    /// Reads indexes below `completions`; what is not a number is passed over.
    pub(super) fn parse(text: &str, completions: u32) -> Self {
        let mut intervals = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else { continue };
            if first < completions && first <= last {
                intervals.push((first, last.min(completions - 1)));
            }
        }
        Self::of(intervals)
    }

    fn of(mut intervals: Vec<(u32, u32)>) -> Self {
        intervals.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(intervals.len());
        for (first, last) in intervals {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Indexes(merged)
    }

    /// These and others.
    pub(super) fn with(&self, others: impl IntoIterator<Item = u32>) -> Self {
        let singles = others.into_iter().map(|index| (index, index));
        Self::of(self.0.iter().copied().chain(singles).collect())
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0).copied().collect())
    }

    pub(super) fn contains(&self, index: u32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    pub(super) fn total(&self) -> usize {
        self.0.iter().map(|(first, last)| (last - first) as usize + 1).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many indexes both have.
    pub(super) fn shared(&self, other: &Self) -> usize {
        let (mut one, mut two, mut shared) = (self.0.as_slice(), other.0.as_slice(), 0);
        while let ([(first, last), rest @ ..], [(other_first, other_last), other_rest @ ..]) = (one, two) {
            let (from, to) = (first.max(other_first), last.min(other_last));
            if from <= to {
                shared += (to - from) as usize + 1;
            }
            if last <= other_last {
                one = rest;
            } else {
                two = other_rest;
            }
        }
        shared
    }

    /// The first `count` indexes below `completions` that are not among these.
    pub(super) fn missing(&self, count: usize, completions: u32) -> Vec<u32> {
        let mut missing = Vec::new();
        let mut next = 0;
        for (first, last) in self.0.iter().copied().chain([(completions, completions)]) {
            let gap = next..first.min(completions);
            missing.extend(gap.take(count - missing.len()));
            next = last.saturating_add(1);
            if missing.len() == count || next >= completions {
                break;
            }
        }
        missing
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last - first {
                0 => write!(out, "{comma}{first}")?,
                1 => write!(out, "{comma}{first},{last}")?,
                _ => write!(out, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
