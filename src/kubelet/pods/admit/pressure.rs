//! What the node is short of, and whom that keeps out.

use api::qos::QosClass;
use k8s_openapi::api::core::v1::Pod;

use crate::spec::PodExt;
use crate::spec::resources::class_of;

/// What the node is short of, as its conditions tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

impl Pressure {
    /// Names of the conditions, in upstream's order.
    pub(crate) fn names(self) -> Vec<&'static str> {
        let all = [(self.memory, "MemoryPressure"), (self.disk, "DiskPressure"), (self.pids, "PIDPressure")];
        all.into_iter().filter(|(is_short, _)| *is_short).map(|(_, name)| name).collect()
    }
}

/// Why a pod may not begin on a node in this state.
pub(crate) fn refuse(pod: &Pod, pressure: Pressure) -> Option<String> {
    let names = pressure.names();
    if names.is_empty() || pod.is_critical() {
        return None;
    }
    if names == ["MemoryPressure"] && (!is_best_effort(pod) || tolerates_memory_pressure(pod)) {
        return None;
    }
    Some(format!("The node had condition: [{}]. ", names.join(" ")))
}

fn is_best_effort(pod: &Pod) -> bool {
    class_of(pod) == QosClass::BestEffort
}

fn tolerates_memory_pressure(pod: &Pod) -> bool {
    let key = "node.kubernetes.io/memory-pressure";
    pod.spec_ref().tolerations.iter().flatten().any(|one| {
        let effect = one.effect.as_deref().is_none_or(|effect| effect.is_empty() || effect == "NoSchedule");
        let named = match one.key.as_deref() {
            None | Some("") => one.operator.as_deref() == Some("Exists"),
            Some(own) => {
                own == key
                    && (one.operator.as_deref() == Some("Exists")
                        || one.value.as_deref().unwrap_or("").is_empty())
            }
        };
        effect && named
    })
}
