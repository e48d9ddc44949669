//! NodeRestriction: what the Node authorizer cannot see because it is in the body. A kubelet changes its own Node, Lease
//! and pods only, gives itself no labels that others rely on, and makes no pods but mirrors.

use api::ApiError;
use api::kinds::POD;
use serde_json::Value;

use super::{Operation, Request};
use crate::printers::{items, text};
use crate::strategy::RequestContext;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels below Kubernetes' own domains that a kubelet sets.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// Domains whose labels are the kubelet's.
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

pub(super) fn validate(request: &Request<'_>, object: Option<&Value>) -> Result<(), ApiError> {
    let Some(node) = request.ctx.user.node_name() else { return Ok(()) };
    let row = request.ctx.row;
    match (&*row.group, &*row.plural) {
        ("", "pods") => pod(request, node, object),
        ("", "nodes") => own_node(request, node, object),
        ("coordination.k8s.io", "leases") => lease(request, node, object),
        _ => Ok(()),
    }
}

fn pod(request: &Request<'_>, node: &str, object: Option<&Value>) -> Result<(), ApiError> {
    let own = |tree: &Value| text(tree, "spec.nodeName") == node;
    match (request.operation, request.ctx.subresource) {
        (Operation::Create, None) => {
            let Some(pod) = object else { return Ok(()) };
            if pod["metadata"]["annotations"][MIRROR].is_null() {
                let why = format!(
                    "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
                );
                return Err(request.forbidden(&why));
            }
            if !own(pod) {
                let why = format!("node {node:?} can only create pods with spec.nodeName set to itself");
                return Err(request.forbidden(&why));
            }
            mirror_references(request, node, pod)
        }
        (Operation::Delete, _) if !own(&request.old_tree()) => {
            let why = format!("node {node:?} can only delete pods with spec.nodeName set to itself");
            Err(request.forbidden(&why))
        }
        (Operation::Update, Some("status")) => {
            let old = request.old_tree();
            if !own(&old) {
                let why = format!(
                    "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
                );
                return Err(request.forbidden(&why));
            }
            if object.is_some_and(|new| new["metadata"]["labels"] != old["metadata"]["labels"]) {
                return Err(
                    request.forbidden(&format!("node {node:?} cannot update labels through pod status"))
                );
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn mirror_references(request: &Request<'_>, node: &str, pod: &Value) -> Result<(), ApiError> {
    if !text(pod, "spec.serviceAccountName").is_empty() {
        let why = format!("node {node:?} can not create pods that reference a service account");
        return Err(request.forbidden(&why));
    }
    for volume in items(pod, "spec.volumes") {
        for (source, what) in [
            ("secret", "secrets"),
            ("configMap", "configmaps"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
        ] {
            if !volume[source].is_null() {
                let why = format!("node {node:?} can not create pods that reference {what}");
                return Err(request.forbidden(&why));
            }
        }
    }
    Ok(())
}

fn own_node(request: &Request<'_>, node: &str, object: Option<&Value>) -> Result<(), ApiError> {
    let Some(new) = object else { return Ok(()) };
    let name = match request.operation {
        Operation::Create => text(new, "metadata.name"),
        _ => request.name,
    };
    if name != node {
        return Err(request.forbidden(&format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    let labels = |tree: &Value| tree["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    if request.operation == Operation::Create {
        let new_labels = labels(new);
        let bad = new_labels.keys().filter(|label| restricted(label));
        let bad: Vec<&str> = bad.map(String::as_str).collect();
        if !bad.is_empty() {
            let why = format!("node {node:?} is not allowed to set the following labels: {}", bad.join(", "));
            return Err(request.forbidden(&why));
        }
        return Ok(());
    }
    if request.operation != Operation::Update {
        return Ok(());
    }
    let old = request.old_tree();
    if new["spec"]["taints"] != old["spec"]["taints"] {
        return Err(request.forbidden(&format!("node {node:?} is not allowed to modify taints")));
    }
    if new["metadata"]["ownerReferences"] != old["metadata"]["ownerReferences"] {
        return Err(request.forbidden(&format!("node {node:?} is not allowed to modify ownerReferences")));
    }
    let (is, was) = (labels(new), labels(&old));
    let mut changed: Vec<&str> = is
        .keys()
        .chain(was.keys())
        .filter(|label| is.get(*label) != was.get(*label))
        .map(String::as_str)
        .collect();
    changed.retain(|label| restricted(label));
    changed.sort_unstable();
    changed.dedup();
    if !changed.is_empty() {
        let why = format!("is not allowed to modify labels: {}", changed.join(", "));
        return Err(request.forbidden(&format!("node {node:?} {why}")));
    }
    Ok(())
}

fn domain(label: &str) -> &str {
    label.split_once('/').map_or("", |(domain, _)| domain)
}

/// Whether others rely on a label that nodes cannot give themselves.
fn restricted(label: &str) -> bool {
    let domain = domain(label);
    let below =
        |parent: &str| domain.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let kubernetes = below("kubernetes.io") || below("k8s.io");
    let own = OWN_LABELS.contains(&label) || OWN_DOMAINS.iter().any(|own| below(own));
    kubernetes && !own
}

fn lease(request: &Request<'_>, node: &str, object: Option<&Value>) -> Result<(), ApiError> {
    let name = object.map_or(request.name, |lease| text(lease, "metadata.name"));
    if name == node {
        Ok(())
    } else {
        Err(request.forbidden("can only access node lease with the same name as the requesting node"))
    }
}

/// A node gets tokens for pods that run on it, and bound to them, so that they die with the pod.
pub(crate) fn check_token_request(
    ctx: &RequestContext<'_>,
    account: &str,
    body: &Value,
) -> Result<(), ApiError> {
    let Some(node) = ctx.user.node_name() else { return Ok(()) };
    let forbidden = |why: &str| Err(ApiError::forbidden(ctx.row, account, why));
    let bound = &body["spec"]["boundObjectRef"];
    let (name, uid) = (text(bound, "name"), text(bound, "uid"));
    if text(bound, "apiVersion") != "v1" || text(bound, "kind") != "Pod" || name.is_empty() {
        return forbidden("node requested token not bound to a pod");
    }
    if uid.is_empty() {
        return forbidden("node requested token with a pod binding without a uid");
    }
    let Some(pod) = ctx.caches.get(&POD, ctx.namespace, name) else {
        return Err(ApiError::not_found(&POD, name));
    };
    if pod.uid() != uid {
        return forbidden(&format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    let tree = pod.tree().map_err(ApiError::internal)?;
    if text(&tree, "spec.nodeName") != node {
        return forbidden("node requested token bound to a pod scheduled on a different node");
    }
    Ok(())
}
