//! The Node authorizer: a kubelet may use its own Node and Lease, the pods bound to it and what those pods reference.
//!
//! Relations are looked up when they are asked for, through the cache's index of `spec.nodeName`: a node has a hundred
//! pods and asks rarely, so upstream's standing graph of all references would cost more than it saves. What a kubelet may
//! do regardless of relations is the bootstrap role `system:node`.

use std::collections::BTreeSet;

use api::kinds::POD;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Volume};
use k8s_openapi::api::rbac::v1::PolicyRule;

use super::{Attributes, rbac};
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

/// `Err` holds the reason that is added to the refusal.
pub(super) fn authorize(
    caches: &Caches,
    static_rules: &[PolicyRule],
    node: &str,
    attributes: &Attributes<'_>,
) -> Result<(), String> {
    let relation = |referent| related(caches, node, referent, attributes);
    match (attributes.group, attributes.resource) {
        ("", "secrets") => read(attributes).and_then(|()| relation(Referent::Secret)),
        ("", "configmaps") => read(attributes).and_then(|()| relation(Referent::ConfigMap)),
        ("", "persistentvolumeclaims") => match attributes.subresource {
            Some("status") if matches!(attributes.verb, "get" | "update" | "patch") => {
                relation(Referent::Claim)
            }
            _ => read(attributes).and_then(|()| relation(Referent::Claim)),
        },
        ("", "serviceaccounts") => match attributes.subresource {
            Some("token") if attributes.verb == "create" => relation(Referent::ServiceAccount),
            None if attributes.verb == "get" => relation(Referent::ServiceAccount),
            _ => deny("can only create tokens for individual service accounts"),
        },
        ("coordination.k8s.io", "leases") => lease(node, attributes),
        ("", "nodes") => own_node(node, attributes),
        ("", "pods") => pods(caches, node, attributes),
        _ if static_rules.iter().any(|rule| rbac::allows(rule, attributes)) => Ok(()),
        _ => deny(""),
    }
}

fn deny(reason: &str) -> Result<(), String> {
    Err(reason.to_string())
}

