//! The defaults that are one literal for one field, by type.

use super::Literal::{self, Bool, Empty, Int, Text};

pub(super) const LITERALS: &[(&str, &[(&str, Literal)])] = &[
    (
        "api.admissionregistration.v1.MatchResources",
        &[("matchPolicy", Text("Equivalent")), ("namespaceSelector", Empty), ("objectSelector", Empty)],
    ),
    ("api.admissionregistration.v1.MutatingAdmissionPolicySpec", FAIL),
    ("api.admissionregistration.v1.MutatingWebhook", WEBHOOK),
    ("api.admissionregistration.v1.MutatingWebhook", &[("reinvocationPolicy", Text("Never"))]),
    ("api.admissionregistration.v1.NamedRuleWithOperations", ALL_SCOPES),
    ("api.admissionregistration.v1.RuleWithOperations", ALL_SCOPES),
    ("api.admissionregistration.v1.ServiceReference", &[("port", Int(443))]),
    ("api.admissionregistration.v1.ValidatingAdmissionPolicySpec", FAIL),
    ("api.admissionregistration.v1.ValidatingWebhook", WEBHOOK),
    ("api.apps.v1.DaemonSet", SPEC),
    ("api.apps.v1.DaemonSetSpec", &[("revisionHistoryLimit", Int(10)), ("template", Empty)]),
    ("api.apps.v1.Deployment", SPEC),
    (
        "api.apps.v1.DeploymentSpec",
        &[
            ("progressDeadlineSeconds", Int(600)),
            ("replicas", Int(1)),
            ("revisionHistoryLimit", Int(10)),
            ("strategy", Empty),
            ("template", Empty),
        ],
    ),
    ("api.apps.v1.ReplicaSet", SPEC),
    ("api.apps.v1.ReplicaSetSpec", &[("replicas", Int(1)), ("template", Empty)]),
    ("api.apps.v1.StatefulSet", SPEC),
    (
        "api.apps.v1.StatefulSetSpec",
        &[
            ("podManagementPolicy", Text("OrderedReady")),
            ("replicas", Int(1)),
            ("revisionHistoryLimit", Int(10)),
            ("persistentVolumeClaimRetentionPolicy", Empty),
            ("template", Empty),
        ],
    ),
    (
        "api.apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy",
        &[("whenDeleted", Text("Retain")), ("whenScaled", Text("Retain"))],
    ),
    ("api.authentication.v1.TokenRequestSpec", &[("expirationSeconds", Int(3600))]),
    ("api.autoscaling.v1.HorizontalPodAutoscaler", SPEC),
    ("api.autoscaling.v1.HorizontalPodAutoscalerSpec", &[("minReplicas", Int(1))]),
    ("api.autoscaling.v2.HorizontalPodAutoscaler", SPEC),
    ("api.autoscaling.v2.HorizontalPodAutoscalerSpec", &[("minReplicas", Int(1))]),
    ("api.batch.v1.CronJob", SPEC),
    (
        "api.batch.v1.CronJobSpec",
        &[
            ("jobTemplate", Empty),
            ("concurrencyPolicy", Text("Allow")),
            ("failedJobsHistoryLimit", Int(1)),
            ("successfulJobsHistoryLimit", Int(3)),
            ("suspend", Bool(false)),
        ],
    ),
    ("api.batch.v1.Job", SPEC),
    ("api.batch.v1.JobSpec", &[("template", Empty)]),
    ("api.batch.v1.JobTemplateSpec", SPEC),
    ("api.batch.v1.PodFailurePolicyOnPodConditionsPattern", &[("status", Text("True"))]),
    (
        "api.core.v1.AzureDiskVolumeSource",
        &[
            ("cachingMode", Text("ReadWrite")),
            ("fsType", Text("ext4")),
            ("kind", Text("Shared")),
            ("readOnly", Bool(false)),
        ],
    ),
    ("api.core.v1.ConfigMapVolumeSource", MODE),
    ("api.core.v1.Container", CONTAINER),
    ("api.core.v1.ContainerPort", TCP),
    ("api.core.v1.DownwardAPIVolumeSource", MODE),
    ("api.core.v1.EndpointPort", TCP),
    ("api.core.v1.EphemeralContainer", CONTAINER),
    ("api.core.v1.FileKeySelector", &[("optional", Bool(false))]),
    ("api.core.v1.GRPCAction", &[("service", Text(""))]),
    ("api.core.v1.HTTPGetAction", &[("path", Text("/")), ("scheme", Text("HTTP"))]),
    ("api.core.v1.HostPathVolumeSource", &[("type", Text(""))]),
    ("api.core.v1.ISCSIPersistentVolumeSource", &[("iscsiInterface", Text("default"))]),
    ("api.core.v1.ISCSIVolumeSource", &[("iscsiInterface", Text("default"))]),
    ("api.core.v1.ObjectFieldSelector", &[("apiVersion", Text("v1"))]),
    ("api.core.v1.PersistentVolumeClaimSpec", &[("volumeMode", Text("Filesystem"))]),
    (
        "api.core.v1.PersistentVolumeSpec",
        &[("persistentVolumeReclaimPolicy", Text("Retain")), ("volumeMode", Text("Filesystem"))],
    ),
    (
        "api.core.v1.PodSpec",
        &[
            ("dnsPolicy", Text("ClusterFirst")),
            ("restartPolicy", Text("Always")),
            ("schedulerName", Text("default-scheduler")),
            ("securityContext", Empty),
            ("terminationGracePeriodSeconds", Int(30)),
        ],
    ),
    ("api.core.v1.PodTemplate", &[("template", Empty)]),
    ("api.core.v1.PodTemplateSpec", SPEC),
    (
        "api.core.v1.Probe",
        &[
            ("failureThreshold", Int(3)),
            ("periodSeconds", Int(10)),
            ("successThreshold", Int(1)),
            ("timeoutSeconds", Int(1)),
        ],
    ),
    ("api.core.v1.ProjectedVolumeSource", MODE),
    ("api.core.v1.RBDPersistentVolumeSource", RBD),
    ("api.core.v1.RBDVolumeSource", RBD),
    ("api.core.v1.ReplicationController", SPEC),
    ("api.core.v1.ReplicationControllerSpec", &[("replicas", Int(1))]),
    ("api.core.v1.ScaleIOPersistentVolumeSource", SCALE_IO),
    ("api.core.v1.ScaleIOVolumeSource", SCALE_IO),
    ("api.core.v1.Secret", &[("type", Text("Opaque"))]),
    ("api.core.v1.SecretVolumeSource", MODE),
    ("api.core.v1.ServiceAccountTokenProjection", &[("expirationSeconds", Int(3600))]),
    ("api.core.v1.ServicePort", TCP),
    ("api.core.v1.ServiceSpec", &[("sessionAffinity", Text("None")), ("type", Text("ClusterIP"))]),
    ("api.discovery.v1.EndpointPort", &[("name", Text("")), ("protocol", Text("TCP"))]),
    (
        "api.flowcontrol.v1.ExemptPriorityLevelConfiguration",
        &[("lendablePercent", Int(0)), ("nominalConcurrencyShares", Int(0))],
    ),
    (
        "api.flowcontrol.v1.LimitedPriorityLevelConfiguration",
        &[("lendablePercent", Int(0)), ("nominalConcurrencyShares", Int(30))],
    ),
    ("api.networking.v1.IngressClassParametersReference", &[("scope", Text("Cluster"))]),
    ("api.networking.v1.NetworkPolicyPort", TCP),
    ("api.policy.v1.PodDisruptionBudget", SPEC),
    ("api.rbac.v1.RoleRef", &[("apiGroup", Text(RBAC))]),
    ("api.scheduling.v1.PriorityClass", &[("preemptionPolicy", Text("PreemptLowerPriority"))]),
    (
        "api.storage.v1.CSIDriverSpec",
        &[
            ("attachRequired", Bool(true)),
            ("fsGroupPolicy", Text("ReadWriteOnceWithFSType")),
            ("podInfoOnMount", Bool(false)),
            ("requiresRepublish", Bool(false)),
            ("seLinuxMount", Bool(false)),
            ("storageCapacity", Bool(false)),
        ],
    ),
    (
        "api.storage.v1.StorageClass",
        &[("reclaimPolicy", Text("Delete")), ("volumeBindingMode", Text("Immediate"))],
    ),
    ("kube-aggregator.pkg.apis.apiregistration.v1.ServiceReference", &[("port", Int(443))]),
];

