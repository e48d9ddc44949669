//! NodeRestriction: what the Node authorizer cannot see because it is in the body. A kubelet changes its own
//! Node, Lease and pods only, gives itself no labels that others rely on, makes no pods but mirrors that name
//! nothing of the API, and gets tokens for the pods that run on it only.
//!
//! Runs among the mutating plugins, as upstream's does: a node is refused before its body is judged. One rule
//! is ours: a node's address range is handed out by the cluster, because other nodes install a route for it.
//! Absent: claims and pod certificate requests, and the audiences of CSI drivers; they come with their kinds.

#[cfg(test)]
mod tests;

use api::ApiError;
use api::json::{items, text};
use api::kinds::{NODE, POD};
use serde_json::Value;

use super::certificates;
use super::request::{Operation, Request};
use crate::authz::{Attributes, Authorizer, Decision, references};

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";
/// Signers whose certificates are for nodes.
const NODE_SIGNERS: [&str; 2] =
    ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
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

/// A request of a node, and the node's name.
struct Ask<'a> {
    request: &'a Request<'a>,
    node: &'a str,
    /// The body; none for deletions.
    object: Option<&'a Value>,
}

pub(super) fn admit(
    authorizer: &Authorizer,
    request: &Request<'_>,
    object: Option<&Value>,
) -> Result<(), ApiError> {
    let Some(node) = request.ctx.user.node_name() else { return Ok(()) };
    if node.is_empty() {
        let user = &request.ctx.user.name;
        return Err(request.forbidden(&format!("could not determine node from user {user:?}")));
    }
    let ask = Ask { request, node, object };
    match (&*request.ctx.row.group, &*request.ctx.row.plural) {
        ("", "pods") => ask.pod(),
        ("", "nodes") => ask.own_node(),
        ("", "serviceaccounts") => ask.token(authorizer),
        ("coordination.k8s.io", "leases") => ask.lease(),
        ("storage.k8s.io", "csinodes") => {
            ask.named_like_node("can only access CSINode with the same name as the requesting node")
        }
        ("resource.k8s.io", "resourceslices") => ask.resource_slice(),
        ("certificates.k8s.io", "certificatesigningrequests") => ask.signing_request(),
        _ => Ok(()),
    }
}

