//! The strategy of each kind, one file a kind (or a family of kinds that differ in little).
//!
//! Rules and messages are those of upstream's `pkg/apis/*/validation` and `pkg/registry/*/strategy.go`, for
//! what a user is likely to get wrong.

pub(crate) mod admission_registration;
mod api_service;
mod autoscaler;
mod certificate_signing_request;
mod component_status;
mod config_map;
mod controller_revision;
mod cron_job;
mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod disruption_budget;
mod endpoint_slice;
pub(crate) mod endpoints;
mod event;
pub(crate) mod flow_control;
pub(crate) mod ingress;
pub(crate) mod ip_address;
mod job;
mod lease;
mod limit_range;
mod namespace;
mod network_policy;
pub(crate) mod node;
mod parts;
pub(crate) mod pod;
mod pod_template;
mod pod_templates;
pub(crate) mod priority_class;
mod rbac;
mod replica_set;
mod replication_controller;
mod resource;
mod resource_names;
mod resource_quota;
mod rollout;
mod rules;
mod runtime_class;
mod secret;
pub(crate) mod service;
mod service_account;
pub(crate) mod service_cidr;
mod stateful_set;
mod storage;

use std::sync::Arc;

use api::KindRow;

use crate::strategy::Strategy;
pub(super) use parts::keep_metadata;
use parts::{count, default_to, differences, flag, items_mut, keep, non_negative, object, typed};

/// A kind without rules of its own.
pub(crate) struct Plain;

impl Strategy for Plain {}

/// Whether deleting an object of this kind answers with the object, as upstream's `ReturnDeletedObject`,
/// rather than with a Status.
pub(crate) fn returns_deleted_object(row: &KindRow) -> bool {
    match &*row.group {
        "" => matches!(
            &*row.kind,
            "Namespace"
                | "PersistentVolume"
                | "PersistentVolumeClaim"
                | "Pod"
                | "PodTemplate"
                | "ResourceQuota"
                | "Service"
                | "ServiceAccount"
        ),
        "storage.k8s.io" => row.kind != "CSIStorageCapacity",
        "resource.k8s.io" => true,
        _ => false,
    }
}

/// The strategy of a row.
pub(crate) fn for_row(row: &KindRow) -> Arc<dyn Strategy> {
    match (&*row.group, &*row.kind) {
        ("", "Namespace") => Arc::new(namespace::Namespaces),
        ("", "Node") => Arc::new(node::Nodes),
        ("", "Pod") => Arc::new(pod::Pods),
        ("" | "events.k8s.io", "Event") => Arc::new(event::Events),
        ("", "Service") => Arc::new(service::Services),
        ("", "Endpoints") => Arc::new(endpoints::EndpointsStrategy),
        ("discovery.k8s.io", "EndpointSlice") => Arc::new(endpoint_slice::EndpointSlices),
        ("", "ConfigMap") => Arc::new(config_map::ConfigMaps),
        ("", "Secret") => Arc::new(secret::Secrets),
        ("", "ServiceAccount") => Arc::new(service_account::ServiceAccounts),
        ("coordination.k8s.io", "Lease") => Arc::new(lease::Leases),
        ("", "PodTemplate") => Arc::new(pod_templates::PodTemplates),
        ("", "ReplicationController") => Arc::new(replication_controller::ReplicationControllers),
        ("", "ComponentStatus") => Arc::new(component_status::ComponentStatuses),
        ("autoscaling", "HorizontalPodAutoscaler") => Arc::new(autoscaler::Autoscalers),
        ("apps", "ControllerRevision") => Arc::new(controller_revision::ControllerRevisions),
        ("apps", "DaemonSet") => Arc::new(daemon_set::DaemonSets),
        ("apps", "StatefulSet") => Arc::new(stateful_set::StatefulSets),
        ("batch", "CronJob") => Arc::new(cron_job::CronJobs),
        ("batch", "Job") => Arc::new(job::Jobs),
        ("policy", "PodDisruptionBudget") => Arc::new(disruption_budget::DisruptionBudgets),
        ("apps", "Deployment") => Arc::new(deployment::Deployments),
        ("apps", "ReplicaSet") => Arc::new(replica_set::ReplicaSets),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => Arc::new(rbac::Roles),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => Arc::new(rbac::Bindings),
        ("networking.k8s.io", "IPAddress") => Arc::new(ip_address::IpAddresses),
        ("networking.k8s.io", "ServiceCIDR") => Arc::new(service_cidr::ServiceCidrs),
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            Arc::new(certificate_signing_request::Requests)
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            Arc::new(custom_resource_definition::Definitions)
        }
        ("", "PersistentVolume") => Arc::new(storage::Volumes),
        ("", "PersistentVolumeClaim") => Arc::new(storage::Claims),
        ("storage.k8s.io", "StorageClass") => Arc::new(storage::StorageClasses),
        ("storage.k8s.io", "VolumeAttributesClass") => Arc::new(storage::VolumeAttributesClasses),
        ("storage.k8s.io", "VolumeAttachment") => Arc::new(storage::VolumeAttachments),
        ("storage.k8s.io", "CSIDriver") => Arc::new(storage::CsiDrivers),
        ("storage.k8s.io", "CSINode") => Arc::new(storage::CsiNodes),
        ("storage.k8s.io", "CSIStorageCapacity") => Arc::new(storage::CsiStorageCapacities),
        ("", "ResourceQuota") => Arc::new(resource_quota::ResourceQuotas),
        ("", "LimitRange") => Arc::new(limit_range::LimitRanges),
        ("networking.k8s.io", "Ingress") => Arc::new(ingress::Ingresses),
        ("networking.k8s.io", "IngressClass") => Arc::new(ingress::IngressClasses),
        ("networking.k8s.io", "NetworkPolicy") => Arc::new(network_policy::NetworkPolicies),
        ("scheduling.k8s.io", "PriorityClass") => Arc::new(priority_class::PriorityClasses),
        ("node.k8s.io", "RuntimeClass") => Arc::new(runtime_class::RuntimeClasses),
        ("apiregistration.k8s.io", "APIService") => Arc::new(api_service::ApiServices),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => Arc::new(flow_control::FlowSchemas),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => {
            Arc::new(flow_control::PriorityLevels)
        }
        ("resource.k8s.io", "DeviceClass") => Arc::new(resource::DeviceClasses),
        ("resource.k8s.io", "ResourceClaim") => Arc::new(resource::ResourceClaims),
        ("resource.k8s.io", "ResourceClaimTemplate") => Arc::new(resource::ResourceClaimTemplates),
        ("resource.k8s.io", "ResourceSlice") => Arc::new(resource::ResourceSlices),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => {
            Arc::new(admission_registration::Policies("validations"))
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => {
            Arc::new(admission_registration::Policies("mutations"))
        }
        (
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding",
        ) => Arc::new(admission_registration::Bindings),
        ("admissionregistration.k8s.io", _) => Arc::new(admission_registration::Webhooks),
        _ => Arc::new(Plain),
    }
}
