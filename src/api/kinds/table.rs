//! The built-in rows. Order is discovery's order of groups; adding a kind is adding a row here and a strategy
//! in the API server.

use std::borrow::Cow;

use k8s_openapi::api as k8s;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::row::{KindRow, Kinded, Scope, Str, Subresource};

const fn s(text: &'static str) -> Str {
    Cow::Borrowed(text)
}

const ALL_VERBS: &[Str] = &[
    s("create"),
    s("delete"),
    s("deletecollection"),
    s("get"),
    s("list"),
    s("patch"),
    s("update"),
    s("watch"),
];
const NAMESPACE_VERBS: &[Str] =
    &[s("create"), s("delete"), s("get"), s("list"), s("patch"), s("update"), s("watch")];
const CREATE: &[Str] = &[s("create")];
const GET: &[Str] = &[s("get")];
const GET_PATCH_UPDATE: &[Str] = &[s("get"), s("patch"), s("update")];
const CONNECT: &[Str] = &[s("create"), s("get")];
const PROXY: &[Str] = &[s("create"), s("delete"), s("get"), s("patch"), s("update")];
const UPDATE: &[Str] = &[s("update")];

const fn sub(name: &'static str, kind: &'static str, verbs: &'static [Str]) -> Subresource {
    sub_of(name, "", "", kind, verbs)
}

const fn sub_of(
    name: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    verbs: &'static [Str],
) -> Subresource {
    Subresource {
        name: s(name),
        group: s(group),
        version: s(version),
        kind: s(kind),
        verbs: Cow::Borrowed(verbs),
    }
}

/// The storage path of a row; the table writes `""` for kinds that are not stored.
const fn stored_at(path: &'static str) -> Option<Str> {
    if path.is_empty() { None } else { Some(s(path)) }
}

/// Declares the rows, the list of all rows, and the tie from each typed kind to its row.
macro_rules! kinds {
    ($( $name:ident: $ty:ty = $group:literal / $version:literal $kind:literal ($plural:literal, $singular:literal) $scope:ident
        short $short:expr, categories $categories:expr, verbs $verbs:expr, storage $storage:literal, stored_as $stored_as:expr,
        subresources $subs:expr; )*) => {
        $(
            pub static $name: KindRow = KindRow {
                group: s($group),
                version: s($version),
                kind: s($kind),
                plural: s($plural),
                singular: s($singular),
                scope: Scope::$scope,
                short_names: Cow::Borrowed($short),
                categories: Cow::Borrowed($categories),
                verbs: Cow::Borrowed($verbs),
                subresources: Cow::Borrowed($subs),
                storage: stored_at($storage),
                stored_as: $stored_as,
            };

            impl Kinded for $ty {
                fn row() -> &'static KindRow {
                    &$name
                }
            }
        )*

        /// Every built-in row.
        pub static ALL: &[&KindRow] = &[$(&$name),*];

        /// Whether an object decodes to the type of its row, by row: for what must hold for all kinds.
        #[cfg(test)]
        pub(crate) static DECODES: &[(&KindRow, fn(&crate::Object) -> Result<(), crate::object::ObjectError>)] =
            &[$((&$name, |object| object.typed::<$ty>().map(drop))),*];
    };
}

