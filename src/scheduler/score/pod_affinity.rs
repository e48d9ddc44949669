//! InterPodAffinity as a score: preferences of the pod for others, and of others for it, scaled from the least to the most liked.

use super::MAX;

pub(crate) fn normalise(raw: i64, least: i64, most: i64) -> i64 {
    if most == least { 0 } else { MAX * (raw - least) / (most - least) }
}
