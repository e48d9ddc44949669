//! Which requests are approved, signed and forgotten.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;

use super::request::{self, Request};
use crate::{CertificateSigner, SigningError};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// The user that a node's pod network reads the other nodes as.
const NETWORK_USER: &str = "system:kube-proxy";
const NODES: &str = "system:nodes";
const NODE_USER: &str = "system:node:";

const HOUR: i64 = 3600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Neither approved nor denied.
    Pending,
    /// Approved, without a certificate yet.
    Approved,
    /// Denied, failed, or the certificate is there.
    Settled,
}

/// A kind of request that may be approved without a person, if its author may create
/// `certificatesigningrequests` with this subresource (which exists for authorization only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recognized {
    pub(super) subresource: &'static str,
    /// Message of the approval.
    pub(super) message: &'static str,
}

impl Recognized {
    /// Whether it lets the author have any node's certificate, rather than its own.
    pub(super) fn is_for_any_node(self) -> bool {
        self == NODE_CLIENT
    }
}

/// Why such a request is denied, and what to do.
pub(super) fn exists(node: &str) -> String {
    format!(
        "node {node} exists, and the request is not proved by its key; if this machine is to take its place, delete the node \
         first (kubectl delete node {node}), else give it another name (--node-name)"
    )
}

/// Upstream's two, in its order.
const SELF_CLIENT: Recognized = Recognized {
    subresource: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};
const NODE_CLIENT: Recognized = Recognized {
    subresource: "nodeclient",
    message: "Auto approving kubelet client certificate after SubjectAccessReview.",
};
/// Ours: upstream leaves these to an administrator.
const SELF_SERVING: Recognized = Recognized {
    subresource: "selfnodeserver",
    message: "Auto approving kubelet serving certificate after SubjectAccessReview: all names are the node's.",
};
const NETWORK_CLIENT: Recognized = Recognized {
    subresource: "nodenetwork",
    message: "Auto approving client certificate of a node's pod network after SubjectAccessReview.",
};

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    when(request, kind).is_some()
}

fn when<'a>(
    request: &'a CertificateSigningRequest,
    kind: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    request.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

fn is_issued(request: &CertificateSigningRequest) -> bool {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.is_some_and(|certificate| !certificate.0.is_empty())
}

pub(super) fn state(request: &CertificateSigningRequest) -> State {
    if has(request, "Denied") || has(request, "Failed") || is_issued(request) {
        State::Settled
    } else if has(request, "Approved") {
        State::Approved
    } else {
        State::Pending
    }
}

pub(super) fn condition(
    kind: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: kind.to_string(),
        status: "True".to_string(),
        reason: Some(reason.to_string()),
        message: Some(message.to_string()),
        last_update_time: Some(api::time::seconds(now)),
        last_transition_time: Some(api::time::seconds(now)),
    }
}

/// When the request is of no more use: an hour after it was settled, a day after it was made.
pub(super) fn expiry(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let after = |kind: &str| {
        let condition = when(request, kind)?;
        let time = condition.last_update_time.as_ref().or(condition.last_transition_time.as_ref())?;
        Some(api::time::plus_seconds(time.0, HOUR))
    };
    let created =
        request.metadata.creation_timestamp.as_ref().map(|time| api::time::plus_seconds(time.0, 24 * HOUR));
    let settled = match state(request) {
        State::Settled => after("Denied").or_else(|| after("Failed")).or_else(|| after("Approved")),
        // Approved but signed by nobody: another signer may be slow.
        State::Approved | State::Pending => None,
    };
    settled.or(created)
}

/// With these a node whose certificate has ended proves, to who shows a token, that it has its key: the old
/// certificate (PEM), and the signature (base64) over the request by its key.
const PREVIOUS_CERTIFICATE: &str = "node.minik8s.io/previous-certificate";
const PREVIOUS_KEY_SIGNATURE: &str = "node.minik8s.io/previous-key-signature";

/// What the cluster's authority says of nodes.
pub(super) struct Known<'a> {
    pub(super) node: &'a (dyn Fn(&str) -> Option<Arc<Node>> + Sync),
    pub(super) signer: &'a dyn CertificateSigner,
}

/// The node for which this request must not be granted to who merely may ask for nodes: it is there, and
/// neither is the request its own nor is it proved by its key. A token that many know is no proof of being
/// one node.
pub(super) fn unproved(request: &CertificateSigningRequest, known: &Known<'_>) -> Option<String> {
    let asked = request::parse(&request.spec.request.0).ok()?;
    let name = node_of(&asked)?;
    if request.spec.username.as_deref() == Some(&asked.common_name) {
        return None;
    }
    let exists = known.signer.is_own_node(name) || (known.node)(name).is_some();
    let proof = request.metadata.annotations.as_ref().and_then(|annotations| {
        Some((annotations.get(PREVIOUS_CERTIFICATE)?, annotations.get(PREVIOUS_KEY_SIGNATURE)?))
    });
    let proved = proof.is_some_and(|(certificate, signature)| {
        let pem = std::str::from_utf8(&request.spec.request.0).unwrap_or("");
        known.signer.is_proved(name, pem, certificate, signature)
    });
    (exists && !proved).then(|| name.to_string())
}

