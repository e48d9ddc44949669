//! PodTopologySpread as a score: the fewer matching pods in the node's domain, the better.

use super::MAX;

/// The raw value of one constraint; lower is better. Many domains make each pod weigh more.
pub(crate) fn raw(pods: u32, domains: usize, max_skew: i64) -> f64 {
    let weight = ((domains + 2) as f64).ln();
    f64::from(pods) * weight + (max_skew - 1) as f64
}

/// Turned around: the emptiest is best.
pub(crate) fn normalise(raw: i64, least: i64, most: i64) -> i64 {
    if most == 0 { MAX } else { MAX * (most + least - raw) / most }
}
