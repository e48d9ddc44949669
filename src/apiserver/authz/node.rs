//! The Node authorizer: a kubelet may use its own Node and Lease, the pods bound to it and what those pods
//! reference.
//!
//! Relations are looked up when they are asked for, through the cache's index of `spec.nodeName`: a node has
//! a hundred pods and asks rarely, so upstream's standing graph of all references would cost more than it
//! saves. What a kubelet may do regardless of relations is the bootstrap role `system:node`.

mod ingresses;
mod volumes;

use api::kinds::POD;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::PolicyRule;

use super::{Attributes, Denied, rbac, references};
use crate::cache::Caches;

const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
const READ: [&str; 3] = ["get", "list", "watch"];

/// What a pod refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Referent {
    Secret,
    ConfigMap,
    ServiceAccount,
    Claim,
}

pub(super) fn authorize(
    caches: &Caches,
    static_rules: &[PolicyRule],
    node: &str,
    attributes: &Attributes<'_>,
) -> Result<(), Denied> {
    if node.is_empty() {
        return Err(Denied(format!("unknown node for user {:?}", attributes.user.name)));
    }
    let relation = |referent| related(caches, node, referent, attributes);
    let (namespace, name) = (attributes.namespace, attributes.name.unwrap_or(""));
    let to_claim = || {
        relation(Referent::Claim)
            .or_else(|why| found(volumes::uses_claim(caches, node, namespace, name), why))
    };
    match (attributes.group, attributes.resource) {
        ("", "secrets") => read(attributes).and_then(|()| {
            relation(Referent::Secret)
                .or_else(|why| found(volumes::uses_secret(caches, node, namespace, name), why))
                .or_else(|why| found(ingresses::show_secret(caches, namespace, name), why))
        }),
        ("", "configmaps") => read(attributes).and_then(|()| relation(Referent::ConfigMap)),
        ("", "persistentvolumeclaims") => match (attributes.subresource, attributes.verb) {
            (Some("status"), "update" | "patch") => to_claim(),
            (Some("status"), _) => deny("can only get/update/patch this type"),
            _ => get(attributes).and_then(|()| to_claim()),
        },
        ("", "persistentvolumes") => {
            get(attributes).and_then(|()| found(volumes::uses_volume(caches, node, name), no_relation(node)))
        }
        ("storage.k8s.io", "volumeattachments") => {
            get(attributes).and_then(|()| found(volumes::is_attached(caches, node, name), no_relation(node)))
        }
        ("resource.k8s.io", "resourceclaims") => get(attributes)
            .and_then(|()| found(volumes::uses_devices(caches, node, namespace, name), no_relation(node))),
        ("", "serviceaccounts") => service_account(caches, node, attributes),
        ("coordination.k8s.io", "leases") => lease(node, attributes),
        ("storage.k8s.io", "csinodes") => csi_node(node, attributes),
        ("resource.k8s.io", "resourceslices") => resource_slice(caches, node, attributes),
        // Nodes ask for certificates of pods only once that kind is served.
        ("certificates.k8s.io", "podcertificaterequests") => deny(""),
        ("", "nodes") => own_node(node, attributes),
        ("", "pods") => pods(caches, node, attributes),
        _ if static_rules.iter().any(|rule| rbac::allows(rule, attributes)) => Ok(()),
        _ => deny(""),
    }
}

fn found(is_related: bool, why: Denied) -> Result<(), Denied> {
    if is_related { Ok(()) } else { Err(why) }
}

fn deny(reason: &str) -> Result<(), Denied> {
    Err(Denied(reason.to_string()))
}

fn no_relation(node: &str) -> Denied {
    Denied(format!("no relationship found between node '{node}' and this object"))
}

fn get(attributes: &Attributes<'_>) -> Result<(), Denied> {
    match attributes {
        one if one.verb != "get" => deny("can only get individual resources of this type"),
        one if one.subresource.is_some() => deny("cannot get subresource"),
        _ => Ok(()),
    }
}

fn read(attributes: &Attributes<'_>) -> Result<(), Denied> {
    match attributes {
        one if !READ.contains(&one.verb) => deny("can only read resources of this type"),
        one if one.subresource.is_some() => deny("cannot read subresource"),
        one if one.namespace.is_none() => deny("can only read namespaced object of this type"),
        _ => Ok(()),
    }
}

fn service_account(caches: &Caches, node: &str, attributes: &Attributes<'_>) -> Result<(), Denied> {
    let named = attributes.name.is_some_and(|name| !name.is_empty());
    match (attributes.subresource, attributes.verb) {
        (None, "get") => {
            read(attributes).and_then(|()| related(caches, node, Referent::ServiceAccount, attributes))
        }
        (_, verb) if verb != "create" || !named => {
            deny("can only create tokens for individual service accounts")
        }
        (Some("token"), _) => related(caches, node, Referent::ServiceAccount, attributes),
        _ => deny("can only create token subresource of serviceaccount"),
    }
}

