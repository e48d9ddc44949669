//! Filters: may this pod run on this node at all? One plugin a file, named as upstream's; each is pure.
//!
//! A filter answers with no reasons if the node will do. Volume plugins are absent: there are no volumes that bind to nodes yet.

use std::borrow::Cow;

pub(crate) mod node_affinity;
pub(crate) mod node_name;
pub(crate) mod node_ports;
pub(crate) mod node_resources_fit;
pub(crate) mod node_unschedulable;
pub(crate) mod pod_affinity;
pub(crate) mod pod_topology_spread;
pub(crate) mod taint_toleration;

/// A plugin that can reject nodes; combined as a bit set, it says what an unschedulable pod waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plugin {
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    PodTopologySpread,
    InterPodAffinity,
}

/// A set of plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plugins(u16);

impl Plugins {
    pub(crate) const NONE: Plugins = Plugins(0);

    pub(crate) fn of(plugins: &[Plugin]) -> Self {
        plugins.iter().fold(Plugins::NONE, |set, plugin| set.with(*plugin))
    }

    pub(crate) fn with(self, plugin: Plugin) -> Self {
        Plugins(self.0 | 1 << plugin as u16)
    }

    pub(crate) fn intersects(self, other: Plugins) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Why a node will not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) plugin: Plugin,
    /// Evicting pods might change it.
    pub(crate) resolvable: bool,
    pub(crate) text: Cow<'static, str>,
}

impl Rejection {
    pub(crate) fn new(plugin: Plugin, text: impl Into<Cow<'static, str>>) -> Self {
        Rejection { plugin, resolvable: true, text: text.into() }
    }

    pub(crate) fn for_good(plugin: Plugin, text: impl Into<Cow<'static, str>>) -> Self {
        Rejection { plugin, resolvable: false, text: text.into() }
    }
}

#[cfg(test)]
mod tests;
