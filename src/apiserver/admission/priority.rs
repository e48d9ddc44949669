//! Priority: a pod's class becomes a number; of classes only one is the default, and the system's two stay.

use api::ApiError;
use api::json::text;
use api::kinds::PRIORITY_CLASS;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::{Value, json};

use super::request::{Operation, Request};
use crate::registry::strategies::priority_class::SYSTEM;

const DEFAULT_POLICY: &str = "PreemptLowerPriority";

pub(super) fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if !pod["spec"].is_object() {
        return Ok(());
    }
    if request.operation == Operation::Update && request.is("", "pods", None) {
        return keep(request, pod);
    }
    if !request.creates_pod() {
        return Ok(());
    }
    let named = text(pod, "spec.priorityClassName");
    let class = match named {
        "" => default_class(request),
        name => Some(
            class_of(request, name)
                .ok_or_else(|| request.forbidden(&format!("no PriorityClass with name {name} was found")))?,
        ),
    };
    let unnamed = named.is_empty();
    let (priority, policy, name) = class.unwrap_or_else(|| (0, DEFAULT_POLICY.to_string(), String::new()));
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
    if unnamed && !name.is_empty() {
        pod["spec"]["priorityClassName"] = json!(name);
    }
    pod["spec"]["priority"] = json!(priority);
    pod["spec"]["preemptionPolicy"] = json!(policy);
    Ok(())
}

/// What was computed when the pod was made stays where an update leaves it out.
fn keep(request: &Request<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let Some(old) = request.old else { return Ok(()) };
    let old = old.tree().map_err(ApiError::internal)?;
    for field in ["priority", "preemptionPolicy"] {
        let known = &old["spec"][field];
        if pod["spec"][field].is_null() && !known.is_null() {
            pod["spec"][field] = known.clone();
        }
    }
    Ok(())
}

/// Value, policy and name of a class.
type Class = (i64, String, String);

fn class_of(request: &Request<'_>, name: &str) -> Option<Class> {
    let class = request.ctx.caches.get(&PRIORITY_CLASS, None, name)?.typed::<PriorityClass>().ok()?;
    Some(values(&class))
}

fn values(class: &PriorityClass) -> Class {
    let policy = class.preemption_policy.as_deref().filter(|policy| !policy.is_empty());
    let name = class.metadata.name.clone().unwrap_or_default();
    // The value 0 may be left out.
    (i64::from(class.value.unwrap_or(0)), policy.unwrap_or(DEFAULT_POLICY).to_string(), name)
}

/// The class for pods that name none: of several the one with the lowest value.
fn default_class(request: &Request<'_>) -> Option<Class> {
    let classes = request.ctx.caches.list(&PRIORITY_CLASS, None);
    // Every new pod asks: the decoded form is shared.
    let typed = classes.iter().filter_map(|object| object.typed::<PriorityClass>().ok());
    typed.filter(|class| class.global_default == Some(true)).map(|class| values(&class)).min()
}

/// Only one class is the default.
pub(super) fn validate(request: &Request<'_>, class: &Value) -> Result<(), ApiError> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if !writes || !request.is("scheduling.k8s.io", "priorityclasses", None) || class["globalDefault"] != true
    {
        return Ok(());
    }
    match default_class(request) {
        Some((.., name)) if request.operation == Operation::Create || name != request.name => {
            let why =
                format!("PriorityClass {name} is already marked as default. Only one default can exist");
            Err(request.forbidden(&why))
        }
        _ => Ok(()),
    }
}

/// The system's classes stay. Upstream's storage says so, whichever plugins run.
pub(super) fn keep_system(request: &Request<'_>) -> Result<(), ApiError> {
    let system = SYSTEM.iter().any(|(name, ..)| *name == request.name);
    if request.operation == Operation::Delete
        && system
        && request.is("scheduling.k8s.io", "priorityclasses", None)
    {
        return Err(request.forbidden("this is a system priority class and cannot be deleted"));
    }
    Ok(())
}