fn lease(node: &str, attributes: &Attributes<'_>) -> Result<(), Denied> {
    if !matches!(attributes.verb, "get" | "create" | "update" | "patch" | "delete") {
        return deny("can only get, create, update, patch, or delete a node lease");
    }
    if attributes.namespace != Some("kube-node-lease") {
        return deny("can only access leases in the \"kube-node-lease\" system namespace");
    }
    // The name of a new lease is in its body: admission checks it.
    if attributes.verb != "create" && attributes.name != Some(node) {
        return deny("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

fn csi_node(node: &str, attributes: &Attributes<'_>) -> Result<(), Denied> {
    if !matches!(attributes.verb, "get" | "create" | "update" | "patch" | "delete") {
        return deny("can only get, create, update, patch, or delete a CSINode");
    }
    if attributes.subresource.is_some() {
        return deny("cannot authorize CSINode subresources");
    }
    // As with leases, the name of a new one is for admission to check.
    if attributes.verb != "create" && attributes.name != Some(node) {
        return deny("can only access CSINode with the same name as the requesting node");
    }
    Ok(())
}

fn resource_slice(caches: &Caches, node: &str, attributes: &Attributes<'_>) -> Result<(), Denied> {
    if attributes.subresource.is_some() {
        return deny("cannot authorize ResourceSlice subresources");
    }
    match attributes.verb {
        // Whose slice it is stands in the body: admission checks it.
        "create" => Ok(()),
        "get" | "update" | "patch" | "delete" => {
            let row = api::kinds::by_resource("resource.k8s.io", "v1", "resourceslices");
            let slice = row.and_then(|row| caches.get(row, None, attributes.name.unwrap_or("")));
            let tree = slice.and_then(|slice| slice.tree().ok());
            let own = tree.is_some_and(|tree| tree["spec"]["nodeName"] == node);
            if own { Ok(()) } else { Err(no_relation(node)) }
        }
        "watch" | "list" | "deletecollection" => {
            let own = selects(attributes, "spec.nodeName", node);
            let why = "can only list/watch/deletecollection resourceslices with nodeName field selector";
            if own { Ok(()) } else { deny(why) }
        }
        _ => deny(
            "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
        ),
    }
}

fn own_node(node: &str, attributes: &Attributes<'_>) -> Result<(), Denied> {
    match (attributes.subresource, attributes.verb) {
        // Which node is written is for admission to check: its answer says more.
        (None, "create" | "update" | "patch") | (Some("status"), "update" | "patch") => Ok(()),
        (None, "get" | "list" | "watch") => match attributes.name {
            Some(name) if name == node => Ok(()),
            Some(name) => {
                Err(Denied(format!("node '{node}' cannot read '{name}', only its own Node object")))
            }
            None => Err(Denied(format!("node '{node}' cannot read all nodes, only its own Node object"))),
        },
        _ => deny(""),
    }
}

fn pods(caches: &Caches, node: &str, attributes: &Attributes<'_>) -> Result<(), Denied> {
    match (attributes.subresource, attributes.verb) {
        (None, "get") => runs(caches, node, attributes),
        (None, "list" | "watch") if selects(attributes, "spec.nodeName", node) => Ok(()),
        (None, "list" | "watch") if attributes.name.is_some() => runs(caches, node, attributes),
        (None, "list" | "watch") => deny("can only list/watch pods with spec.nodeName field selector"),
        // NodeRestriction sees to it that these are its own.
        (None, "create" | "delete") | (Some("status"), "update" | "patch") | (Some("eviction"), "create") => {
            Ok(())
        }
        _ => deny(""),
    }
}

/// Whether the pod that is asked for is bound to the node.
fn runs(caches: &Caches, node: &str, attributes: &Attributes<'_>) -> Result<(), Denied> {
    let (namespace, name) = (attributes.namespace, attributes.name.unwrap_or(""));
    let pod = caches.get(&POD, namespace, name).and_then(|object| object.typed::<Pod>().ok());
    let bound = pod.and_then(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()));
    if bound.as_deref() == Some(node) { Ok(()) } else { Err(no_relation(node)) }
}

/// Whether a field selector confines a request to this value.
fn selects(attributes: &Attributes<'_>, path: &str, value: &str) -> bool {
    let mut terms = attributes.fields.iter().flat_map(|fields| &fields.terms);
    terms.any(|term| term.path == path && term.equals && term.value == value)
}

fn related(
    caches: &Caches,
    node: &str,
    referent: Referent,
    attributes: &Attributes<'_>,
) -> Result<(), Denied> {
    let Some(name) = attributes.name.filter(|name| !name.is_empty()) else {
        return deny("No Object name found");
    };
    let pods = caches.indexed(&POD, "spec.nodeName", node);
    let mut own = pods.iter().filter(|pod| pod.namespace() == attributes.namespace);
    let refers = own.any(|pod| pod.typed::<Pod>().is_ok_and(|pod| refers_to(&pod, referent, name)));
    if refers { Ok(()) } else { Err(no_relation(node)) }
}

/// Whether a pod names such an object of its namespace. A mirror of a node's own manifest grants nothing: the
/// node could write what it likes into it.
pub(super) fn refers_to(pod: &Pod, referent: Referent, name: &str) -> bool {
    let mirror = pod.metadata.annotations.as_ref().is_some_and(|own| own.contains_key(MIRROR_ANNOTATION));
    let Some(spec) = pod.spec.as_ref().filter(|_| !mirror) else { return false };
    match referent {
        Referent::ServiceAccount => spec.service_account_name.as_deref() == Some(name),
        Referent::Secret => references::secrets(spec).contains(name),
        Referent::ConfigMap => references::config_maps(spec).contains(name),
        Referent::Claim => references::claims(spec).contains(name),
    }
}