fn no_relation(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

fn read(attributes: &Attributes<'_>) -> Result<(), String> {
    match attributes {
        one if !READ.contains(&one.verb) => deny("can only read resources of this type"),
        one if one.subresource.is_some() => deny("cannot read subresource"),
        one if one.namespace.is_none() => deny("can only read namespaced object of this type"),
        _ => Ok(()),
    }
}

fn lease(node: &str, attributes: &Attributes<'_>) -> Result<(), String> {
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

fn own_node(node: &str, attributes: &Attributes<'_>) -> Result<(), String> {
    match (attributes.subresource, attributes.verb) {
        // Which node is written is for admission to check: its answer says more.
        (None | Some("status"), "create" | "update" | "patch") => Ok(()),
        (None | Some("status"), "get" | "list" | "watch") => match attributes.name {
            Some(name) if name == node => Ok(()),
            Some(name) => Err(format!("node '{node}' cannot read '{name}', only its own Node object")),
            None => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
        },
        _ => deny(""),
    }
}

fn pods(caches: &Caches, node: &str, attributes: &Attributes<'_>) -> Result<(), String> {
    match (attributes.subresource, attributes.verb) {
        (None, "get") => {
            let (namespace, name) = (attributes.namespace, attributes.name.unwrap_or(""));
            let own = caches.get(&POD, namespace, name).and_then(|object| object.typed::<Pod>().ok());
            let bound = own.and_then(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()));
            if bound.as_deref() == Some(node) { Ok(()) } else { Err(no_relation(node)) }
        }
        (None, "list" | "watch") => {
            let mut terms = attributes.fields.iter().flat_map(|fields| &fields.terms);
            let own = terms.any(|term| term.path == "spec.nodeName" && term.equals && term.value == node);
            if own { Ok(()) } else { deny("can only list/watch pods with spec.nodeName field selector") }
        }
        // NodeRestriction sees to it that these are its own.
        (None, "create" | "delete") | (Some("status"), "update" | "patch") | (Some("eviction"), "create") => {
            Ok(())
        }
        _ => deny(""),
    }
}

fn related(
    caches: &Caches,
    node: &str,
    referent: Referent,
    attributes: &Attributes<'_>,
) -> Result<(), String> {
    let Some(name) = attributes.name.filter(|name| !name.is_empty()) else {
        return deny("No Object name found");
    };
    let pods = caches.indexed(&POD, "spec.nodeName", node);
    let mut own = pods.iter().filter(|pod| pod.namespace() == attributes.namespace);
    let refers = own.any(|pod| pod.typed::<Pod>().is_ok_and(|pod| refers_to(&pod, referent, name)));
    if refers { Ok(()) } else { Err(no_relation(node)) }
}

/// Whether a pod names such an object of its namespace. A mirror of a node's own manifest grants nothing: the node could
/// write what it likes into it.
pub(super) fn refers_to(pod: &Pod, referent: Referent, name: &str) -> bool {
    let mirror = pod.metadata.annotations.as_ref().is_some_and(|own| own.contains_key(MIRROR_ANNOTATION));
    let Some(spec) = pod.spec.as_ref().filter(|_| !mirror) else { return false };
    let mut found = BTreeSet::new();
    match referent {
        Referent::ServiceAccount => {
            found.extend(spec.service_account_name.as_deref());
        }
        Referent::Secret => {
            found.extend(spec.image_pull_secrets.iter().flatten().map(|one| one.name.as_str()));
            spec.volumes.iter().flatten().for_each(|volume| volume_secrets(volume, &mut found));
        }
        Referent::ConfigMap => {
            spec.volumes.iter().flatten().for_each(|volume| volume_config_maps(volume, &mut found))
        }
        Referent::Claim => {
            let claims =
                spec.volumes.iter().flatten().filter_map(|volume| volume.persistent_volume_claim.as_ref());
            found.extend(claims.map(|claim| claim.claim_name.as_str()));
        }
    }
    found.contains(name) || environment_names(spec, referent, name)
}

fn environment_names(spec: &PodSpec, referent: Referent, name: &str) -> bool {
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral = ephemeral.map(|one| (one.env.as_deref(), one.env_from.as_deref()));
    let plain = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let plain = plain.map(|one| (one.env.as_deref(), one.env_from.as_deref()));
    plain.chain(ephemeral).any(|(env, from)| {
        let from_value =
            env.into_iter().flatten().filter_map(|one| one.value_from.as_ref()).any(
                |source| match referent {
                    Referent::Secret => source.secret_key_ref.as_ref().is_some_and(|one| one.name == name),
                    Referent::ConfigMap => {
                        source.config_map_key_ref.as_ref().is_some_and(|one| one.name == name)
                    }
                    _ => false,
                },
            );
        from_value
            || from.into_iter().flatten().any(|source| match referent {
                Referent::Secret => source.secret_ref.as_ref().is_some_and(|one| one.name == name),
                Referent::ConfigMap => source.config_map_ref.as_ref().is_some_and(|one| one.name == name),
                _ => false,
            })
    })
}

fn volume_secrets<'a>(volume: &'a Volume, found: &mut BTreeSet<&'a str>) {
    found.extend(volume.secret.as_ref().and_then(|one| one.secret_name.as_deref()));
    let sources = volume.projected.iter().filter_map(|one| one.sources.as_ref()).flatten();
    found.extend(sources.filter_map(|one| one.secret.as_ref()).map(|one| one.name.as_str()));
    found.extend(volume.azure_file.as_ref().map(|one| one.secret_name.as_str()));
    let references = [
        volume.cephfs.as_ref().and_then(|one| one.secret_ref.as_ref()),
        volume.cinder.as_ref().and_then(|one| one.secret_ref.as_ref()),
        volume.flex_volume.as_ref().and_then(|one| one.secret_ref.as_ref()),
        volume.iscsi.as_ref().and_then(|one| one.secret_ref.as_ref()),
        volume.rbd.as_ref().and_then(|one| one.secret_ref.as_ref()),
        volume.scale_io.as_ref().map(|one| &one.secret_ref),
        volume.storageos.as_ref().and_then(|one| one.secret_ref.as_ref()),
        volume.csi.as_ref().and_then(|one| one.node_publish_secret_ref.as_ref()),
    ];
    found.extend(references.into_iter().flatten().map(|one| one.name.as_str()));
}

fn volume_config_maps<'a>(volume: &'a Volume, found: &mut BTreeSet<&'a str>) {
    found.extend(volume.config_map.as_ref().map(|one| one.name.as_str()));
    let sources = volume.projected.iter().filter_map(|one| one.sources.as_ref()).flatten();
    found.extend(sources.filter_map(|one| one.config_map.as_ref()).map(|one| one.name.as_str()));
}
