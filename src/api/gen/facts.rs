//! What the machine-readable facts do not say: types with a JSON form of their own, which optional fields are
//! plain values rather than pointers upstream, and messages that no path mentions.

/// The table's own name of a type whose JSON form is not an object of its fields.
pub(crate) fn scalar(name: &str) -> Option<&'static str> {
    Some(match name {
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => "time",
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => "microtime",
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => "quantity",
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => "intorstring",
        "io.k8s.apimachinery.pkg.runtime.RawExtension" => "raw",
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1" => "fields",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON" => "json",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray" => "schemaorarray",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool" => "schemaorbool",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray" => {
            "schemaorstrings"
        }
        _ => return None,
    })
}

/// Optional numbers and booleans that upstream holds as plain values: 0 and false are left out of its JSON.
/// All others are pointers, whose 0 and false mean something.
const VALUES: &[&str] = &[
    "*.stdin",
    "*.stdinOnce",
    "*.tty",
    "*.minReadySeconds",
    "*.observedGeneration",
    "*.readyReplicas",
    "*.availableReplicas",
    "*.updatedReplicas",
    "*.currentReplicas",
    "*.unavailableReplicas",
    "*.fullyLabeledReplicas",
    "*.numberAvailable",
    "*.numberUnavailable",
    "*.updatedNumberScheduled",
    "*.chapAuthDiscovery",
    "*.chapAuthSession",
    "*.sslEnabled",
    "*.deprecatedCount",
    "AWSElasticBlockStoreVolumeSource.partition",
    "AWSElasticBlockStoreVolumeSource.readOnly",
    "APIServiceSpec.insecureSkipTLSVerify",
    "AzureFilePersistentVolumeSource.readOnly",
    "AzureFileVolumeSource.readOnly",
    "CSIPersistentVolumeSource.readOnly",
    "CephFSPersistentVolumeSource.readOnly",
    "CephFSVolumeSource.readOnly",
    "CinderPersistentVolumeSource.readOnly",
    "CinderVolumeSource.readOnly",
    "ContainerImage.sizeBytes",
    "ContainerPort.hostPort",
    "ContainerStateTerminated.signal",
    "CustomResourceColumnDefinition.priority",
    "CustomResourceDefinitionSpec.preserveUnknownFields",
    "CustomResourceDefinitionVersion.deprecated",
    "DeploymentSpec.paused",
    "DeploymentStatus.replicas",
    "Event.count",
    "EventSeries.count",
    "ExactDeviceRequest.count",
    "DeviceSubRequest.count",
    "FCVolumeSource.readOnly",
    "FlexPersistentVolumeSource.readOnly",
    "FlexVolumeSource.readOnly",
    "FlowSchemaSpec.matchingPrecedence",
    "GCEPersistentDiskVolumeSource.partition",
    "GCEPersistentDiskVolumeSource.readOnly",
    "GlusterfsVolumeSource.readOnly",
    "ISCSIPersistentVolumeSource.readOnly",
    "ISCSIVolumeSource.readOnly",
    "JSONSchemaProps.exclusiveMaximum",
    "JSONSchemaProps.exclusiveMinimum",
    "JSONSchemaProps.nullable",
    "JSONSchemaProps.uniqueItems",
    "JSONSchemaProps.x-kubernetes-embedded-resource",
    "JSONSchemaProps.x-kubernetes-int-or-string",
    "JobStatus.active",
    "JobStatus.failed",
    "JobStatus.succeeded",
    "ListOptions.allowWatchBookmarks",
    "ListOptions.limit",
    "ListOptions.watch",
    "NFSVolumeSource.readOnly",
    "NodeSpec.unschedulable",
    "ObjectMeta.generation",
    "PersistentVolumeClaimVolumeSource.readOnly",
    "PodAttachOptions.stderr",
    "PodAttachOptions.stdout",
    "PodExecOptions.stderr",
    "PodExecOptions.stdout",
    "PodLogOptions.follow",
    "PodLogOptions.insecureSkipTLSVerifyBackend",
    "PodLogOptions.previous",
    "PodLogOptions.timestamps",
    "PodSpec.hostIPC",
    "PodSpec.hostNetwork",
    "PodSpec.hostPID",
    "PortworxVolumeSource.readOnly",
    "PriorityClass.globalDefault",
    "Probe.failureThreshold",
    "Probe.initialDelaySeconds",
    "Probe.periodSeconds",
    "Probe.successThreshold",
    "Probe.timeoutSeconds",
    "QueuingConfiguration.handSize",
    "QueuingConfiguration.queueLengthLimit",
    "QueuingConfiguration.queues",
    "QuobyteVolumeSource.readOnly",
    "RBDPersistentVolumeSource.readOnly",
    "RBDVolumeSource.readOnly",
    "ResourcePolicyRule.clusterScope",
    "ScaleIOPersistentVolumeSource.readOnly",
    "ScaleIOVolumeSource.readOnly",
    "ScaleSpec.replicas",
    "ServiceBackendPort.number",
    "ServicePort.nodePort",
    "ServiceSpec.healthCheckNodePort",
    "ServiceSpec.publishNotReadyAddresses",
    "Status.code",
    "StatusDetails.retryAfterSeconds",
    "StorageOSPersistentVolumeSource.readOnly",
    "StorageOSVolumeSource.readOnly",
    "SubjectAccessReviewStatus.denied",
    "TokenReviewStatus.authenticated",
    "VolumeMount.readOnly",
    "VolumeMountStatus.readOnly",
];

