//! PodTolerationRestriction: pods get the tolerations of their namespace, and may have only those that it
//! allows. Off by default.

use api::json::{items, text};
use api::kinds::NAMESPACE;
use api::qos::{QosClass, class_of};
use api::{ApiError, Object};
use k8s_openapi::api::core::v1::Toleration;
use serde::Deserialize;
use serde_json::{Value, json};

use super::configuration::ConfigurationFault;
use super::request::{Operation, Request};

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";
const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
/// Each is compared with all others.
const MOST: usize = 1000;

/// What holds where a namespace says nothing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Configuration {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    default: Vec<Toleration>,
    #[serde(default)]
    whitelist: Vec<Toleration>,
}

fn is_about(request: &Request<'_>) -> bool {
    request.is("", "pods", None) && request.operation != Operation::Delete
}

/// A namespace's list; none if it has none.
fn of_namespace(request: &Request<'_>, key: &str) -> Result<Option<Vec<Toleration>>, ApiError> {
    let name = request.ctx.namespace.unwrap_or("");
    let namespace = request.ctx.caches.get(&NAMESPACE, None, name);
    let namespace = namespace.ok_or_else(|| ApiError::not_found(&NAMESPACE, name))?;
    let annotation = annotation(&namespace, key)?;
    match annotation.as_deref() {
        None => Ok(None),
        Some("") => Ok(Some(Vec::new())),
        Some(list) => serde_json::from_str(list).map(Some).map_err(ApiError::internal),
    }
}

fn annotation(namespace: &Object, key: &str) -> Result<Option<String>, ApiError> {
    let tree = namespace.tree().map_err(ApiError::internal)?;
    Ok(tree["metadata"]["annotations"][key].as_str().map(str::to_string))
}

fn tolerations(request: &Request<'_>, pod: &Value) -> Result<Vec<Toleration>, ApiError> {
    let list = items(pod, "spec.tolerations");
    bounded(request, list.len())?;
    let typed = list.iter().map(Toleration::deserialize).collect::<Result<_, _>>();
    typed.map_err(|error| ApiError::bad_request(error.to_string()))
}

fn bounded(request: &Request<'_>, count: usize) -> Result<(), ApiError> {
    if count <= MOST {
        return Ok(());
    }
    let why = format!("PodTolerationRestriction compares at most {MOST} tolerations, the pod has {count}");
    Err(request.forbidden(&why))
}

pub(super) fn mutate(
    request: &Request<'_>,
    configuration: &Configuration,
    pod: &mut Value,
) -> Result<(), ApiError> {
    if !is_about(request) || !pod["spec"].is_object() {
        return Ok(());
    }
    let mut more = Vec::new();
    if request.operation == Operation::Create {
        more = of_namespace(request, DEFAULTS)?.unwrap_or_else(|| configuration.default.clone());
    }
    let spec = api::decode::pod_spec(&pod["spec"]);
    if spec.is_ok_and(|spec| class_of(&spec) != QosClass::BestEffort) {
        more.push(Toleration {
            key: Some(MEMORY_PRESSURE.to_string()),
            operator: Some("Exists".to_string()),
            effect: Some("NoSchedule".to_string()),
            ..Toleration::default()
        });
    }
    if !more.is_empty() {
        let own = tolerations(request, pod)?;
        bounded(request, own.len() + more.len())?;
        pod["spec"]["tolerations"] = json!(merge(own, more));
    }
    validate(request, configuration, pod)
}

pub(super) fn validate(
    request: &Request<'_>,
    configuration: &Configuration,
    pod: &Value,
) -> Result<(), ApiError> {
    if !is_about(request) || items(pod, "spec.tolerations").is_empty() {
        return Ok(());
    }
    let own = of_namespace(request, ALLOWED)?;
    let scope = if own.is_some() { "namespace" } else { "cluster" };
    let allowed = own.unwrap_or_else(|| configuration.whitelist.clone());
    if allowed.is_empty() {
        return Ok(());
    }
    let pods = tolerations(request, pod)?;
    if pods.iter().all(|one| allowed.iter().any(|other| covers(other, one))) {
        return Ok(());
    }
    Err(request.forbidden(&format!(
        "pod tolerations (possibly merged with namespace default tolerations) conflict with its {scope} whitelist"
    )))
}

/// Both lists without what another of them covers; of equals the first stays.
fn merge(own: Vec<Toleration>, more: Vec<Toleration>) -> Vec<Toleration> {
    let all: Vec<Toleration> = own.into_iter().chain(more).collect();
    let mut merged: Vec<Toleration> = Vec::new();
    for (at, one) in all.iter().enumerate() {
        let is_covered = merged.iter().any(|other| covers(other, one))
            || all[at + 1..].iter().any(|other| other != one && covers(other, one));
        if !is_covered {
            merged.push(one.clone());
        }
    }
    merged
}

fn part(part: &Option<String>) -> &str {
    part.as_deref().unwrap_or("")
}

/// Whether `one` tolerates all that `other` does.
fn covers(one: &Toleration, other: &Toleration) -> bool {
    if one == other {
        return true;
    }
    let every_key = part(&one.key).is_empty() && part(&one.operator) == "Exists";
    if part(&one.key) != part(&other.key) && !every_key {
        return false;
    }
    if part(&one.effect) != part(&other.effect) && !part(&one.effect).is_empty() {
        return false;
    }
    let is_longer = |seconds: i64| other.toleration_seconds.is_none_or(|own| own > seconds);
    if part(&one.effect) == "NoExecute" && one.toleration_seconds.is_some_and(is_longer) {
        return false;
    }
    match part(&one.operator) {
        "Equal" | "" => {
            matches!(part(&other.operator), "Equal" | "") && part(&one.value) == part(&other.value)
        }
        operator => operator == "Exists",
    }
}

/// The configuration, if it can be read.
pub(super) fn configured(tree: &Value) -> Result<Configuration, ConfigurationFault> {
    let (version, kind) = (text(tree, "apiVersion"), text(tree, "kind"));
    if version != "podtolerationrestriction.admission.k8s.io/v1alpha1" || kind != "Configuration" {
        return Err(ConfigurationFault(format!("no kind {kind:?} is registered for version {version:?}")));
    }
    Configuration::deserialize(tree).map_err(|error| ConfigurationFault(error.to_string()))
}
