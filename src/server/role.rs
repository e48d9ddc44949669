//! The role of the server's own node.
//!
//! A node may not give itself a role: workloads that are kept to a role would trust whoever claims it. So the
//! server labels its node as an administrator would, as soon as the node has registered.

use std::sync::Arc;

use api::{ApiError, FieldSelector, LabelSelector, Patch};
use client::{Api, Informers, ObjectApi, WorkQueue};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use supervisor::Stage;

const LABEL: &str = "node-role.kubernetes.io/control-plane";

/// Keeps the label on the node called `name`.
pub(crate) fn start(api: Arc<dyn ObjectApi>, name: &str, stage: &Stage) {
    let only = FieldSelector::equals("metadata.name", name);
    let informers = Informers::new(api.clone(), stage.clone());
    let nodes = informers.selected::<Node>(None, LabelSelector::everything(), only);
    let queue: WorkQueue<String> = WorkQueue::new("role of the server's node");
    let noted = queue.clone();
    nodes.on_object_change(move |change| {
        if change.new.as_ref().is_some_and(|node| !node.labels().contains_key(LABEL)) {
            noted.add(change.latest().name().to_string());
        }
    });
    queue.run(stage, 1, move |name| {
        let nodes: Api<Node> = Api::all(api.clone());
        async move {
            let patch = Patch::merge(json!({"metadata": {"labels": {LABEL: ""}}}));
            match nodes.patch(&name, patch).await {
                Ok(_) => Ok::<_, ApiError>(None),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        }
    });
}
