//! NodeResourcesFit as a score: the more is left, the better.

use super::MAX;
use crate::resources::Resources;

/// `used` and `pod` are CPU and memory with defaults for what is not requested.
pub(crate) fn score(pod: (i64, i64), used: (i64, i64), allocatable: &Resources) -> i64 {
    let left = |wanted: i64, all: i64| if all == 0 || wanted > all { 0 } else { (all - wanted) * MAX / all };
    let cpu = (allocatable.milli_cpu > 0).then(|| left(used.0 + pod.0, allocatable.milli_cpu));
    let memory = (allocatable.memory > 0).then(|| left(used.1 + pod.1, allocatable.memory));
    match (cpu, memory) {
        (Some(cpu), Some(memory)) => (cpu + memory) / 2,
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => 0,
    }
}
