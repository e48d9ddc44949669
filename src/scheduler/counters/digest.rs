//! What stands for the words of a counter.

use std::hash::{BuildHasher, RandomState};

/// Two keyed hashes side by side: nobody who does not know the keys finds texts that share one.
#[derive(Default)]
pub(super) struct Digest(RandomState, RandomState);

impl Digest {
    pub(super) fn of(&self, words: &str) -> u128 {
        u128::from(self.0.hash_one(words)) << 64 | u128::from(self.1.hash_one(words))
    }
}
