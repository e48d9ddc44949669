//! RuntimeClass: a pod takes over what its class says of overhead and of the nodes that have the runtime.

use api::ApiError;
use api::json::{items, text};
use api::kinds::RUNTIME_CLASS;
use serde_json::{Value, json};

use super::request::Request;

pub(super) fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if !request.creates_pod() || !pod["spec"].is_object() {
        return Ok(());
    }
    let Some(class) = class_of(request, pod)? else { return Ok(()) };
    let overhead = &class["overhead"];
    if !overhead.is_null() {
        let own = &pod["spec"]["overhead"];
        let given = own.as_object().is_some_and(|own| !own.is_empty());
        if given && *own != overhead["podFixed"] {
            return Err(mismatch(request));
        }
        pod["spec"]["overhead"] = overhead["podFixed"].clone();
    }
    let scheduling = &class["scheduling"];
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let (wanted, own) = (value.as_str().unwrap_or(""), pod["spec"]["nodeSelector"][key].as_str());
        if let Some(own) = own.filter(|own| *own != wanted) {
            return Err(request.forbidden(&format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {own}"
            )));
        }
        pod["spec"]["nodeSelector"][key] = json!(wanted);
    }
    let more = items(scheduling, "tolerations");
    if !more.is_empty() {
        let mut tolerations = items(pod, "spec.tolerations").to_vec();
        tolerations.extend(more.iter().filter(|one| !items(pod, "spec.tolerations").contains(one)).cloned());
        pod["spec"]["tolerations"] = json!(tolerations);
    }
    Ok(())
}

pub(super) fn validate(request: &Request<'_>, pod: &Value) -> Result<(), ApiError> {
    if !request.creates_pod() {
        return Ok(());
    }
    let own = &pod["spec"]["overhead"];
    match class_of(request, pod)?.map(|class| class["overhead"].clone()) {
        Some(overhead) if !overhead.is_null() && overhead["podFixed"] != *own => Err(mismatch(request)),
        Some(overhead) if !overhead.is_null() => Ok(()),
        _ if !own.is_null() => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            Err(request.forbidden(why))
        }
        _ => Ok(()),
    }
}

fn mismatch(request: &Request<'_>) -> ApiError {
    request.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
}

fn class_of(request: &Request<'_>, pod: &Value) -> Result<Option<Value>, ApiError> {
    if pod["spec"]["runtimeClassName"].is_null() {
        return Ok(None);
    }
    let name = text(pod, "spec.runtimeClassName");
    let Some(class) = request.ctx.caches.get(&RUNTIME_CLASS, None, name) else {
        return Err(request.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found")));
    };
    class.tree().map(Some).map_err(ApiError::internal)
}
