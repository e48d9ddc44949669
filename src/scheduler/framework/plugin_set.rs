//! Which plugins of a profile: one bit for each.

use std::ops::BitOr;

/// A set of a profile's plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginSet(u64);

impl PluginSet {
    pub const NONE: PluginSet = PluginSet(0);
    /// How many plugins a profile can have.
    pub const MOST: usize = 64;

    pub(crate) fn of(id: u8) -> Self {
        PluginSet(1 << id)
    }

    pub(crate) fn insert(&mut self, id: u8) {
        self.0 |= 1 << id;
    }

    pub(crate) fn contains(self, id: u8) -> bool {
        self.0 & 1 << id != 0
    }

    pub(crate) fn intersects(self, other: PluginSet) -> bool {
        self.0 & other.0 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for PluginSet {
    type Output = PluginSet;

    fn bitor(self, other: PluginSet) -> PluginSet {
        PluginSet(self.0 | other.0)
    }
}
