//! The plugins of the default profile, one a file, named as upstream's.
//!
//! Absent: those for limits of CSI drivers, for devices and for groups of pods.

use std::sync::Arc;

use crate::framework::{Config, Handle, Plugin, ProfileConfig};

mod default_binder;
mod default_preemption;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_balanced_allocation;
pub(crate) mod node_resources_fit;
pub(crate) mod node_unschedulable;
mod pod_topology_spread;
mod scheduling_gates;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

/// Upstream's order and weights.
const DEFAULT: &[(&str, i64)] = &[
    (scheduling_gates::NAME, 0),
    (node_unschedulable::NAME, 0),
    (node_name::NAME, 0),
    (taint_toleration::NAME, 3),
    (node_affinity::NAME, 2),
    (node_ports::NAME, 0),
    (node_resources_fit::NAME, 1),
    (volume_restrictions::NAME, 0),
    (volume_binding::NAME, 0),
    (volume_zone::NAME, 0),
    (pod_topology_spread::NAME, 2),
    (inter_pod_affinity::NAME, 2),
    (default_preemption::NAME, 0),
    (node_resources_balanced_allocation::NAME, 1),
    (image_locality::NAME, 1),
    (default_binder::NAME, 0),
];

impl Default for ProfileConfig {
    /// Upstream's default plugins, as far as they are there.
    fn default() -> Self {
        let plugins = DEFAULT.iter().map(|(name, weight)| (name.to_string(), *weight)).collect();
        ProfileConfig { scheduler_name: api::pod::DEFAULT_SCHEDULER.to_string(), plugins }
    }
}

impl Default for Config {
    /// The default profile and the plugins of this crate.
    fn default() -> Self {
        let mut config = Config::empty();
        config.profiles.push(ProfileConfig::default());
        register(&mut config);
        config
    }
}

/// Makes all of them known.
fn register(config: &mut Config) {
    fn stateless<P: Plugin + Default>(_: &Handle) -> Arc<dyn Plugin> {
        Arc::new(P::default())
    }
    config.add_plugin(scheduling_gates::NAME, stateless::<scheduling_gates::SchedulingGates>);
    config.add_plugin(node_unschedulable::NAME, stateless::<node_unschedulable::NodeUnschedulable>);
    config.add_plugin(node_name::NAME, stateless::<node_name::NodeName>);
    config.add_plugin(taint_toleration::NAME, stateless::<taint_toleration::TaintToleration>);
    config.add_plugin(node_affinity::NAME, stateless::<node_affinity::NodeAffinity>);
    config.add_plugin(node_ports::NAME, stateless::<node_ports::NodePorts>);
    config.add_plugin(node_resources_fit::NAME, stateless::<node_resources_fit::NodeResourcesFit>);
    config.add_plugin(pod_topology_spread::NAME, stateless::<pod_topology_spread::PodTopologySpread>);
    config.add_plugin(inter_pod_affinity::NAME, stateless::<inter_pod_affinity::InterPodAffinity>);
    config.add_plugin(
        node_resources_balanced_allocation::NAME,
        stateless::<node_resources_balanced_allocation::BalancedAllocation>,
    );
    config.add_plugin(image_locality::NAME, stateless::<image_locality::ImageLocality>);
    config.add_plugin(volume_restrictions::NAME, |handle| {
        Arc::new(volume_restrictions::VolumeRestrictions::new(handle.clone()))
    });
    config.add_plugin(volume_binding::NAME, |handle| {
        Arc::new(volume_binding::VolumeBinding::new(handle.clone()))
    });
    config.add_plugin(volume_zone::NAME, |handle| Arc::new(volume_zone::VolumeZone::new(handle.clone())));
    config.add_plugin(default_preemption::NAME, |handle| {
        Arc::new(default_preemption::DefaultPreemption::new(handle.clone()))
    });
    config.add_plugin(default_binder::NAME, |handle| {
        Arc::new(default_binder::DefaultBinder::new(handle.api.clone()))
    });
}

#[cfg(test)]
mod tests;
