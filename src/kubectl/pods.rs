//! The pods behind an object: what `logs` and others take when given `deployment/web`.

use std::cmp::Reverse;

use serde_json::Value;

use crate::env::{Env, tell};
use crate::error::{Error, Result};
use crate::selection::{SelectorArgs, Target};

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

/// Smaller is better: assigned, running, ready, ready for longer, restarted more often, older; upstream's `ByLogging`.
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

/// The container to use if none is named: the annotated one, else the first. Says so if there was a choice.
pub(crate) fn default_container(pod: &Value) -> Option<String> {
    let names = container_names(pod, "containers");
    let init = container_names(pod, "initContainers");
    let ephemeral = container_names(pod, "ephemeralContainers");
    let annotated = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
    if let Some(name) = annotated.filter(|name| names.iter().any(|own| own == name)) {
        return Some(name.to_string());
    }
    let first = names.first()?.clone();
    if names.len() + init.len() + ephemeral.len() > 1 {
        let mut all = names;
        all.extend(ephemeral.iter().map(|name| format!("{name} (ephem)")));
        all.extend(init.iter().map(|name| format!("{name} (init)")));
        tell(&format!("Defaulted container {first:?} out of: {}", all.join(", ")));
    }
    Some(first)
}

#[cfg(test)]
mod tests;
