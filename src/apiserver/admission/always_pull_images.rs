//! AlwaysPullImages: every image is asked for anew, with the pod's own credentials, so that nobody runs an
//! image from a node's disk that he may not pull. Off by default.

use std::collections::BTreeSet;

use api::json::{items, text};
use api::{ApiError, FieldError};
use serde_json::{Value, json};

use super::request::{Operation, Request};

/// In the order in which upstream walks them.
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const ALWAYS: &str = "Always";

/// Updates count only if they bring an image that was not there.
fn is_about(request: &Request<'_>, pod: &Value) -> bool {
    if !request.is("", "pods", None) {
        return false;
    }
    match request.operation {
        Operation::Create => true,
        Operation::Update => {
            let old = request.old_tree();
            let before = images(&old);
            images(pod).iter().any(|image| !before.contains(image))
        }
        Operation::Delete => false,
    }
}

fn images(pod: &Value) -> BTreeSet<&str> {
    let containers = LISTS.iter().flat_map(|list| items(&pod["spec"], list));
    containers.map(|container| text(container, "image")).collect()
}

pub(super) fn mutate(request: &Request<'_>, pod: &mut Value) {
    if !is_about(request, pod) {
        return;
    }
    for list in LISTS {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter(|one| one.is_object()) {
            container["imagePullPolicy"] = json!(ALWAYS);
        }
    }
    let volumes = pod["spec"].get_mut("volumes").and_then(Value::as_array_mut);
    for image in volumes.into_iter().flatten().filter_map(|volume| volume.get_mut("image")) {
        if image.is_object() {
            image["pullPolicy"] = json!(ALWAYS);
        }
    }
}

/// Nobody after us may have taken it back.
pub(super) fn validate(request: &Request<'_>, pod: &Value) -> Result<(), ApiError> {
    if !is_about(request, pod) {
        return Ok(());
    }
    let refuse = |path: String, policy: &Value| {
        let fault = FieldError::not_supported(path, policy, &[ALWAYS]);
        Err(request.forbidden(&fault.to_string()))
    };
    for list in LISTS {
        for (at, container) in items(&pod["spec"], list).iter().enumerate() {
            if container["imagePullPolicy"] != ALWAYS {
                return refuse(format!("spec.{list}[{at}].imagePullPolicy"), &container["imagePullPolicy"]);
            }
        }
    }
    for (at, volume) in items(pod, "spec.volumes").iter().enumerate() {
        if volume["image"].is_object() && volume["image"]["pullPolicy"] != ALWAYS {
            return refuse(format!("spec.volumes[{at}].image.pullPolicy"), &volume["image"]["pullPolicy"]);
        }
    }
    Ok(())
}
