//! NodeResourcesFit: requests must fit beside those of the node's pods.

use super::{Plugin, Rejection};
use crate::resources::Resources;

/// Whether it fits: the fast answer for the many nodes that do.
pub(crate) fn fits(pod: &Resources, requested: &Resources, allocatable: &Resources) -> bool {
    let room = |wanted: i64, used: i64, all: i64| wanted == 0 || wanted <= all - used;
    requested.pods < allocatable.pods
        && room(pod.milli_cpu, requested.milli_cpu, allocatable.milli_cpu)
        && room(pod.memory, requested.memory, allocatable.memory)
        && room(pod.ephemeral, requested.ephemeral, allocatable.ephemeral)
        && pod
            .others
            .iter()
            .all(|(name, wanted)| room(*wanted, requested.other(name), allocatable.other(name)))
}

/// Everything that is short, each with its own text.
pub(crate) fn filter(pod: &Resources, requested: &Resources, allocatable: &Resources) -> Vec<Rejection> {
    let mut short = Vec::new();
    if requested.pods >= allocatable.pods {
        short.push(Rejection::new(Plugin::NodeResourcesFit, "Too many pods"));
    }
    let mut check = |text: String, wanted: i64, used: i64, all: i64| {
        if wanted > 0 && wanted > all - used {
            // What is more than the whole node has cannot be had by evicting pods.
            let resolvable = wanted <= all;
            short.push(Rejection { plugin: Plugin::NodeResourcesFit, resolvable, text: text.into() });
        }
    };
    check("Insufficient cpu".into(), pod.milli_cpu, requested.milli_cpu, allocatable.milli_cpu);
    check("Insufficient memory".into(), pod.memory, requested.memory, allocatable.memory);
    check("Insufficient ephemeral-storage".into(), pod.ephemeral, requested.ephemeral, allocatable.ephemeral);
    for (name, wanted) in &pod.others {
        check(format!("Insufficient {name}"), *wanted, requested.other(name), allocatable.other(name));
    }
    short
}
