//! The pods behind an object: what `logs` and others take when given `deployment/web`.

use std::cmp::Reverse;

use serde_json::Value;

use crate::age;
use crate::env::{Env, tell};
use crate::error::{Error, Result};
use crate::selection::{Selection, SelectorArgs, Target};

/// The label selector of an object that has one, as a query value.
pub(crate) fn selector_of(object: &Value) -> Result<String> {
    let spec = &object["spec"];
    let plain = |map: &Value| {
        let pairs = map.as_object().into_iter().flatten();
        pairs
            .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(",")
    };
    match object["kind"].as_str().unwrap_or_default() {
        "Service" | "ReplicationController" => {
            let text = plain(&spec["selector"]);
            if text.is_empty() {
                return Err(Error::message("invalid service: Service is defined without a selector"));
            }
            Ok(text)
        }
        kind => {
            let selector = &spec["selector"];
            if !selector.is_object() {
                return Err(Error::message(format!(
                    "cannot get the logs from {kind}: selector for {kind} not implemented"
                )));
            }
            let typed = serde_json::from_value(selector.clone())?;
            Ok(api::LabelSelector::from_meta(Some(&typed)).to_string())
        }
    }
}

/// Pods of an object, the best one for reading logs first.
pub(crate) async fn pods_of(env: &Env, target: &Target) -> Result<Vec<Value>> {
    let object = env.rest().await?.get(&target.path()).await?;
    if target.row.kind == "Pod" {
        return Ok(vec![object]);
    }
    let selector = selector_of(&object)?;
    let row = env.resource("pods").await?;
    let args = SelectorArgs { selector: Some(selector), ..SelectorArgs::default() };
    let mut pods = env.list(&row, target.namespace.as_deref(), &args.query(), 500).await?;
    pods.sort_by_key(rank);
    Ok(pods)
}

/// Smaller is better: assigned, running, ready, ready for longer, restarted more often, older; upstream's
/// `ByLogging`.
fn rank(pod: &Value) -> (bool, u8, bool, String, Reverse<i64>, String) {
    let phase = match pod["status"]["phase"].as_str() {
        Some("Unknown") => 1,
        Some("Pending") => 2,
        _ => 0,
    };
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let restarts = statuses.filter_map(|one| one["restartCount"].as_i64()).max().unwrap_or(0);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let ready = ready_condition(pod);
    // Times of the API have one form, so their order is that of their letters.
    let since = ready.map(|one| text(&one["lastTransitionTime"])).unwrap_or_default();
    let created = text(&pod["metadata"]["creationTimestamp"]);
    (pod["spec"]["nodeName"].is_null(), phase, ready.is_none(), since, Reverse(restarts), created)
}

/// The condition that says that a pod is ready.
fn ready_condition(pod: &Value) -> Option<&Value> {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// One pod of an object; says which if there are several.
pub(crate) async fn one_pod_of(env: &Env, target: &Target) -> Result<Value> {
    let mut pods = pods_of(env, target).await?;
    if pods.len() > 1 {
        let name = pods[0]["metadata"]["name"].as_str().unwrap_or_default();
        tell(&format!("Found {} pods, using pod/{name}", pods.len()));
    }
    if pods.is_empty() {
        return Err(Error::message(format!(
            "timed out waiting for the condition: no pods found for {}",
            target.title()
        )));
    }
    Ok(pods.remove(0))
}

/// Names of a pod's containers of one kind (`containers`, `initContainers`, `ephemeralContainers`).
pub(crate) fn container_names(pod: &Value, kind: &str) -> Vec<String> {
    let list = pod["spec"][kind].as_array().into_iter().flatten();
    list.map(|one| one["name"].as_str().unwrap_or_default().to_string()).collect()
}

/// A container of a pod, whatever its kind.
pub(crate) fn container<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let kinds = ["initContainers", "containers", "ephemeralContainers"];
    let mut all = kinds.into_iter().flat_map(|kind| pod["spec"][kind].as_array().into_iter().flatten());
    all.find(|one| one["name"] == name)
}

/// Every container's name, with what it is unless it is an ordinary one.
fn all_names(pod: &Value) -> String {
    let mut all = container_names(pod, "containers");
    all.extend(container_names(pod, "ephemeralContainers").iter().map(|name| format!("{name} (ephem)")));
    all.extend(container_names(pod, "initContainers").iter().map(|name| format!("{name} (init)")));
    all.join(", ")
}

/// The container that a session is with: the one that is named, else the default.
pub(crate) fn container_of(pod: &Value, wanted: Option<&str>, quiet: bool) -> Result<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    match wanted {
        Some(wanted) if container(pod, wanted).is_some() => Ok(wanted.to_string()),
        Some(wanted) => Err(Error::message(format!(
            "container {wanted} is not valid for pod {name} out of: {}",
            all_names(pod)
        ))),
        None => chosen(pod, quiet).ok_or_else(|| Error::message("no container found")),
    }
}

/// The pod to attach to: one by its name, or the best one of an object, for which it may be waited a while.
pub(crate) async fn attachable(env: &Env, reference: &str, timeout: &str) -> Result<Value> {
    let limit = age::parse(timeout)?;
    if limit.is_zero() {
        return Err(Error::message("--pod-running-timeout must be higher than zero"));
    }
    let reference = if reference.contains('/') { reference.to_string() } else { format!("pods/{reference}") };
    let Selection::Targets(targets) = env.select(&[reference]).await? else {
        return Err(Error::message("one pod or object is needed"));
    };
    let target = targets.first().ok_or_else(|| Error::message("one pod or object is needed"))?;
    let timed_out = || Error::message("timed out waiting for the condition");
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let mut pods = pods_of(env, target).await?;
        if !pods.is_empty() {
            return Ok(pods.remove(0));
        }
        // The first pod is still to be made: wait for one in the namespace and look again.
        let path = crate::selection::collection(&api::kinds::POD, target.namespace.as_deref());
        let rest = env.rest().await?;
        let body = rest.stream(&format!("{path}?watch=true"), crate::rest::JSON).await?;
        let mut lines = crate::verbs::get::watch::Lines::new(rest, body);
        let event = tokio::time::timeout_at(deadline, crate::verbs::get::watch::next_event(&mut lines)).await;
        event.map_err(|_| timed_out())??;
    }
}

/// The container to use if none is named: the annotated one, else the first. Says so if there was a choice.
pub(crate) fn default_container(pod: &Value) -> Option<String> {
    chosen(pod, false)
}

fn chosen(pod: &Value, quiet: bool) -> Option<String> {
    let names = container_names(pod, "containers");
    let annotated = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
    if let Some(name) = annotated.filter(|name| names.iter().any(|own| own == name)) {
        return Some(name.to_string());
    }
    let first = names.first()?.clone();
    let all = all_names(pod);
    if all != first && !quiet {
        tell(&format!("Defaulted container {first:?} out of: {all}"));
    }
    Some(first)
}

#[cfg(test)]
mod tests;
