//! Picks a free number of a range: of its addresses or its ports, counted from 0.
//!
//! As upstream's allocators do, the numbers that users ask for by hand (the lower band, KEP-3070 and
//! KEP-3668) are left for last, and a search begins at a random place, so that servers that choose at once
//! seldom choose the same. In a range with room a few guesses find a free number. If they do not, what is
//! taken is read once, whatever the size of the range, and the search runs over numbers in memory. What is
//! picked may still be gone when it is written: the transaction decides.

use std::collections::HashSet;

use rand::Rng;

/// Guesses in each band before everything that is taken is read. With 90 % of a band taken, one in three
/// ranges is read.
const GUESSES: usize = 10;
/// How many numbers of a band are looked at before it counts as full. So many services there are not, but an
/// IPv6 range has more addresses than can be looked at.
const MOST_LOOKED_AT: u128 = 1 << 22;

/// The numbers of a range, and what is known of them.
pub(super) struct Range<'a> {
    /// How many numbers there are.
    pub(super) size: u128,
    /// How many of them, from 0 on, are left for last.
    pub(super) low: u128,
    /// Whether a number is free: the last word before it is claimed.
    pub(super) is_free: &'a dyn Fn(u128) -> bool,
    /// The numbers that have a record: one read of the store. Others may not be free either.
    pub(super) taken: &'a dyn Fn() -> HashSet<u128>,
}

impl Range<'_> {
    pub(super) fn pick(&self) -> Option<u128> {
        let low = self.low.min(self.size);
        let mut random = rand::rng();
        let mut taken = None;
        for (first, end) in [(low, self.size), (0, low)] {
            let size = end - first;
            if size == 0 {
                continue;
            }
            let mut any = || first + random.random_range(0..size);
            if let Some(found) = (0..GUESSES).map(|_| any()).find(|number| (self.is_free)(*number)) {
                return Some(found);
            }
            let start = any() - first;
            let taken = taken.get_or_insert_with(self.taken);
            let around = (0..size.min(MOST_LOOKED_AT)).map(|step| first + (start + step) % size);
            let found =
                around.filter(|number| !taken.contains(number)).find(|number| (self.is_free)(*number));
            if found.is_some() {
                return found;
            }
        }
        None
    }
}
