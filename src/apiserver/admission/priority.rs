//! Priority: a pod's class becomes a number. The two system classes are known here; others will be looked up
//! once the kind is served.

use api::ApiError;
use serde_json::{Value, json};

use super::Request;
use api::json::text;

const SYSTEM: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
const DEFAULT_POLICY: &str = "PreemptLowerPriority";

pub(super) fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if !request.creates_pod() || !pod["spec"].is_object() {
        return Ok(());
    }
    let class = text(pod, "spec.priorityClassName");
    let (priority, policy) = match class {
        "" => default_class(request).unwrap_or((0, DEFAULT_POLICY.to_string())),
        name => class_of(request, name)
            .ok_or_else(|| request.forbidden(&format!("no PriorityClass with name {name} was found")))?,
    };
    if let Some(given) = pod["spec"]["priority"].as_i64().filter(|given| *given != priority) {
        return Err(request.forbidden(&format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        )));
    }
    let given = text(pod, "spec.preemptionPolicy");
    if !given.is_empty() && given != policy {
        return Err(request.forbidden(&format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    pod["spec"]["priority"] = json!(priority);
    pod["spec"]["preemptionPolicy"] = json!(policy);
    Ok(())
}

fn class_of(request: &Request<'_>, name: &str) -> Option<(i64, String)> {
    if let Some((_, value)) = SYSTEM.iter().find(|(system, _)| *system == name) {
        return Some((*value, DEFAULT_POLICY.to_string()));
    }
    let row = api::kinds::by_kind("scheduling.k8s.io/v1", "PriorityClass")?;
    values(&request.ctx.caches.get(row, None, name)?.tree().ok()?)
}

fn values(class: &Value) -> Option<(i64, String)> {
    let policy = text(class, "preemptionPolicy");
    Some((class["value"].as_i64()?, if policy.is_empty() { DEFAULT_POLICY } else { policy }.to_string()))
}

/// The class for pods that name none: of several the one with the lowest value.
fn default_class(request: &Request<'_>) -> Option<(i64, String)> {
    let row = api::kinds::by_kind("scheduling.k8s.io/v1", "PriorityClass")?;
    let classes = request.ctx.caches.list(row, None);
    let trees = classes.iter().filter_map(|object| object.tree().ok());
    trees.filter(|class| class["globalDefault"] == true).filter_map(|class| values(&class)).min()
}