/// Optional strings that are pointers upstream and whose empty value means something.
const MEANINGFUL_EMPTY: &[&str] = &[
    "*.storageClassName",
    "*.volumeAttributesClassName",
    "TypedLocalObjectReference.apiGroup",
    "TypedObjectReference.apiGroup",
    "IngressClassParametersReference.apiGroup",
    "HostPathVolumeSource.type",
    "GRPCAction.service",
    "EndpointPort.name",
    "LeaseSpec.holderIdentity",
    "CronJobSpec.timeZone",
    "JobSpec.managedBy",
    "JobStatus.failedIndexes",
    "SuccessPolicyRule.succeededIndexes",
    "DeviceAttribute.string",
    "DeviceAttribute.version",
    "JSONSchemaProps.title",
];

/// Optional objects and times that upstream holds as plain values: they are there even if nothing is in them,
/// so whoever fills one in has not added it. Objects named `metadata`, `spec` and `status` are, with the
/// exceptions below.
const EMBEDDED: &[&str] = &[
    "APIGroup.preferredVersion",
    "AllocationResult.devices",
    "CertificateSigningRequestCondition.lastUpdateTime",
    "Container.resources",
    "ContainerStateRunning.startedAt",
    "ContainerStateTerminated.finishedAt",
    "ContainerStateTerminated.startedAt",
    "ContainerStatus.lastState",
    "ContainerStatus.state",
    "CustomResourceDefinitionStatus.acceptedNames",
    "DaemonSetSpec.updateStrategy",
    "DeploymentCondition.lastUpdateTime",
    "DeploymentSpec.strategy",
    "Endpoint.conditions",
    "EphemeralContainer.resources",
    "Event.deprecatedFirstTimestamp",
    "Event.deprecatedLastTimestamp",
    "Event.deprecatedSource",
    "Event.eventTime",
    "Event.firstTimestamp",
    "Event.lastTimestamp",
    "Event.regarding",
    "Event.source",
    "EventSeries.lastObservedTime",
    "IngressServiceBackend.port",
    "IngressStatus.loadBalancer",
    "JobCondition.lastProbeTime",
    "LimitedPriorityLevelConfiguration.limitResponse",
    "NetworkPolicySpec.podSelector",
    "NodeCondition.lastHeartbeatTime",
    "NodeDaemonEndpoints.kubeletEndpoint",
    "NodeStatus.daemonEndpoints",
    "NodeStatus.nodeInfo",
    "PersistentVolumeClaimCondition.lastProbeTime",
    "PersistentVolumeClaimSpec.resources",
    "PodCondition.lastProbeTime",
    "PodTemplate.template",
    "ReplicaSetSpec.template",
    "ResourceClaimSpec.devices",
    "SelfSubjectReviewStatus.userInfo",
    "ServiceStatus.loadBalancer",
    "StatefulSetSpec.updateStrategy",
    "TokenReviewStatus.user",
    "VolumeError.time",
    "*.lastTransitionTime",
];