kinds! {
    BINDING: k8s::core::v1::Binding = "" / "v1" "Binding" ("bindings", "binding") Namespaced
        short &[], categories &[], verbs CREATE, storage "", stored_as None, subresources &[];
    CONFIG_MAP: k8s::core::v1::ConfigMap = "" / "v1" "ConfigMap" ("configmaps", "configmap") Namespaced
        short &[s("cm")], categories &[], verbs ALL_VERBS, storage "configmaps", stored_as None, subresources &[];
    ENDPOINTS: k8s::core::v1::Endpoints = "" / "v1" "Endpoints" ("endpoints", "endpoints") Namespaced
        short &[s("ep")], categories &[], verbs ALL_VERBS, storage "services/endpoints", stored_as None, subresources &[];
    EVENT: k8s::core::v1::Event = "" / "v1" "Event" ("events", "event") Namespaced
        short &[s("ev")], categories &[], verbs ALL_VERBS, storage "events", stored_as None, subresources &[];
    NAMESPACE: k8s::core::v1::Namespace = "" / "v1" "Namespace" ("namespaces", "namespace") Cluster
        short &[s("ns")], categories &[], verbs NAMESPACE_VERBS, storage "namespaces", stored_as None,
        subresources &[sub("finalize", "Namespace", UPDATE), sub("status", "Namespace", GET_PATCH_UPDATE)];
    NODE: k8s::core::v1::Node = "" / "v1" "Node" ("nodes", "node") Cluster
        short &[s("no")], categories &[], verbs ALL_VERBS, storage "minions", stored_as None,
        subresources &[sub("proxy", "NodeProxyOptions", PROXY), sub("status", "Node", GET_PATCH_UPDATE)];
    POD: k8s::core::v1::Pod = "" / "v1" "Pod" ("pods", "pod") Namespaced
        short &[s("po")], categories &[s("all")], verbs ALL_VERBS, storage "pods", stored_as None,
        subresources &[
            sub("attach", "PodAttachOptions", CONNECT),
            sub("binding", "Binding", CREATE),
            sub("ephemeralcontainers", "Pod", GET_PATCH_UPDATE),
            sub_of("eviction", "policy", "v1", "Eviction", CREATE),
            sub("exec", "PodExecOptions", CONNECT),
            sub("log", "Pod", GET),
            sub("portforward", "PodPortForwardOptions", CONNECT),
            sub("proxy", "PodProxyOptions", PROXY),
            sub("resize", "Pod", GET_PATCH_UPDATE),
            sub("status", "Pod", GET_PATCH_UPDATE),
        ];
    POD_TEMPLATE: k8s::core::v1::PodTemplate = "" / "v1" "PodTemplate" ("podtemplates", "podtemplate") Namespaced
        short &[], categories &[], verbs ALL_VERBS, storage "podtemplates", stored_as None, subresources &[];
    REPLICATION_CONTROLLER: k8s::core::v1::ReplicationController =
        "" / "v1" "ReplicationController" ("replicationcontrollers", "replicationcontroller") Namespaced
        short &[s("rc")], categories &[s("all")], verbs ALL_VERBS, storage "controllers", stored_as None,
        subresources &[
            sub_of("scale", "autoscaling", "v1", "Scale", GET_PATCH_UPDATE),
            sub("status", "ReplicationController", GET_PATCH_UPDATE),
        ];
    SECRET: k8s::core::v1::Secret = "" / "v1" "Secret" ("secrets", "secret") Namespaced
        short &[], categories &[], verbs ALL_VERBS, storage "secrets", stored_as None, subresources &[];
    SERVICE_ACCOUNT: k8s::core::v1::ServiceAccount = "" / "v1" "ServiceAccount" ("serviceaccounts", "serviceaccount") Namespaced
        short &[s("sa")], categories &[], verbs ALL_VERBS, storage "serviceaccounts", stored_as None,
        subresources &[sub_of("token", "authentication.k8s.io", "v1", "TokenRequest", CREATE)];
    SERVICE: k8s::core::v1::Service = "" / "v1" "Service" ("services", "service") Namespaced
        short &[s("svc")], categories &[s("all")], verbs ALL_VERBS, storage "services/specs", stored_as None,
        subresources &[sub("proxy", "ServiceProxyOptions", PROXY), sub("status", "Service", GET_PATCH_UPDATE)];

    CONTROLLER_REVISION: k8s::apps::v1::ControllerRevision =
        "apps" / "v1" "ControllerRevision" ("controllerrevisions", "controllerrevision") Namespaced
        short &[], categories &[], verbs ALL_VERBS, storage "controllerrevisions", stored_as None, subresources &[];
    DAEMON_SET: k8s::apps::v1::DaemonSet = "apps" / "v1" "DaemonSet" ("daemonsets", "daemonset") Namespaced
        short &[s("ds")], categories &[s("all")], verbs ALL_VERBS, storage "daemonsets", stored_as None,
        subresources &[sub("status", "DaemonSet", GET_PATCH_UPDATE)];
    DEPLOYMENT: k8s::apps::v1::Deployment = "apps" / "v1" "Deployment" ("deployments", "deployment") Namespaced
        short &[s("deploy")], categories &[s("all")], verbs ALL_VERBS, storage "deployments", stored_as None,
        subresources &[
            sub_of("scale", "autoscaling", "v1", "Scale", GET_PATCH_UPDATE),
            sub("status", "Deployment", GET_PATCH_UPDATE),
        ];
    REPLICA_SET: k8s::apps::v1::ReplicaSet = "apps" / "v1" "ReplicaSet" ("replicasets", "replicaset") Namespaced
        short &[s("rs")], categories &[s("all")], verbs ALL_VERBS, storage "replicasets", stored_as None,
        subresources &[
            sub_of("scale", "autoscaling", "v1", "Scale", GET_PATCH_UPDATE),
            sub("status", "ReplicaSet", GET_PATCH_UPDATE),
        ];
    STATEFUL_SET: k8s::apps::v1::StatefulSet = "apps" / "v1" "StatefulSet" ("statefulsets", "statefulset") Namespaced
        short &[s("sts")], categories &[s("all")], verbs ALL_VERBS, storage "statefulsets", stored_as None,
        subresources &[
            sub_of("scale", "autoscaling", "v1", "Scale", GET_PATCH_UPDATE),
            sub("status", "StatefulSet", GET_PATCH_UPDATE),
        ];

    EVENTS_EVENT: k8s::events::v1::Event = "events.k8s.io" / "v1" "Event" ("events", "event") Namespaced
        short &[s("ev")], categories &[], verbs ALL_VERBS, storage "events", stored_as Some(s("v1")), subresources &[];

    SELF_SUBJECT_REVIEW: k8s::authentication::v1::SelfSubjectReview =
        "authentication.k8s.io" / "v1" "SelfSubjectReview" ("selfsubjectreviews", "selfsubjectreview") Cluster
        short &[], categories &[], verbs CREATE, storage "", stored_as None, subresources &[];
    TOKEN_REVIEW: k8s::authentication::v1::TokenReview =
        "authentication.k8s.io" / "v1" "TokenReview" ("tokenreviews", "tokenreview") Cluster
        short &[], categories &[], verbs CREATE, storage "", stored_as None, subresources &[];

    LOCAL_SUBJECT_ACCESS_REVIEW: k8s::authorization::v1::LocalSubjectAccessReview =
        "authorization.k8s.io" / "v1" "LocalSubjectAccessReview" ("localsubjectaccessreviews", "localsubjectaccessreview") Namespaced
        short &[], categories &[], verbs CREATE, storage "", stored_as None, subresources &[];
    SELF_SUBJECT_ACCESS_REVIEW: k8s::authorization::v1::SelfSubjectAccessReview =
        "authorization.k8s.io" / "v1" "SelfSubjectAccessReview" ("selfsubjectaccessreviews", "selfsubjectaccessreview") Cluster
        short &[], categories &[], verbs CREATE, storage "", stored_as None, subresources &[];
    SELF_SUBJECT_RULES_REVIEW: k8s::authorization::v1::SelfSubjectRulesReview =
        "authorization.k8s.io" / "v1" "SelfSubjectRulesReview" ("selfsubjectrulesreviews", "selfsubjectrulesreview") Cluster
        short &[], categories &[], verbs CREATE, storage "", stored_as None, subresources &[];
    SUBJECT_ACCESS_REVIEW: k8s::authorization::v1::SubjectAccessReview =
        "authorization.k8s.io" / "v1" "SubjectAccessReview" ("subjectaccessreviews", "subjectaccessreview") Cluster
        short &[], categories &[], verbs CREATE, storage "", stored_as None, subresources &[];

    HORIZONTAL_POD_AUTOSCALER: k8s::autoscaling::v2::HorizontalPodAutoscaler =
        "autoscaling" / "v2" "HorizontalPodAutoscaler" ("horizontalpodautoscalers", "horizontalpodautoscaler") Namespaced
        short &[s("hpa")], categories &[s("all")], verbs ALL_VERBS, storage "horizontalpodautoscalers", stored_as None,
        subresources &[sub("status", "HorizontalPodAutoscaler", GET_PATCH_UPDATE)];

    CRON_JOB: k8s::batch::v1::CronJob = "batch" / "v1" "CronJob" ("cronjobs", "cronjob") Namespaced
        short &[s("cj")], categories &[s("all")], verbs ALL_VERBS, storage "cronjobs", stored_as None,
        subresources &[sub("status", "CronJob", GET_PATCH_UPDATE)];
    JOB: k8s::batch::v1::Job = "batch" / "v1" "Job" ("jobs", "job") Namespaced
        short &[], categories &[s("all")], verbs ALL_VERBS, storage "jobs", stored_as None,
        subresources &[sub("status", "Job", GET_PATCH_UPDATE)];

    CERTIFICATE_SIGNING_REQUEST: k8s::certificates::v1::CertificateSigningRequest =
        "certificates.k8s.io" / "v1" "CertificateSigningRequest" ("certificatesigningrequests", "certificatesigningrequest") Cluster
        short &[s("csr")], categories &[], verbs ALL_VERBS, storage "certificatesigningrequests", stored_as None,
        subresources &[
            sub("approval", "CertificateSigningRequest", GET_PATCH_UPDATE),
            sub("status", "CertificateSigningRequest", GET_PATCH_UPDATE),
        ];

    IP_ADDRESS: k8s::networking::v1::IPAddress = "networking.k8s.io" / "v1" "IPAddress" ("ipaddresses", "ipaddress") Cluster
        short &[s("ip")], categories &[], verbs ALL_VERBS, storage "ipaddresses", stored_as None, subresources &[];
    SERVICE_CIDR: k8s::networking::v1::ServiceCIDR = "networking.k8s.io" / "v1" "ServiceCIDR" ("servicecidrs", "servicecidr") Cluster
        short &[], categories &[], verbs ALL_VERBS, storage "servicecidrs", stored_as None,
        subresources &[sub("status", "ServiceCIDR", GET_PATCH_UPDATE)];

    POD_DISRUPTION_BUDGET: k8s::policy::v1::PodDisruptionBudget =
        "policy" / "v1" "PodDisruptionBudget" ("poddisruptionbudgets", "poddisruptionbudget") Namespaced
        short &[s("pdb")], categories &[], verbs ALL_VERBS, storage "poddisruptionbudgets", stored_as None,
        subresources &[sub("status", "PodDisruptionBudget", GET_PATCH_UPDATE)];

    CLUSTER_ROLE_BINDING: k8s::rbac::v1::ClusterRoleBinding =
        "rbac.authorization.k8s.io" / "v1" "ClusterRoleBinding" ("clusterrolebindings", "clusterrolebinding") Cluster
        short &[], categories &[], verbs ALL_VERBS, storage "clusterrolebindings", stored_as None, subresources &[];
    CLUSTER_ROLE: k8s::rbac::v1::ClusterRole = "rbac.authorization.k8s.io" / "v1" "ClusterRole" ("clusterroles", "clusterrole") Cluster
        short &[], categories &[], verbs ALL_VERBS, storage "clusterroles", stored_as None, subresources &[];
    ROLE_BINDING: k8s::rbac::v1::RoleBinding = "rbac.authorization.k8s.io" / "v1" "RoleBinding" ("rolebindings", "rolebinding") Namespaced
        short &[], categories &[], verbs ALL_VERBS, storage "rolebindings", stored_as None, subresources &[];
    ROLE: k8s::rbac::v1::Role = "rbac.authorization.k8s.io" / "v1" "Role" ("roles", "role") Namespaced
        short &[], categories &[], verbs ALL_VERBS, storage "roles", stored_as None, subresources &[];

    CUSTOM_RESOURCE_DEFINITION: CustomResourceDefinition =
        "apiextensions.k8s.io" / "v1" "CustomResourceDefinition" ("customresourcedefinitions", "customresourcedefinition") Cluster
        short &[s("crd"), s("crds")], categories &[s("api-extensions")], verbs ALL_VERBS,
        storage "apiextensions.k8s.io/customresourcedefinitions", stored_as None,
        subresources &[sub("status", "CustomResourceDefinition", GET_PATCH_UPDATE)];

    LEASE: k8s::coordination::v1::Lease = "coordination.k8s.io" / "v1" "Lease" ("leases", "lease") Namespaced
        short &[], categories &[], verbs ALL_VERBS, storage "leases", stored_as None, subresources &[];

    ENDPOINT_SLICE: k8s::discovery::v1::EndpointSlice =
        "discovery.k8s.io" / "v1" "EndpointSlice" ("endpointslices", "endpointslice") Namespaced
        short &[], categories &[], verbs ALL_VERBS, storage "endpointslices", stored_as None, subresources &[];
}
