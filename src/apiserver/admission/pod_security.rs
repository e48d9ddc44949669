//! PodSecurity: pods keep to the Pod Security Standards as far as their namespace's labels demand it.
//!
//! Pods that violate what is enforced are refused; of what is only warned of, and of templates of pods, the
//! caller is told. Namespaces, users and runtime classes may be exempt ([`settings`]). Absent: audit
//! annotations (there is no audit log yet).

mod checks;
mod policy;
mod settings;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use api::ApiError;
use api::json::{items, text};
use api::kinds::{NAMESPACE, POD};
use serde_json::Value;

use super::request::{Operation, Request};
use checks::Refusal;
use policy::{Demand, Level, NEWEST, Policy};
pub(super) use settings::{Settings, configured};

/// How many pods of a namespace are looked at when more is demanded of it.
const MAX_PODS: usize = 3000;
/// Parts of pods that do not change what runs.
const IGNORED: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// Where a kind has its template of pods.
fn template<'a>(request: &Request<'_>, object: &'a Value) -> Option<&'a Value> {
    let row = request.ctx.row;
    let template = match (&*row.group, &*row.plural) {
        ("", "podtemplates") => &object["template"],
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => &object["spec"]["template"],
        ("batch", "cronjobs") => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => return None,
    };
    (request.ctx.subresource.is_none() && template.is_object()).then_some(template)
}

pub(super) fn validate(
    request: &Request<'_>,
    settings: &Settings,
    object: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let row = request.ctx.row;
    if row.group.is_empty() && row.plural == "namespaces" {
        return namespace(request, settings, object, warnings);
    }
    let is_pod = row.group.is_empty() && row.plural == "pods";
    let template = template(request, object);
    if !is_pod && template.is_none() {
        return Ok(());
    }
    if is_pod && request.ctx.subresource.is_some_and(|part| IGNORED.contains(&part)) {
        return Ok(());
    }
    if request.ctx.namespace.is_some_and(|name| settings.exempts_namespace(name))
        || settings.exempts_user(&request.ctx.user.name)
    {
        return Ok(());
    }
    let Some(namespace) =
        request.ctx.namespace.and_then(|name| request.ctx.caches.get(&NAMESPACE, None, name))
    else {
        return Ok(());
    };
    let policy = Policy::of(&namespace.tree().map_err(ApiError::internal)?, settings);
    let audited = request.ctx.trail.filter(|_| policy.audit.level != Level::Privileged);
    let demands = [policy.enforce.level, policy.warn.level];
    if audited.is_none() && demands == [Level::Privileged; 2] {
        return Ok(());
    }
    let pod = template.unwrap_or(object);
    if settings.exempts_pod(pod) {
        return Ok(());
    }
    if is_pod {
        if request.operation == Operation::Update && !is_significant(object, &request.old_tree()) {
            return Ok(());
        }
        if let Some(trail) = request.ctx.trail {
            trail.annotate("pod-security.kubernetes.io/enforce-policy", policy.enforce.to_string());
        }
        let refusals = evaluate(policy.enforce, pod);
        if !refusals.is_empty() {
            let why =
                format!("violates PodSecurity {:?}: {}", policy.enforce.to_string(), details(&refusals));
            return Err(request.forbidden(&why));
        }
    }
    if let Some(trail) = audited {
        let refusals = evaluate(policy.audit, pod);
        if !refusals.is_empty() {
            let what = format!("would violate PodSecurity {:?}", policy.audit.to_string());
            trail.annotate(
                "pod-security.kubernetes.io/audit-violations",
                format!("{what}: {}", details(&refusals)),
            );
        }
    }
    let refusals = evaluate(policy.warn, pod);
    if !refusals.is_empty() {
        let what = format!("would violate PodSecurity {:?}", policy.warn.to_string());
        warnings.push(format!("{what}: {}", details(&refusals)));
    }
    Ok(())
}

fn evaluate(demand: Demand, pod: &Value) -> Vec<Refusal> {
    let minor = demand.minor.unwrap_or(NEWEST).min(NEWEST);
    checks::evaluate(demand.level, minor, &pod["metadata"], &pod["spec"])
}

fn details(refusals: &[Refusal]) -> String {
    refusals.iter().map(|(reason, detail)| format!("{reason} ({detail})")).collect::<Vec<_>>().join(", ")
}

