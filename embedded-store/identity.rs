//! Numbers that name stores, leases and what members ask of each other.

/// A number that no other store has: the standard library seeds its hashers from the system's randomness.
pub(crate) fn new_identity() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() | 1
}