impl Ask<'_> {
    fn forbidden(&self, why: &str) -> Result<(), ApiError> {
        Err(self.request.forbidden(why))
    }

    fn refuse_unless(&self, good: bool, why: &str) -> Result<(), ApiError> {
        if good { Ok(()) } else { self.forbidden(why) }
    }

    fn pod(&self) -> Result<(), ApiError> {
        let node = self.node;
        let own = |tree: &Value| text(tree, "spec.nodeName") == node;
        match (self.request.ctx.subresource, self.request.operation) {
            (None, Operation::Create) => self.object.map_or(Ok(()), |pod| self.mirror(pod)),
            (None, Operation::Delete) => self.refuse_unless(
                own(&self.request.old_tree()),
                &format!("node {node:?} can only delete pods with spec.nodeName set to itself"),
            ),
            (None, _) => self.forbidden(&format!(
                "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
            )),
            (Some("status"), Operation::Update) => self.pod_status(),
            (Some("eviction"), Operation::Create) => {
                let name = self.request.name;
                let pod = self.request.ctx.caches.get(&POD, self.request.ctx.namespace, name);
                let pod = pod.ok_or_else(|| ApiError::not_found(&POD, name))?;
                let pod = pod.tree().map_err(ApiError::internal)?;
                self.refuse_unless(
                    own(&pod),
                    &format!("node {node} can only evict pods with spec.nodeName set to itself"),
                )
            }
            (Some(other), _) => self.forbidden(&format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
        }
    }

    /// A node shows the API the pods of its own manifests, and those need nothing of the API: whatever such a
    /// pod named, the node would be allowed to read.
    fn mirror(&self, pod: &Value) -> Result<(), ApiError> {
        let node = self.node;
        if pod["metadata"]["annotations"][MIRROR].is_null() {
            let why =
                format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods");
            return self.forbidden(&why);
        }
        if text(pod, "spec.nodeName") != node {
            let why = format!("node {node:?} can only create pods with spec.nodeName set to itself");
            return self.forbidden(&why);
        }
        self.owner(pod)?;
        let spec = api::decode::pod_spec(&pod["spec"]).map_err(|error| {
            self.request.forbidden(&format!("error checking mirror pod for API references: {error}"))
        })?;
        match references::first(&spec) {
            Some(what) => self.forbidden(&format!("node {node:?} can not create pods that reference {what}")),
            None => Ok(()),
        }
    }

    /// A mirror belongs to its node: without an owner, or with another's, it would count as somebody's
    /// replica.
    fn owner(&self, pod: &Value) -> Result<(), ApiError> {
        let node = self.node;
        let [owner] = items(pod, "metadata.ownerReferences") else {
            let count = items(pod, "metadata.ownerReferences").len();
            let which = if count == 0 { "an owner reference" } else { "a single owner reference" };
            return self.forbidden(&format!("node {node:?} can only create pods with {which} set to itself"));
        };
        let own =
            text(owner, "apiVersion") == "v1" && text(owner, "kind") == "Node" && text(owner, "name") == node;
        self.refuse_unless(
            own,
            &format!("node {node:?} can only create pods with an owner reference set to itself"),
        )?;
        self.refuse_unless(
            owner["controller"] == true,
            &format!("node {node:?} can only create pods with a controller owner reference set to itself"),
        )?;
        self.refuse_unless(
            owner["blockOwnerDeletion"] != true,
            &format!("node {node:?} must not set blockOwnerDeletion on an owner reference"),
        )?;
        let object = self.request.ctx.caches.get(&NODE, None, node);
        let object = object.ok_or_else(|| ApiError::not_found(&NODE, node))?;
        let (given, known) = (text(owner, "uid"), object.uid());
        self.refuse_unless(given == known, &format!("node {node} UID mismatch: expected {given} got {known}"))
    }

    fn pod_status(&self) -> Result<(), ApiError> {
        let (node, old) = (self.node, self.request.old_tree());
        self.refuse_unless(
            text(&old, "spec.nodeName") == node,
            &format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"),
        )?;
        let Some(new) = self.object else { return Ok(()) };
        self.refuse_unless(
            same_or_empty(&new["metadata"]["labels"], &old["metadata"]["labels"]),
            &format!("node {node:?} cannot update labels through pod status"),
        )?;
        for (field, what) in [
            ("resourceClaimStatuses", "resource claim statues"),
            ("extendedResourceClaimStatus", "extended resource claim status"),
        ] {
            self.refuse_unless(
                same_or_empty(&new["status"][field], &old["status"][field]),
                &format!("node {node:?} cannot update {what}"),
            )?;
        }
        Ok(())
    }

    fn own_node(&self) -> Result<(), ApiError> {
        let (node, name) = (self.node, self.request.name);
        self.refuse_unless(name == node, &format!("node {node:?} is not allowed to modify node {name:?}"))?;
        let Some(new) = self.object else { return Ok(()) };
        let old = self.request.old_tree();
        self.address_range(new, &old)?;
        let changed = changed_labels(new, &old);
        if self.request.operation == Operation::Create {
            let why = format!("node {node:?} is not allowed to set the following labels: {changed}");
            return self.refuse_unless(changed.is_empty(), &why);
        }
        self.refuse_unless(
            same_or_empty(&new["spec"]["taints"], &old["spec"]["taints"]),
            &format!("node {node:?} is not allowed to modify taints"),
        )?;
        self.refuse_unless(
            same_or_empty(&new["metadata"]["ownerReferences"], &old["metadata"]["ownerReferences"]),
            &format!("node {node:?} is not allowed to modify ownerReferences"),
        )?;
        self.refuse_unless(changed.is_empty(), &format!("is not allowed to modify labels: {changed}"))
    }

    fn address_range(&self, new: &Value, old: &Value) -> Result<(), ApiError> {
        for field in ["podCIDR", "podCIDRs"] {
            self.refuse_unless(
                same_or_empty(&new["spec"][field], &old["spec"][field]),
                &format!("node {:?} is not allowed to modify {field}", self.node),
            )?;
        }
        Ok(())
    }

    fn lease(&self) -> Result<(), ApiError> {
        self.refuse_unless(
            self.request.ctx.namespace == Some(LEASES),
            &format!("can only access leases in the {LEASES:?} system namespace"),
        )?;
        self.named_like_node("can only access node lease with the same name as the requesting node")
    }

    fn named_like_node(&self, why: &str) -> Result<(), ApiError> {
        let created = self.object.filter(|_| self.request.operation == Operation::Create);
        let name = created.map_or(self.request.name, |object| text(object, "metadata.name"));
        self.refuse_unless(name == self.node, why)
    }

    fn resource_slice(&self) -> Result<(), ApiError> {
        let (slice, act) = match self.request.operation {
            Operation::Create => (self.object.cloned().unwrap_or_default(), "create"),
            Operation::Delete => (self.request.old_tree(), "delete"),
            _ => return Ok(()),
        };
        self.refuse_unless(
            text(&slice, "spec.nodeName") == self.node,
            &format!("can only {act} ResourceSlice with the same NodeName as the requesting node"),
        )
    }

    /// A node asks for certificates in its own name only.
    fn signing_request(&self) -> Result<(), ApiError> {
        let Some(new) = self.object.filter(|_| self.request.operation == Operation::Create) else {
            return Ok(());
        };
        if !NODE_SIGNERS.contains(&text(new, "spec.signerName")) {
            return Ok(());
        }
        let Some(subject) = certificates::subject(new) else {
            return self.forbidden("unable to parse csr: PEM block type must be CERTIFICATE REQUEST");
        };
        let own = format!("system:node:{}", self.node);
        self.refuse_unless(
            subject.common_names == [own.as_str()],
            &format!("can only create a node CSR with CN={own}"),
        )
    }

    /// A node gets tokens for pods that run on it, bound to them, so that they die with the pod, and for
    /// audiences that the pods ask for.
    fn token(&self, authorizer: &Authorizer) -> Result<(), ApiError> {
        let creates = self.request.operation == Operation::Create;
        let Some(asked) = self.object.filter(|_| creates && self.request.ctx.subresource == Some("token"))
        else {
            return Ok(());
        };
        let bound = &asked["spec"]["boundObjectRef"];
        let (name, uid) = (text(bound, "name"), text(bound, "uid"));
        if text(bound, "apiVersion") != "v1" || text(bound, "kind") != "Pod" || name.is_empty() {
            return self.forbidden("node requested token not bound to a pod");
        }
        if uid.is_empty() {
            return self.forbidden("node requested token with a pod binding without a uid");
        }
        let pod = self.request.ctx.caches.get(&POD, self.request.ctx.namespace, name);
        let pod = pod.ok_or_else(|| ApiError::not_found(&POD, name))?;
        if pod.uid() != uid {
            return self.forbidden(&format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ));
        }
        let tree = pod.tree().map_err(ApiError::internal)?;
        if text(&tree, "spec.nodeName") != self.node {
            return self.forbidden("node requested token bound to a pod scheduled on a different node");
        }
        self.audience(authorizer, asked, &tree)
    }

    /// A token for an audience that no volume of the pod names could be shown to a service that the pod has
    /// no business with.
    fn audience(&self, authorizer: &Authorizer, asked: &Value, pod: &Value) -> Result<(), ApiError> {
        let audience = match items(asked, "spec.audiences") {
            [] => "",
            [one] => one.as_str().unwrap_or(""),
            _ => return self.forbidden("node may only request 0 or 1 audiences"),
        };
        let sources = items(pod, "spec.volumes").iter().flat_map(|volume| items(volume, "projected.sources"));
        let mut tokens =
            sources.map(|source| &source["serviceAccountToken"]).filter(|token| !token.is_null());
        if tokens.any(|token| text(token, "audience") == audience) {
            return Ok(());
        }
        let user = self.request.ctx.user;
        let attributes = Attributes {
            user,
            verb: "request-serviceaccounts-token-audience",
            group: "",
            resource: audience,
            subresource: None,
            namespace: self.request.ctx.namespace,
            name: Some(self.request.name),
            fields: None,
            path: "",
        };
        // Without a resource the attributes would be those of a path.
        if !audience.is_empty() && authorizer.authorize(&attributes) == Decision::Allow {
            return Ok(());
        }
        self.forbidden(&format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            user.name
        ))
    }
}

/// Whether two parts are the same, where nothing and an empty collection or text are the same too.
fn same_or_empty(one: &Value, other: &Value) -> bool {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    one == other || (empty(one) && empty(other))
}

/// The labels that differ and that nodes do not choose themselves, as a list for a message.
fn changed_labels(new: &Value, old: &Value) -> String {
    let (is, was) = (&new["metadata"]["labels"], &old["metadata"]["labels"]);
    let keys = [is, was].into_iter().filter_map(Value::as_object).flat_map(|labels| labels.keys());
    let mut changed: Vec<&str> = keys.map(String::as_str).collect();
    changed.retain(|label| restricted(label) && is[*label] != was[*label]);
    changed.sort_unstable();
    changed.dedup();
    changed.join(", ")
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