/// Objects named as the parts of every kind that are pointers all the same.
const POINTERS: &[&str] = &["CustomResourceSubresources.status", "ResourcePoolStatusRequest.status"];

/// Whether an optional object or time is there even if it is empty.
pub(crate) fn is_embedded(owner: &str, field: &str, ty: &str) -> bool {
    let listed = |list: &[&str]| is_listed(list, owner, field);
    match ty {
        "time" | "microtime" => listed(EMBEDDED),
        _ if !ty.starts_with('@') => false,
        _ if matches!(field, "metadata" | "spec" | "status") => !listed(POINTERS),
        _ => listed(EMBEDDED),
    }
}

fn is_listed(list: &[&str], owner: &str, field: &str) -> bool {
    list.iter()
        .any(|one| one.split_once('.').is_some_and(|(ty, name)| name == field && (ty == "*" || ty == owner)))
}

/// Whether the zero value of an optional field is left out.
pub(crate) fn is_omitted_when_zero(owner: &str, field: &str, kind: Option<&str>) -> bool {
    let listed = |list: &[&str]| is_listed(list, owner, field);
    match kind {
        Some("boolean" | "integer" | "number") => listed(VALUES),
        Some("string") => !listed(MEANINGFUL_EMPTY),
        Some("array" | "object") => true,
        _ => false,
    }
}

/// Messages that no JSON definition describes but clients send or get: short name, and the group and version
/// under which a kind of that name is known (`*`: in every group).
pub(crate) const MESSAGE_ONLY: &[(&str, &str, &str)] = &[
    ("api.apidiscovery.v2.APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2"),
    ("api.core.v1.List", "", "v1"),
    ("api.core.v1.NodeProxyOptions", "", "v1"),
    ("api.core.v1.PodAttachOptions", "", "v1"),
    ("api.core.v1.PodExecOptions", "", "v1"),
    ("api.core.v1.PodLogOptions", "", "v1"),
    ("api.core.v1.PodPortForwardOptions", "", "v1"),
    ("api.core.v1.PodProxyOptions", "", "v1"),
    ("api.core.v1.RangeAllocation", "", "v1"),
    ("api.core.v1.SerializedReference", "", "v1"),
    ("api.core.v1.ServiceProxyOptions", "", "v1"),
    ("apimachinery.pkg.apis.meta.v1.CreateOptions", "*", "v1"),
    ("apimachinery.pkg.apis.meta.v1.GetOptions", "*", "v1"),
    ("apimachinery.pkg.apis.meta.v1.ListOptions", "*", "v1"),
    ("apimachinery.pkg.apis.meta.v1.PartialObjectMetadata", "*", "v1"),
    ("apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList", "*", "v1"),
    ("apimachinery.pkg.apis.meta.v1.PatchOptions", "*", "v1"),
    ("apimachinery.pkg.apis.meta.v1.UpdateOptions", "*", "v1"),
];

/// Inline fields of messages that no JSON definition describes (for the others the definition shows them).
pub(crate) const INLINE_IN_MESSAGE_ONLY: &[(&str, &str)] =
    &[("api.admissionregistration.v1.RuleWithOperations", "rule")];
