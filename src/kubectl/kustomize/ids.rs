//! What identifies an object: group, version, kind, name and namespace; and how such things are written.

use std::fmt;

use super::node::Node;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gvk {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    /// Known to be of no namespace. Kinds that are named in a kustomization are not looked up.
    pub(crate) is_cluster_scoped: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResId {
    pub(crate) gvk: Gvk,
    pub(crate) name: String,
    pub(crate) namespace: String,
}

/// The namespace of what has none.
pub(crate) const NO_NAMESPACE: &str = "_non_namespaceable_";

/// Kinds without a namespace in the release whose schema kustomize carries (1.21). Kinds that came later
/// count as namespaced, as they do upstream.
const CLUSTER_SCOPED: &[&str] = &[
    "admissionregistration.k8s.io/v1 MutatingWebhookConfiguration",
    "admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration",
    "admissionregistration.k8s.io/v1beta1 MutatingWebhookConfiguration",
    "admissionregistration.k8s.io/v1beta1 ValidatingWebhookConfiguration",
    "apiextensions.k8s.io/v1 CustomResourceDefinition",
    "apiextensions.k8s.io/v1beta1 CustomResourceDefinition",
    "apiregistration.k8s.io/v1 APIService",
    "apiregistration.k8s.io/v1beta1 APIService",
    "certificates.k8s.io/v1 CertificateSigningRequest",
    "certificates.k8s.io/v1beta1 CertificateSigningRequest",
    "flowcontrol.apiserver.k8s.io/v1beta1 FlowSchema",
    "flowcontrol.apiserver.k8s.io/v1beta1 PriorityLevelConfiguration",
    "networking.k8s.io/v1 IngressClass",
    "networking.k8s.io/v1beta1 IngressClass",
    "node.k8s.io/v1 RuntimeClass",
    "node.k8s.io/v1beta1 RuntimeClass",
    "policy/v1beta1 PodSecurityPolicy",
    "rbac.authorization.k8s.io/v1 ClusterRole",
    "rbac.authorization.k8s.io/v1 ClusterRoleBinding",
    "rbac.authorization.k8s.io/v1beta1 ClusterRole",
    "rbac.authorization.k8s.io/v1beta1 ClusterRoleBinding",
    "scheduling.k8s.io/v1 PriorityClass",
    "scheduling.k8s.io/v1beta1 PriorityClass",
    "storage.k8s.io/v1 CSIDriver",
    "storage.k8s.io/v1 CSINode",
    "storage.k8s.io/v1 StorageClass",
    "storage.k8s.io/v1 VolumeAttachment",
    "storage.k8s.io/v1beta1 CSIDriver",
    "storage.k8s.io/v1beta1 CSINode",
    "storage.k8s.io/v1beta1 StorageClass",
    "storage.k8s.io/v1beta1 VolumeAttachment",
    "v1 ComponentStatus",
    "v1 Namespace",
    "v1 Node",
    "v1 NodeProxyOptions",
    "v1 PersistentVolume",
];

/// Kinds that come first in the output and in tables, and those that come last.
pub(crate) const ORDER_FIRST: [&str; 22] = [
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
pub(crate) const ORDER_LAST: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

pub(crate) fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

fn or<'a>(text: &'a str, absent: &'a str) -> &'a str {
    if text.is_empty() { absent } else { text }
}

impl Gvk {
    /// As an object has it.
    pub(crate) fn of(node: &Node) -> Self {
        let (group, version) = split_api_version(node.get("apiVersion").map_or("", Node::text));
        let mut gvk = Gvk {
            group: group.to_string(),
            version: version.to_string(),
            kind: node.get("kind").map_or("", Node::text).to_string(),
            is_cluster_scoped: false,
        };
        let described = format!("{} {}", gvk.api_version(), gvk.kind);
        gvk.is_cluster_scoped = CLUSTER_SCOPED.binary_search(&described.as_str()).is_ok();
        gvk
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    pub(crate) fn same(&self, other: &Gvk) -> bool {
        self.group == other.group && self.version == other.version && self.kind == other.kind
    }

    /// Whether this is what the selector names; what it leaves out is open.
    pub(crate) fn is_selected(&self, selector: &Gvk) -> bool {
        let admits = |wanted: &str, own: &str| wanted.is_empty() || wanted == own;
        admits(&selector.group, &self.group)
            && admits(&selector.version, &self.version)
            && admits(&selector.kind, &self.kind)
    }

    pub(crate) fn sort_text(&self) -> String {
        format!("{}_{}_{}", or(&self.group, "~G"), or(&self.version, "~V"), or(&self.kind, "~K"))
    }

    /// The key of upstream's order of kinds.
    pub(crate) fn sort_key(&self) -> (isize, String) {
        (position(&self.kind, &ORDER_FIRST, &ORDER_LAST), self.sort_text())
    }

    /// `apps_v1_Deployment`: a name of a file.
    pub(crate) fn joined(&self) -> String {
        let parts = [&self.group, &self.version, &self.kind];
        let there: Vec<&str> = parts.into_iter().map(String::as_str).filter(|one| !one.is_empty()).collect();
        there.join("_")
    }
}

pub(crate) fn position<T: AsRef<str>>(kind: &str, first: &[T], last: &[T]) -> isize {
    // Of a kind that is named twice the later place counts.
    let place = |list: &[T]| list.iter().rposition(|one| one.as_ref() == kind).map(usize::cast_signed);
    if let Some(at) = place(last) {
        return at + 1;
    }
    place(first).map_or(0, |at| at - first.len().cast_signed())
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, version) = (or(&self.kind, "[noKind]"), or(&self.version, "[noVer]"));
        write!(f, "{kind}.{version}.{}", or(&self.group, "[noGrp]"))
    }
}

impl ResId {
    pub(crate) fn of(node: &Node) -> Self {
        let meta = |name: &str| node.at(&["metadata", name]).map_or("", Node::value).to_string();
        ResId { gvk: Gvk::of(node), name: meta("name"), namespace: meta("namespace") }
    }

    pub(crate) fn effective_namespace(&self) -> &str {
        match self.namespace.as_str() {
            _ if self.gvk.is_cluster_scoped => NO_NAMESPACE,
            "" => "default",
            own => own,
        }
    }

    pub(crate) fn same_namespace(&self, other: &ResId) -> bool {
        self.effective_namespace() == other.effective_namespace()
    }

    pub(crate) fn same_name_and_kind(&self, other: &ResId) -> bool {
        self.name == other.name && self.gvk.same(&other.gvk)
    }

    pub(crate) fn same(&self, other: &ResId) -> bool {
        self.same_namespace(other) && self.same_name_and_kind(other)
    }

    pub(crate) fn is_selected_by(&self, selector: &ResId) -> bool {
        (selector.name.is_empty() || selector.name == self.name)
            && (selector.namespace.is_empty() || selector.same_namespace(self))
            && self.gvk.is_selected(&selector.gvk)
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == ResId::default()
    }
}

impl fmt::Display for ResId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.gvk, or(&self.name, "[noName]"), or(&self.namespace, "[noNs]"))
    }
}
