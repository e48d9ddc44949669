//! NodeResourcesBalancedAllocation: CPU and memory should be used to the same degree.

use super::MAX;
use crate::resources::Resources;

pub(crate) fn score(pod: &Resources, requested: &Resources, allocatable: &Resources) -> i64 {
    let share = |wanted: i64, all: i64| if all == 0 { 0.0 } else { (wanted as f64 / all as f64).min(1.0) };
    let cpu = share(requested.milli_cpu + pod.milli_cpu, allocatable.milli_cpu);
    let memory = share(requested.memory + pod.memory, allocatable.memory);
    // The standard deviation of two values.
    let deviation = (cpu - memory).abs() / 2.0;
    ((1.0 - deviation) * MAX as f64) as i64
}
