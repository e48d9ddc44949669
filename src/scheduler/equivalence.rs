//! The equivalence cache: what nodes are to pods with the same requirements, other pods apart. Computed once
//! per signature and node, and again when the node changes: pods of one template, however many, share the
//! answers.
//!
//! It keeps what plugins answer that look at nothing else (`only_node`): the first rejection among the
//! filters at the head of the profile's list, or else the raw scores.

use crate::framework::{PluginSet, Status};

/// What one node is to pods of one signature.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// The node's version this was computed for, plus one; 0 for never.
    seen: u64,
    pub(crate) rejection: Option<(PluginSet, Status)>,
    pub(crate) scores: Vec<Result<i64, Status>>,
}

/// The rows of one signature.
#[derive(Debug, Default)]
pub(crate) struct Equivalence {
    rows: Vec<Row>,
    pub(crate) used: u64,
}

impl Equivalence {
    /// The node's row, emptied, if it has to be computed again for this version of the node.
    pub(crate) fn outdated(&mut self, node: u32, version: u64) -> Option<&mut Row> {
        let at = node as usize;
        if self.rows.len() <= at {
            self.rows.resize(at + 1, Row::default());
        }
        let row = &mut self.rows[at];
        if row.seen == version + 1 {
            return None;
        }
        row.seen = version + 1;
        row.scores.clear();
        row.rejection = None;
        Some(row)
    }

    pub(crate) fn rejection(&self, node: u32) -> Option<&(PluginSet, Status)> {
        self.rows.get(node as usize)?.rejection.as_ref()
    }

    /// What the plugin gave that is `at` in the order of the kept scores.
    pub(crate) fn score(&self, node: u32, at: usize) -> Result<i64, Status> {
        self.rows.get(node as usize).and_then(|row| row.scores.get(at).cloned()).unwrap_or(Ok(0))
    }

    /// The index now belongs to another node.
    pub(crate) fn forget(&mut self, node: u32) {
        if let Some(row) = self.rows.get_mut(node as usize) {
            *row = Row::default();
        }
    }
}