/// Whether an update changes what runs.
fn is_significant(new: &Value, old: &Value) -> bool {
    let image = |container: &Value| container["image"].clone();
    let lists = ["containers", "initContainers"];
    let changed = lists.iter().any(|list| {
        let (new, old) = (items(&new["spec"], list), items(&old["spec"], list));
        new.len() != old.len() || new.iter().zip(old).any(|(new, old)| image(new) != image(old))
    });
    let before = items(old, "spec.ephemeralContainers");
    changed
        || items(new, "spec.ephemeralContainers").iter().any(|one| {
            let was = before.iter().find(|was| was["name"] == one["name"]);
            was.is_none_or(|was| image(was) != image(one))
        })
}

/// Labels must be readable; what they newly demand is compared with the pods that are there.
fn namespace(
    request: &Request<'_>,
    settings: &Settings,
    object: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    if request.ctx.subresource.is_some() {
        return Ok(());
    }
    let new = Policy::of(object, settings);
    let refuse = |faults| Err(ApiError::invalid(request.ctx.row, request.name, faults));
    if request.operation == Operation::Create {
        if !new.faults.is_empty() {
            return refuse(new.faults);
        }
        warnings.extend(ignored(request, settings, &new, object));
        return Ok(());
    }
    let old = Policy::of(&request.old_tree(), settings);
    if !new.faults.is_empty() && new.faults != old.faults {
        return refuse(new.faults);
    }
    let (is, was) = (new.enforce, old.enforce);
    let relaxed = is.minor == was.minor && is.level <= was.level;
    if is != was && is.level != Level::Privileged && !relaxed {
        if settings.exempts_namespace(request.name) {
            warnings.extend(ignored(request, settings, &new, object));
        } else {
            warnings.extend(violations(request, settings, is));
        }
    }
    Ok(())
}

/// The warning of labels on a namespace that is exempt.
fn ignored(request: &Request<'_>, settings: &Settings, policy: &Policy, object: &Value) -> Option<String> {
    let name = text(object, "metadata.name");
    let name = if name.is_empty() { request.name } else { name };
    let says_nothing = policy.enforce == settings.enforce && policy.warn == settings.warn;
    let demands = [("enforce", policy.enforce), ("warn", policy.warn)];
    let demands = demands.into_iter().filter(|(_, demand)| demand.level != Level::Privileged);
    if !settings.exempts_namespace(name) || says_nothing || demands.clone().next().is_none() {
        return None;
    }
    let labels = &object["metadata"]["labels"];
    let is_set = |mode: &str| {
        let key = format!("pod-security.kubernetes.io/{mode}");
        !labels[&key].is_null() || !labels[format!("{key}-version")].is_null()
    };
    let told: Vec<String> =
        demands.filter(|(mode, _)| is_set(mode)).map(|(mode, demand)| format!("{mode}={demand}")).collect();
    let told = told.join(", ");
    Some(format!("namespace {name:?} is exempt from Pod Security, and the policy ({told}) will be ignored"))
}

/// Warnings of the pods of a namespace that violate what is demanded of them now.
fn violations(request: &Request<'_>, settings: &Settings, demand: Demand) -> Vec<String> {
    let pods = request.ctx.caches.list(&POD, Some(request.name));
    // By reason: the first pod's name and how many there are.
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in pods.iter().take(MAX_PODS).filter_map(|pod| pod.tree().ok()) {
        if settings.exempts_pod(&pod) {
            continue;
        }
        let refusals = evaluate(demand, &pod);
        if refusals.is_empty() {
            continue;
        }
        let reasons: Vec<&str> = refusals.iter().map(|(reason, _)| *reason).collect();
        let name = text(&pod, "metadata.name").to_string();
        let (first, count) = found.entry(reasons.join(", ")).or_insert_with(|| (name.clone(), 0));
        if name < *first {
            *first = name;
        }
        *count += 1;
    }
    let mut warnings = Vec::new();
    if pods.len() > MAX_PODS {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {MAX_PODS} of {} existing pods",
            pods.len()
        ));
    }
    if !found.is_empty() {
        let (name, level) = (request.name, demand.to_string());
        warnings.push(format!(
            "existing pods in namespace {name:?} violate the new PodSecurity enforce level {level:?}"
        ));
    }
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            _ => format!("{name} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    lines.sort();
    warnings.extend(lines);
    warnings
}
