//! Disruption budgets of pods. Evictions count against them (`registry::eviction`).

use api::FieldError;
use api::validation::{Faults, Path, validate_conditions, validate_label_selector};
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudgetSpec;
use serde_json::{Value, json};

use super::{rollout, typed};
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const POLICIES: [&str; 2] = ["AlwaysAllow", "IfHealthyBudget"];

pub(super) struct DisruptionBudgets;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let Some(spec) = typed::<PodDisruptionBudgetSpec>(&tree["spec"], &at, &mut faults) else {
        return faults;
    };
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let printed = json!({
            "MinAvailable": spec.min_available, "Selector": spec.selector, "MaxUnavailable": spec.max_unavailable,
            "UnhealthyPodEvictionPolicy": spec.unhealthy_pod_eviction_policy,
        });
        let message = "minAvailable and maxUnavailable cannot be both set";
        faults.push(FieldError::invalid(at, printed, message));
    }
    for (field, amount) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)]
    {
        rollout::validate_amount(amount.as_ref(), &at.child(field), &mut faults);
        rollout::validate_at_most_all(amount.as_ref(), &at.child(field), &mut faults);
    }
    if let Some(selector) = &spec.selector {
        validate_label_selector(selector, &at.child("selector"), &mut faults);
    }
    if let Some(policy) = spec.unhealthy_pod_eviction_policy.as_deref().filter(|one| !POLICIES.contains(one))
    {
        faults.push(FieldError::not_supported(at.child("unhealthyPodEvictionPolicy"), policy, &POLICIES));
    }
    faults
}

fn validate_status(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    validate_conditions(&tree["status"]["conditions"], &Path::new("status").child("conditions"), &mut faults);
    let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
    rollout::validate_counts(tree, &counts, &mut faults);
    faults
}

impl Strategy for DisruptionBudgets {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, _old: &Value) -> Faults {
        if ctx.subresource == Some("status") { validate_status(new) } else { validate(new) }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        printers::policy::DISRUPTION_BUDGET
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::policy::disruption_budget(tree, now)
    }
}
