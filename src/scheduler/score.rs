//! Scores: which of the nodes that will do is best? One plugin a file, named as upstream's; each is pure.
//!
//! A plugin gives each node 0 to 100, possibly after normalising over all nodes; the weighted sum decides.

pub(crate) mod balanced_allocation;
pub(crate) mod image_locality;
pub(crate) mod least_allocated;
pub(crate) mod pod_affinity;
pub(crate) mod pod_topology_spread;

pub(crate) const MAX: i64 = 100;

/// Weights of the default profile.
pub(crate) const TAINT_TOLERATION: i64 = 3;
pub(crate) const NODE_AFFINITY: i64 = 2;
pub(crate) const POD_TOPOLOGY_SPREAD: i64 = 2;
pub(crate) const INTER_POD_AFFINITY: i64 = 2;

/// Scales raw values so that the largest becomes 100 (or 0 if `reverse`: less is better).
pub(crate) fn normalise(raw: i64, most: i64, reverse: bool) -> i64 {
    if most == 0 {
        return if reverse { MAX } else { 0 };
    }
    let scaled = MAX * raw / most;
    if reverse { MAX - scaled } else { scaled }
}
