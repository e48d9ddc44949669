//! The built-in rows. Order is discovery's order of groups; adding a kind is adding a row here and a strategy
//! in the API server.

use std::borrow::Cow;

use k8s_openapi::api as k8s;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

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
const GET_LIST: &[Str] = &[s("get"), s("list")];
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

                #[inline(never)]
                fn from_json(json: &[u8]) -> serde_json::Result<Self> {
                    serde_json::from_slice(json)
                }

                #[inline(never)]
                fn to_tree(&self) -> serde_json::Result<serde_json::Value> {
                    serde_json::to_value(self)
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
    COMPONENT_STATUS: k8s::core::v1::ComponentStatus =
        "" / "v1" "ComponentStatus" ("componentstatuses", "componentstatus") Cluster
        short &[s("cs")], categories &[], verbs GET_LIST, storage "", stored_as None, subresources &[];
    CONFIG_MAP: k8s::core::v1::ConfigMap = "" / "v1" "ConfigMap" ("configmaps", "configmap") Namespaced
        short &[s("cm")], categories &[], verbs ALL_VERBS, storage "configmaps", stored_as None, subresources &[];
    ENDPOINTS: k8s::core::v1::Endpoints = "" / "v1" "Endpoints" ("endpoints", "endpoints") Namespaced
        short &[s("ep")], categories &[], verbs ALL_VERBS, storage "services/endpoints", stored_as None, subresources &[];
    EVENT: k8s::core::v1::Event = "" / "v1" "Event" ("events", "event") Namespaced
        short &[s("ev")], categories &[], verbs ALL_VERBS, storage "events", stored_as None, subresources &[];
    LIMIT_RANGE: k8s::core::v1::LimitRange = "" / "v1" "LimitRange" ("limitranges", "limitrange") Namespaced
        short &[s("limits")], categories &[], verbs ALL_VERBS, storage "limitranges", stored_as None, subresources &[];
    NAMESPACE: k8s::core::v1::Namespace = "" / "v1" "Namespace" ("namespaces", "namespace") Cluster
        short &[s("ns")], categories &[], verbs NAMESPACE_VERBS, storage "namespaces", stored_as None,
        subresources &[sub("finalize", "Namespace", UPDATE), sub("status", "Namespace", GET_PATCH_UPDATE)];
    NODE: k8s::core::v1::Node = "" / "v1" "Node" ("nodes", "node") Cluster
        short &[s("no")], categories &[], verbs ALL_VERBS, storage "minions", stored_as None,
        subresources &[sub("proxy", "NodeProxyOptions", PROXY), sub("status", "Node", GET_PATCH_UPDATE)];
    PERSISTENT_VOLUME_CLAIM: k8s::core::v1::PersistentVolumeClaim =
        "" / "v1" "PersistentVolumeClaim" ("persistentvolumeclaims", "persistentvolumeclaim") Namespaced
        short &[s("pvc")], categories &[], verbs ALL_VERBS, storage "persistentvolumeclaims", stored_as None,
        subresources &[sub("status", "PersistentVolumeClaim", GET_PATCH_UPDATE)];
    PERSISTENT_VOLUME: k8s::core::v1::PersistentVolume =
        "" / "v1" "PersistentVolume" ("persistentvolumes", "persistentvolume") Cluster
        short &[s("pv")], categories &[], verbs ALL_VERBS, storage "persistentvolumes", stored_as None,
        subresources &[sub("status", "PersistentVolume", GET_PATCH_UPDATE)];
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
    RESOURCE_QUOTA: k8s::core::v1::ResourceQuota = "" / "v1" "ResourceQuota" ("resourcequotas", "resourcequota") Namespaced
        short &[s("quota")], categories &[], verbs ALL_VERBS, storage "resourcequotas", stored_as None,
        subresources &[sub("status", "ResourceQuota", GET_PATCH_UPDATE)];
    SECRET: k8s::core::v1::Secret = "" / "v1" "Secret" ("secrets", "secret") Namespaced
        short &[], categories &[], verbs ALL_VERBS, storage "secrets", stored_as None, subresources &[];
    SERVICE_ACCOUNT: k8s::core::v1::ServiceAccount = "" / "v1" "ServiceAccount" ("serviceaccounts", "serviceaccount") Namespaced
        short &[s("sa")], categories &[], verbs ALL_VERBS, storage "serviceaccounts", stored_as None,
        subresources &[sub_of("token", "authentication.k8s.io", "v1", "TokenRequest", CREATE)];
    SERVICE: k8s::core::v1::Service = "" / "v1" "Service" ("services", "service") Namespaced
        short &[s("svc")], categories &[s("all")], verbs ALL_VERBS, storage "services/specs", stored_as None,
        subresources &[sub("proxy", "ServiceProxyOptions", PROXY), sub("status", "Service", GET_PATCH_UPDATE)];

    API_SERVICE: APIService = "apiregistration.k8s.io" / "v1" "APIService" ("apiservices", "apiservice") Cluster
        short &[], categories &[s("api-extensions")], verbs ALL_VERBS, storage "apiregistration.k8s.io/apiservices", stored_as None,
        subresources &[sub("status", "APIService", GET_PATCH_UPDATE)];

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

    HORIZONTAL_POD_AUTOSCALER_V1: k8s::autoscaling::v1::HorizontalPodAutoscaler =
        "autoscaling" / "v1" "HorizontalPodAutoscaler" ("horizontalpodautoscalers", "horizontalpodautoscaler") Namespaced
        short &[s("hpa")], categories &[s("all")], verbs ALL_VERBS, storage "horizontalpodautoscalers",
        stored_as Some(s("autoscaling/v2")), subresources &[sub("status", "HorizontalPodAutoscaler", GET_PATCH_UPDATE)];

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

    INGRESS_CLASS: k8s::networking::v1::IngressClass =
        "networking.k8s.io" / "v1" "IngressClass" ("ingressclasses", "ingressclass") Cluster
        short &[], categories &[], verbs ALL_VERBS, storage "ingressclasses", stored_as None, subresources &[];
    INGRESS: k8s::networking::v1::Ingress = "networking.k8s.io" / "v1" "Ingress" ("ingresses", "ingress") Namespaced
        short &[s("ing")], categories &[], verbs ALL_VERBS, storage "ingress", stored_as None,
        subresources &[sub("status", "Ingress", GET_PATCH_UPDATE)];
    IP_ADDRESS: k8s::networking::v1::IPAddress = "networking.k8s.io" / "v1" "IPAddress" ("ipaddresses", "ipaddress") Cluster
        short &[s("ip")], categories &[], verbs ALL_VERBS, storage "ipaddresses", stored_as None, subresources &[];
    NETWORK_POLICY: k8s::networking::v1::NetworkPolicy =
        "networking.k8s.io" / "v1" "NetworkPolicy" ("networkpolicies", "networkpolicy") Namespaced
        short &[s("netpol")], categories &[], verbs ALL_VERBS, storage "networkpolicies", stored_as None, subresources &[];
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

    CSI_DRIVER: k8s::storage::v1::CSIDriver = "storage.k8s.io" / "v1" "CSIDriver" ("csidrivers", "csidriver") Cluster
        short &[], categories &[], verbs ALL_VERBS, storage "csidrivers", stored_as None, subresources &[];
    CSI_NODE: k8s::storage::v1::CSINode = "storage.k8s.io" / "v1" "CSINode" ("csinodes", "csinode") Cluster
        short &[], categories &[], verbs ALL_VERBS, storage "csinodes", stored_as None, subresources &[];
    CSI_STORAGE_CAPACITY: k8s::storage::v1::CSIStorageCapacity =
        "storage.k8s.io" / "v1" "CSIStorageCapacity" ("csistoragecapacities", "csistoragecapacity") Namespaced
        short &[], categories &[], verbs ALL_VERBS, storage "csistoragecapacities", stored_as None, subresources &[];
    STORAGE_CLASS: k8s::storage::v1::StorageClass =
        "storage.k8s.io" / "v1" "StorageClass" ("storageclasses", "storageclass") Cluster
        short &[s("sc")], categories &[], verbs ALL_VERBS, storage "storageclasses", stored_as None, subresources &[];
    VOLUME_ATTACHMENT: k8s::storage::v1::VolumeAttachment =
        "storage.k8s.io" / "v1" "VolumeAttachment" ("volumeattachments", "volumeattachment") Cluster
        short &[], categories &[], verbs ALL_VERBS, storage "volumeattachments", stored_as None,
        subresources &[sub("status", "VolumeAttachment", GET_PATCH_UPDATE)];
    VOLUME_ATTRIBUTES_CLASS: k8s::storage::v1::VolumeAttributesClass =
        "storage.k8s.io" / "v1" "VolumeAttributesClass" ("volumeattributesclasses", "volumeattributesclass") Cluster
        short &[s("vac")], categories &[], verbs ALL_VERBS, storage "volumeattributesclasses", stored_as None, subresources &[];

    MUTATING_ADMISSION_POLICY: k8s::admissionregistration::v1::MutatingAdmissionPolicy =
        "admissionregistration.k8s.io" / "v1" "MutatingAdmissionPolicy" ("mutatingadmissionpolicies", "mutatingadmissionpolicy") Cluster
        short &[], categories &[s("api-extensions")], verbs ALL_VERBS, storage "mutatingadmissionpolicies", stored_as None,
        subresources &[];
    MUTATING_ADMISSION_POLICY_BINDING: k8s::admissionregistration::v1::MutatingAdmissionPolicyBinding =
        "admissionregistration.k8s.io" / "v1" "MutatingAdmissionPolicyBinding" ("mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding") Cluster
        short &[], categories &[s("api-extensions")], verbs ALL_VERBS, storage "mutatingadmissionpolicybindings", stored_as None,
        subresources &[];
    MUTATING_WEBHOOK_CONFIGURATION: k8s::admissionregistration::v1::MutatingWebhookConfiguration =
        "admissionregistration.k8s.io" / "v1" "MutatingWebhookConfiguration" ("mutatingwebhookconfigurations", "mutatingwebhookconfiguration") Cluster
        short &[], categories &[s("api-extensions")], verbs ALL_VERBS, storage "mutatingwebhookconfigurations", stored_as None,
        subresources &[];
    VALIDATING_ADMISSION_POLICY: k8s::admissionregistration::v1::ValidatingAdmissionPolicy =
        "admissionregistration.k8s.io" / "v1" "ValidatingAdmissionPolicy" ("validatingadmissionpolicies", "validatingadmissionpolicy") Cluster
        short &[], categories &[s("api-extensions")], verbs ALL_VERBS, storage "validatingadmissionpolicies", stored_as None,
        subresources &[sub("status", "ValidatingAdmissionPolicy", GET_PATCH_UPDATE)];
    VALIDATING_ADMISSION_POLICY_BINDING: k8s::admissionregistration::v1::ValidatingAdmissionPolicyBinding =
        "admissionregistration.k8s.io" / "v1" "ValidatingAdmissionPolicyBinding" ("validatingadmissionpolicybindings", "validatingadmissionpolicybinding") Cluster
        short &[], categories &[s("api-extensions")], verbs ALL_VERBS, storage "validatingadmissionpolicybindings", stored_as None,
        subresources &[];
    VALIDATING_WEBHOOK_CONFIGURATION: k8s::admissionregistration::v1::ValidatingWebhookConfiguration =
        "admissionregistration.k8s.io" / "v1" "ValidatingWebhookConfiguration" ("validatingwebhookconfigurations", "validatingwebhookconfiguration") Cluster
        short &[], categories &[s("api-extensions")], verbs ALL_VERBS, storage "validatingwebhookconfigurations", stored_as None,
        subresources &[];

    CUSTOM_RESOURCE_DEFINITION: CustomResourceDefinition =
        "apiextensions.k8s.io" / "v1" "CustomResourceDefinition" ("customresourcedefinitions", "customresourcedefinition") Cluster
        short &[s("crd"), s("crds")], categories &[s("api-extensions")], verbs ALL_VERBS,
        storage "apiextensions.k8s.io/customresourcedefinitions", stored_as None,
        subresources &[sub("status", "CustomResourceDefinition", GET_PATCH_UPDATE)];

    PRIORITY_CLASS: k8s::scheduling::v1::PriorityClass =
        "scheduling.k8s.io" / "v1" "PriorityClass" ("priorityclasses", "priorityclass") Cluster
        short &[s("pc")], categories &[], verbs ALL_VERBS, storage "priorityclasses", stored_as None, subresources &[];

    LEASE: k8s::coordination::v1::Lease = "coordination.k8s.io" / "v1" "Lease" ("leases", "lease") Namespaced
        short &[], categories &[], verbs ALL_VERBS, storage "leases", stored_as None, subresources &[];

    RUNTIME_CLASS: k8s::node::v1::RuntimeClass =
        "node.k8s.io" / "v1" "RuntimeClass" ("runtimeclasses", "runtimeclass") Cluster
        short &[], categories &[], verbs ALL_VERBS, storage "runtimeclasses", stored_as None, subresources &[];

    ENDPOINT_SLICE: k8s::discovery::v1::EndpointSlice =
        "discovery.k8s.io" / "v1" "EndpointSlice" ("endpointslices", "endpointslice") Namespaced
        short &[], categories &[], verbs ALL_VERBS, storage "endpointslices", stored_as None, subresources &[];

    DEVICE_CLASS: k8s::resource::v1::DeviceClass =
        "resource.k8s.io" / "v1" "DeviceClass" ("deviceclasses", "deviceclass") Cluster
        short &[], categories &[], verbs ALL_VERBS, storage "deviceclasses", stored_as None, subresources &[];
    RESOURCE_CLAIM: k8s::resource::v1::ResourceClaim =
        "resource.k8s.io" / "v1" "ResourceClaim" ("resourceclaims", "resourceclaim") Namespaced
        short &[], categories &[], verbs ALL_VERBS, storage "resourceclaims", stored_as None,
        subresources &[sub("status", "ResourceClaim", GET_PATCH_UPDATE)];
    RESOURCE_CLAIM_TEMPLATE: k8s::resource::v1::ResourceClaimTemplate =
        "resource.k8s.io" / "v1" "ResourceClaimTemplate" ("resourceclaimtemplates", "resourceclaimtemplate") Namespaced
        short &[], categories &[], verbs ALL_VERBS, storage "resourceclaimtemplates", stored_as None, subresources &[];
    RESOURCE_SLICE: k8s::resource::v1::ResourceSlice =
        "resource.k8s.io" / "v1" "ResourceSlice" ("resourceslices", "resourceslice") Cluster
        short &[], categories &[], verbs ALL_VERBS, storage "resourceslices", stored_as None, subresources &[];

    FLOW_SCHEMA: k8s::flowcontrol::v1::FlowSchema =
        "flowcontrol.apiserver.k8s.io" / "v1" "FlowSchema" ("flowschemas", "flowschema") Cluster
        short &[], categories &[], verbs ALL_VERBS, storage "flowschemas", stored_as None,
        subresources &[sub("status", "FlowSchema", GET_PATCH_UPDATE)];
    PRIORITY_LEVEL_CONFIGURATION: k8s::flowcontrol::v1::PriorityLevelConfiguration =
        "flowcontrol.apiserver.k8s.io" / "v1" "PriorityLevelConfiguration" ("prioritylevelconfigurations", "prioritylevelconfiguration") Cluster
        short &[], categories &[], verbs ALL_VERBS, storage "prioritylevelconfigurations", stored_as None,
        subresources &[sub("status", "PriorityLevelConfiguration", GET_PATCH_UPDATE)];
}
