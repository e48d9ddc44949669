//! TaintToleration: every NoSchedule and NoExecute taint must be tolerated.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{Plugin, Rejection};

pub(crate) fn filter(tolerations: &[Toleration], taints: &[Taint]) -> Option<Rejection> {
    let effects = [api::taints::NO_SCHEDULE, api::taints::NO_EXECUTE];
    api::taints::first_untolerated(taints, tolerations, &effects)?;
    Some(Rejection::for_good(Plugin::TaintToleration, "node(s) had untolerated taint(s)"))
}