pub(super) const RBAC: &str = "rbac.authorization.k8s.io";
// As with `resources` of containers: structs that Go always writes, and whose own defaults apply though
// nobody named them.
const SPEC: &[(&str, Literal)] = &[("spec", Empty)];
const TCP: &[(&str, Literal)] = &[("protocol", Text("TCP"))];
const MODE: &[(&str, Literal)] = &[("defaultMode", Int(0o644))];
const RBD: &[(&str, Literal)] =
    &[("keyring", Text("/etc/ceph/keyring")), ("pool", Text("rbd")), ("user", Text("admin"))];
const SCALE_IO: &[(&str, Literal)] = &[("fsType", Text("xfs")), ("storageMode", Text("ThinProvisioned"))];
const CONTAINER: &[(&str, Literal)] = &[
    // Not a default upstream but a struct that Go always writes: every reader may rely on it.
    ("resources", Empty),
    ("terminationMessagePath", Text("/dev/termination-log")),
    ("terminationMessagePolicy", Text("File")),
];
const ALL_SCOPES: &[(&str, Literal)] = &[("scope", Text("*"))];
const FAIL: &[(&str, Literal)] = &[("failurePolicy", Text("Fail"))];
const WEBHOOK: &[(&str, Literal)] = &[
    ("failurePolicy", Text("Fail")),
    ("matchPolicy", Text("Equivalent")),
    ("namespaceSelector", Empty),
    ("objectSelector", Empty),
    ("timeoutSeconds", Int(10)),
];
