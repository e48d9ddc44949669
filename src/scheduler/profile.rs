//! What nodes are to pods that wish the same, other pods apart. Computed once per wish and node, and again when the node
//! changes: pods of one template, however many, share the answers.

use crate::filter::{Rejection, node_affinity, node_name, node_unschedulable, taint_toleration};
use crate::node::NodeInfo;
use crate::pod::Wishes;
use crate::score::image_locality;

/// One node in the eyes of one wish.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// The node's version this was computed for, plus one; 0 for never.
    seen: u64,
    pub(crate) rejection: Option<Rejection>,
    /// PreferNoSchedule taints that are not tolerated.
    pub(crate) taints: i64,
    /// Weight of the preferred node affinity terms that match.
    pub(crate) affinity: i64,
    pub(crate) images: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Profile {
    rows: Vec<Row>,
    pub(crate) used: u64,
}

impl Profile {
    /// Brings the node's row up to date. `spread` gives the share of nodes that have an image.
    pub(crate) fn refresh(
        &mut self,
        index: u32,
        node: &NodeInfo,
        wishes: &Wishes,
        spread: impl Fn(&str) -> f64,
    ) {
        let at = index as usize;
        if self.rows.len() <= at {
            self.rows.resize(at + 1, Row::default());
        }
        if self.rows[at].seen == node.version + 1 {
            return;
        }
        self.rows[at] = compute(node, wishes, spread);
    }

    pub(crate) fn row(&self, index: u32) -> &Row {
        static NEVER: std::sync::LazyLock<Row> = std::sync::LazyLock::new(Row::default);
        self.rows.get(index as usize).unwrap_or(&NEVER)
    }

    /// The index now belongs to another node.
    pub(crate) fn forget(&mut self, index: u32) {
        if let Some(row) = self.rows.get_mut(index as usize) {
            *row = Row::default();
        }
    }
}

/// The plugins that look at the node alone, in upstream's order.
pub(crate) fn reject(node: &NodeInfo, wishes: &Wishes) -> Option<Rejection> {
    node_unschedulable::filter(&wishes.tolerations, node.unschedulable)
        .or_else(|| node_name::filter(wishes.node_name.as_deref(), &node.name))
        .or_else(|| taint_toleration::filter(&wishes.tolerations, &node.taints))
        .or_else(|| node_affinity::filter(&wishes.required, &node.name, &node.labels))
}

fn compute(node: &NodeInfo, wishes: &Wishes, spread: impl Fn(&str) -> f64) -> Row {
    let rejection = reject(node, wishes);
    let seen = node.version + 1;
    if rejection.is_some() {
        return Row { seen, rejection, ..Row::default() };
    }
    let prefers = |taint: &&k8s_openapi::api::core::v1::Taint| {
        taint.effect == api::taints::PREFER_NO_SCHEDULE && !api::taints::tolerated(&wishes.tolerations, taint)
    };
    Row {
        seen,
        rejection,
        taints: i64::try_from(node.taints.iter().filter(prefers).count()).unwrap_or(0),
        affinity: wishes.preferred.weight(&node.name, &node.labels),
        images: image_locality::score(&wishes.images, &node.images, spread),
    }
}