/// The kinds that the request is of: any of them is enough.
pub(super) fn recognize(request: &CertificateSigningRequest, known: &Known<'_>) -> Vec<Recognized> {
    let spec = &request.spec;
    let Ok(asked) = request::parse(&spec.request.0) else { return Vec::new() };
    let user = spec.username.as_deref().unwrap_or("");
    let usages: Vec<&str> = spec.usages.iter().flatten().map(String::as_str).collect();
    let itself = user == asked.common_name;
    let plain_client = usages_are(&usages, "client auth") && !asked.has_alternative_names();
    match (spec.signer_name.as_str(), node_of(&asked)) {
        (KUBELET_CLIENT, Some(_)) if plain_client && itself => vec![SELF_CLIENT, NODE_CLIENT],
        (KUBELET_CLIENT, Some(_)) if plain_client => vec![NODE_CLIENT],
        (KUBELET_SERVING, Some(name)) if itself && usages_are(&usages, "server auth") => {
            // What a node reports as its address is its own word: never those by which the API server is
            // known.
            let is_reserved = || known.signer.is_reserved(name, &asked.dns_names, &asked.addresses);
            match (known.node)(name) {
                Some(node) if names_are_of(&asked, &node) && !is_reserved() => vec![SELF_SERVING],
                _ => Vec::new(),
            }
        }
        (CLIENT, None) if plain_client && asked.common_name == NETWORK_USER => {
            let is_node = user.starts_with(NODE_USER) && asked.organizations.is_empty();
            if is_node { vec![NETWORK_CLIENT] } else { Vec::new() }
        }
        _ => Vec::new(),
    }
}

/// The node that a kubelet's certificate is for.
fn node_of(asked: &Request) -> Option<&str> {
    let name = asked.common_name.strip_prefix(NODE_USER).filter(|name| !name.is_empty())?;
    (asked.organizations == [NODES]).then_some(name)
}

/// Exactly signing, the given purpose, and (for RSA keys) key encipherment.
fn usages_are(usages: &[&str], purpose: &str) -> bool {
    let allowed = |usage: &&str| [purpose, "digital signature", "key encipherment"].contains(usage);
    usages.iter().all(allowed) && usages.contains(&purpose) && usages.contains(&"digital signature")
}

/// There is a name, and every one is an address in the node's status.
fn names_are_of(asked: &Request, node: &Node) -> bool {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let addresses: Vec<(&str, &str)> =
        addresses.map(|address| (address.type_.as_str(), address.address.as_str())).collect();
    let is_name = |name: &String| {
        addresses
            .iter()
            .any(|(kind, own)| matches!(*kind, "Hostname" | "InternalDNS" | "ExternalDNS") && own == name)
    };
    let is_address = |wanted: &IpAddr| {
        let own = |own: &str| own.parse::<IpAddr>().ok();
        addresses
            .iter()
            .any(|(kind, text)| matches!(*kind, "InternalIP" | "ExternalIP") && own(text) == Some(*wanted))
    };
    asked.other_names == 0
        && asked.has_alternative_names()
        && asked.dns_names.iter().all(is_name)
        && asked.addresses.iter().all(is_address)
}

/// The PEM to sign; none if another signer is asked for; an error if this signer must not sign it.
pub(super) fn may_sign(request: &CertificateSigningRequest) -> Result<Option<String>, SigningError> {
    let spec = &request.spec;
    let signer = spec.signer_name.as_str();
    if ![CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY].contains(&signer) {
        return Ok(None);
    }
    let asked = request::parse(&spec.request.0)?;
    let usages: Vec<&str> = spec.usages.iter().flatten().map(String::as_str).collect();
    let purposes: &[&str] = match signer {
        KUBELET_CLIENT | CLIENT => &["client auth"],
        KUBELET_SERVING => &["server auth"],
        _ => &[],
    };
    if signer == KUBELET_CLIENT || signer == KUBELET_SERVING {
        node_of(&asked).ok_or(SigningError::refused(
            "subject must be a node's: organization \"system:nodes\", common name \"system:node:NAME\"",
        ))?;
        if (signer == KUBELET_SERVING) != asked.has_alternative_names() {
            return Err(SigningError::refused(
                "subject alternative names are needed for serving and not allowed for client certificates",
            ));
        }
    }
    for purpose in purposes {
        if !usages.contains(purpose) {
            return Err(SigningError::refused(format!("usages must contain {purpose:?}")));
        }
    }
    let foreign =
        |usage: &&&str| ["client auth", "server auth"].contains(*usage) && !purposes.contains(*usage);
    if let Some(usage) = usages.iter().find(foreign).filter(|_| !purposes.is_empty()) {
        return Err(SigningError::refused(format!("usage {usage:?} is not allowed by signer {signer:?}")));
    }
    String::from_utf8(spec.request.0.clone())
        .map(Some)
        .map_err(|_| SigningError::malformed("the request is not PEM"))
}

#[cfg(test)]
mod tests;
