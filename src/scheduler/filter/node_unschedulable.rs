//! NodeUnschedulable: a cordoned node takes only pods that tolerate its taint.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{Plugin, Rejection};

pub(crate) fn filter(tolerations: &[Toleration], unschedulable: bool) -> Option<Rejection> {
    if !unschedulable {
        return None;
    }
    let taint = Taint {
        key: api::taints::UNSCHEDULABLE.to_string(),
        effect: api::taints::NO_SCHEDULE.to_string(),
        ..Taint::default()
    };
    let borne = api::taints::tolerated(tolerations, &taint);
    (!borne).then(|| Rejection::for_good(Plugin::NodeUnschedulable, "node(s) were unschedulable"))
}
