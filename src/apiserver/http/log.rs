//! `pods/log`: checks what is asked for, then streams the kubelet's answer.

use std::sync::Arc;

use api::kinds::{NODE, POD};
use api::{ApiError, FieldError};
use axum::body::Body;
use client::streams::websocket;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::core::v1::Pod;

use super::head::Head;
use super::reply::Unhurried;
use super::{answer, connect};
use crate::registry::Call;
use crate::server::ApiServer;

/// Most that is told of a kubelet's refusal. What a node says is not to be trusted.
const REFUSAL: usize = 8 * 1024;

pub(super) async fn answer(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Response<Body>, ApiError> {
    let query = checked_query(head, name)?;
    let whole = Call::new(&call.resource, call.namespace, call.user);
    let object = server.registry.get(&whole, name).await?;
    let pod = object.typed::<Pod>().map_err(ApiError::internal)?;
    let container = container(&pod, name, head.query.get("container"))?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("");
    // A pod that no node has taken yet has no log; upstream answers with nothing.
    if node.is_empty() {
        return Ok(answer::text(200, String::new()));
    }
    let node =
        server.registry.caches.get(&NODE, None, node).ok_or_else(|| ApiError::not_found(&NODE, node))?;
    let namespace = call.namespace.unwrap_or("");
    let path = format!("/containerLogs/{namespace}/{name}/{container}{query}");
    let kubelet = connect::Destination::Kubelet(&node);
    let response = connect::ask(server, &kubelet, connect::get(&path)?).await?.whole();
    let code = connect::final_status(response.status())?;
    // A log is a 200. What else is no error (a redirect, nothing, a part) is none that a client could make
    // sense of.
    if code == StatusCode::OK && websocket::is_wanted(&head.parts.headers) {
        return connect::page::over_socket(server, head, response.into_body());
    }
    if code == StatusCode::OK {
        let mut answer = answer::text(200, String::new());
        *answer.body_mut() = response.into_body();
        answer.extensions_mut().insert(Unhurried);
        return Ok(answer);
    }
    let text = refusal(response.into_body()).await;
    Err(match code.as_u16() {
        400 => ApiError::bad_request(text),
        404 => ApiError::new(404, "NotFound", text),
        other @ ..400 => {
            let message =
                format!("the kubelet of node {:?}: invalid response: status code {other}", node.name());
            ApiError::new(502, "InternalError", message)
        }
        other => ApiError::new(other, "InternalError", text),
    })
}

/// The text of a refusal, if it has an acceptable length.
pub(super) async fn refusal(body: Body) -> String {
    match Limited::new(body, REFUSAL).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim().to_string(),
        Err(error) => format!("the kubelet's answer cannot be read: {error}"),
    }
}

/// Upstream's `container … must be specified` and friends.
pub(super) fn container(pod: &Pod, name: &str, wanted: Option<&str>) -> Result<String, ApiError> {
    let spec = pod.spec.clone().unwrap_or_default();
    let main: Vec<&str> = spec.containers.iter().map(|one| &*one.name).collect();
    let init: Vec<&str> = spec.init_containers.iter().flatten().map(|one| &*one.name).collect();
    let ephemeral: Vec<&str> = spec.ephemeral_containers.iter().flatten().map(|one| &*one.name).collect();
    let Some(wanted) = wanted else {
        if let [only] = main[..] {
            return Ok(only.to_string());
        }
        let all = [init, main, ephemeral].concat().join(" ");
        return Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{all}]"
        )));
    };
    if main.contains(&wanted) || init.contains(&wanted) || ephemeral.contains(&wanted) {
        return Ok(wanted.to_string());
    }
    Err(ApiError::bad_request(format!("container {wanted} is not valid for pod {name}")))
}

/// A value as it stands in a query, so that it cannot add options of its own.
fn encoded(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                out.push(char::from(byte))
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// The options for the kubelet, checked.
fn checked_query(head: &Head<'_>, name: &str) -> Result<String, ApiError> {
    let query = &head.query;
    let mut faults = Vec::new();
    let mut parts: Vec<String> = Vec::new();
    for flag in ["follow", "previous", "timestamps"] {
        if query.flag(flag) {
            parts.push(format!("{flag}=true"));
        }
    }
    for (number, least) in [("tailLines", 0), ("sinceSeconds", 1), ("limitBytes", 1)] {
        let Some(text) = query.get(number) else { continue };
        let Ok(value) = text.parse::<i64>() else {
            return Err(ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")));
        };
        if value < least {
            let detail =
                if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            faults.push(FieldError::invalid(number, value, detail));
        }
        parts.push(format!("{number}={value}"));
    }
    if let Some(since) = query.get("sinceTime") {
        if since.parse::<jiff::Timestamp>().is_err() {
            return Err(ApiError::bad_request(format!("parsing time {since:?}: not a time in RFC 3339")));
        }
        if query.get("sinceSeconds").is_some() {
            let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            faults.push(FieldError::forbidden("sinceSeconds", detail));
        }
        parts.push(format!("sinceTime={}", encoded(since)));
    }
    if !faults.is_empty() {
        let row = api::KindRow { kind: "PodLogOptions".into(), ..POD.clone() };
        return Err(ApiError::invalid(&row, name, faults));
    }
    if let Some(stream) = query.get("stream") {
        parts.push(format!("stream={}", encoded(stream)));
    }
    Ok(if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) })
}

#[cfg(test)]
mod tests;
