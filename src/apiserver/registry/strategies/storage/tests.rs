//! Volumes, claims and classes against what upstream's validation says of the same objects.

use api::kinds::{
    CSI_DRIVER, CSI_NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, STORAGE_CLASS, VOLUME_ATTACHMENT,
    VOLUME_ATTRIBUTES_CLASS,
};
use client::ObjectRef;
use serde_json::{Value, json};

use crate::testing::Harness;

fn volume(name: &str, change: impl Fn(&mut Value)) -> Value {
    let mut volume = json!({
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"},
        },
    });
    change(&mut volume);
    volume
}

fn claim(name: &str, change: impl Fn(&mut Value)) -> Value {
    let mut claim = json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    change(&mut claim);
    claim
}

#[tokio::test]
async fn faults_of_volumes_are_upstreams() {
    let h = Harness::start().await;
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (
            json!({"metadata": {"name": "a"}, "spec": {}}),
            vec![
                "spec.accessModes: Required value",
                "spec.capacity: Required value",
                "spec.capacity: Unsupported value: null: supported values: \"storage\"",
                "spec: Required value: must specify a volume type",
            ],
        ),
        (
            volume("a", |one| one["spec"]["nfs"] = json!({"server": "s", "path": "p"})),
            vec!["spec.nfs: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            volume("a", |one| {
                one["spec"]["accessModes"] = json!(["ReadWriteOnce", "ReadWriteOncePod", "Never"])
            }),
            vec![
                "spec.accessModes: Unsupported value: \"Never\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            ],
        ),
        (
            volume("a", |one| one["spec"]["capacity"] = json!({"storage": "0"})),
            vec!["spec.capacity[storage]: Invalid value: \"0\": must be greater than zero"],
        ),
        (
            volume("a", |one| one["spec"]["hostPath"] = json!({"path": "/a/..", "type": "Pipe"})),
            vec![
                "spec.hostPath.path: Invalid value: \"/a/..\": must not contain '..'",
                "spec.hostPath.type: Unsupported value: \"Pipe\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            ],
        ),
        (
            volume("a", |one| {
                one["spec"]["hostPath"] = json!({"path": "/"});
                one["spec"]["persistentVolumeReclaimPolicy"] = json!("Recycle");
            }),
            vec![
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
            ],
        ),
        (
            volume("a", |one| {
                one["spec"]["hostPath"] = Value::Null;
                one["spec"]["local"] = json!({"path": "/mnt"});
            }),
            vec!["spec.nodeAffinity: Required value: Local volume requires node affinity"],
        ),
        (
            volume("a", |one| {
                one["spec"]["hostPath"] = Value::Null;
                one["spec"]["csi"] =
                    json!({"driver": "", "volumeHandle": "", "nodePublishSecretRef": {"name": "s"}});
            }),
            vec![
                "spec.csi.driver: Required value",
                "spec.csi.volumeHandle: Required value",
                "spec.csi.nodePublishSecretRef.namespace: Required value",
            ],
        ),
        (
            volume("a", |one| one["spec"]["volumeAttributesClassName"] = json!("gold")),
            vec!["spec.csi: Required value: has to be specified when using volumeAttributesClassName"],
        ),
        (
            volume("a", |one| {
                one["metadata"]["annotations"] = json!({"volume.beta.kubernetes.io/mount-options": "ro"});
            }),
            vec![
                "metadata.annotations.volume.beta.kubernetes.io/mount-options: Forbidden: may not specify mount options for this volume type",
            ],
        ),
    ];
    for (body, want) in cases {
        assert_eq!(h.try_create(&PERSISTENT_VOLUME, None, body).await.unwrap_err(), want);
    }
    h.stop().await;
}

#[tokio::test]
async fn a_volume_keeps_its_source_and_knows_since_when_it_is_in_its_phase() {
    let h = Harness::start().await;
    let made = h.try_create(&PERSISTENT_VOLUME, None, volume("a", |_| {})).await.unwrap();
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(made["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert!(made["status"]["lastPhaseTransitionTime"].is_string(), "{made}");
    let at = ObjectRef::new(None, "a");
    let change = json!({"spec": {"hostPath": {"path": "/other"}, "volumeMode": "Block"}});
    assert_eq!(
        h.try_patch(&PERSISTENT_VOLUME, at, change).await.unwrap_err(),
        [
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n- spec.persistentvolumesource.hostPath.path: \"/data\"\n+ spec.persistentvolumesource.hostPath.path: \"/other\"",
            "volumeMode: Invalid value: \"Block\": field is immutable",
        ]
    );
    let long_ago = "2020-01-01T00:00:00Z";
    let bound =
        json!({"status": {"phase": "Bound", "lastPhaseTransitionTime": long_ago}, "spec": {"capacity": {}}});
    let told = h.try_patch(&PERSISTENT_VOLUME, at.sub("status"), bound).await.unwrap();
    assert_eq!(told["status"]["lastPhaseTransitionTime"], long_ago);
    assert_eq!(told["spec"]["capacity"]["storage"], "10Gi");
    let released = json!({"status": {"phase": "Released"}});
    let told = h.try_patch(&PERSISTENT_VOLUME, at.sub("status"), released).await.unwrap();
    assert_ne!(told["status"]["lastPhaseTransitionTime"], long_ago);
    h.stop().await;
}

#[tokio::test]
async fn faults_of_claims_are_upstreams() {
    let h = Harness::start().await;
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (
            json!({"metadata": {"name": "a"}, "spec": {}}),
            vec![
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Required value",
            ],
        ),
        (
            claim("a", |one| {
                one["spec"]["resources"]["requests"]["storage"] = json!("-1");
                one["spec"]["volumeMode"] = json!("Tape");
            }),
            vec![
                "spec.resources[storage]: Invalid value: \"-1\": must be greater than zero",
                "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
            ],
        ),
        (
            claim("a", |one| one["spec"]["dataSourceRef"] = json!({"kind": "Pod", "name": "p"})),
            vec![
                "spec.dataSource: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                "spec.dataSourceRef: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            ],
        ),
    ];
    for (body, want) in cases {
        let refused = h.try_create(&PERSISTENT_VOLUME_CLAIM, Some("default"), body).await.unwrap_err();
        assert_eq!(refused, want);
    }
    // What was never understood in this field is dropped; what is, goes into the newer one too.
    let body = claim("dropped", |one| one["spec"]["dataSource"] = json!({"kind": "Pod", "name": "p"}));
    let made = h.try_create(&PERSISTENT_VOLUME_CLAIM, Some("default"), body).await.unwrap();
    assert!(made["spec"]["dataSource"].is_null(), "{made}");
    let source = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
    let body = claim("restored", |one| one["spec"]["dataSource"] = source.clone());
    let made = h.try_create(&PERSISTENT_VOLUME_CLAIM, Some("default"), body).await.unwrap();
    assert_eq!(made["spec"]["dataSourceRef"], source);
    h.stop().await;
}

#[tokio::test]
async fn a_bound_claim_may_grow_and_nothing_else() {
    let h = Harness::start().await;
    let here = Some("default");
    let class =
        json!({"metadata": {"name": "fast"}, "provisioner": "csi.example.com", "allowVolumeExpansion": true});
    h.try_create(&STORAGE_CLASS, None, class).await.unwrap();
    let body = claim("a", |one| one["spec"]["storageClassName"] = json!("fast"));
    let made = h.try_create(&PERSISTENT_VOLUME_CLAIM, here, body).await.unwrap();
    assert_eq!(made["status"]["phase"], "Pending");
    let at = ObjectRef::new(here, "a");
    let size = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let refused = h.try_patch(&PERSISTENT_VOLUME_CLAIM, at, size("2Gi")).await.unwrap_err();
    assert_eq!(
        refused,
        [
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n- spec.resources.requests.storage: \"1Gi\"\n+ spec.resources.requests.storage: \"2Gi\""
        ]
    );
    h.try_patch(&PERSISTENT_VOLUME_CLAIM, at, json!({"spec": {"volumeName": "pv"}})).await.unwrap();
    let refused = h
        .try_patch(&PERSISTENT_VOLUME_CLAIM, at, json!({"spec": {"volumeName": "other"}}))
        .await
        .unwrap_err();
    assert!(refused[0].starts_with("spec: Forbidden: spec is immutable"), "{refused:?}");
    let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    h.try_patch(&PERSISTENT_VOLUME_CLAIM, at.sub("status"), bound).await.unwrap();
    h.try_patch(&PERSISTENT_VOLUME_CLAIM, at, size("3Gi")).await.unwrap();
    // A wish may be taken back down to what is there.
    h.try_patch(&PERSISTENT_VOLUME_CLAIM, at, size("2Gi")).await.unwrap();
    let refused = h.try_patch(&PERSISTENT_VOLUME_CLAIM, at, size("1Gi")).await.unwrap_err();
    assert_eq!(
        refused,
        ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
    );
    let status = json!({"status": {"allocatedResourceStatuses": {"cpu": "Growing"}}});
    let refused = h.try_patch(&PERSISTENT_VOLUME_CLAIM, at.sub("status"), status).await.unwrap_err();
    assert_eq!(refused.len(), 2, "{refused:?}");
    h.stop().await;
}

#[tokio::test]
async fn classes_never_change() {
    let h = Harness::start().await;
    let refused = h.try_create(
        &STORAGE_CLASS,
        None,
        json!({"metadata": {"name": "a"}, "provisioner": "",
        "reclaimPolicy": "Recycle", "volumeBindingMode": "Never",
        "allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": []}]}]}),
    );
    assert_eq!(
        refused.await.unwrap_err(),
        [
            "provisioner: Required value",
            "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            "volumeBindingMode: Unsupported value: \"Never\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
            "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
        ]
    );
    let class =
        json!({"metadata": {"name": "a"}, "provisioner": "CSI.example.com", "parameters": {"a": "b"}});
    let made = h.try_create(&STORAGE_CLASS, None, class).await.unwrap();
    assert_eq!((&made["reclaimPolicy"], &made["volumeBindingMode"]), (&json!("Delete"), &json!("Immediate")));
    let at = ObjectRef::new(None, "a");
    let change = json!({"parameters": {"a": "c"}, "provisioner": "other", "allowVolumeExpansion": true});
    assert_eq!(
        h.try_patch(&STORAGE_CLASS, at, change).await.unwrap_err(),
        [
            "parameters: Invalid value: {\"a\":\"c\"}: field is immutable",
            "provisioner: Invalid value: \"other\": field is immutable",
        ]
    );
    let refused =
        h.try_create(&VOLUME_ATTRIBUTES_CLASS, None, json!({"metadata": {"name": "a"}, "driverName": "d"}));
    assert_eq!(
        refused.await.unwrap_err(),
        ["parameters: Required value: must contain at least one key/value pair"]
    );
    h.stop().await;
}

#[tokio::test]
async fn drivers_and_attachments() {
    let h = Harness::start().await;
    let made = h.try_create(&CSI_DRIVER, None, json!({"metadata": {"name": "d"}, "spec": {}})).await.unwrap();
    assert_eq!(made["spec"]["volumeLifecycleModes"], json!(["Persistent"]));
    assert_eq!(made["metadata"]["generation"], 1);
    let at = ObjectRef::new(None, "d");
    let change = json!({"spec": {"attachRequired": false}});
    assert_eq!(
        h.try_patch(&CSI_DRIVER, at, change).await.unwrap_err(),
        ["spec.attachedRequired: Invalid value: false: field is immutable"]
    );
    let node = json!({"metadata": {"name": "n"}, "spec": {"drivers": [
        {"name": "a", "nodeID": "1"}, {"name": "a", "nodeID": "", "topologyKeys": ["k", "k"]},
    ]}});
    assert_eq!(
        h.try_create(&CSI_NODE, None, node).await.unwrap_err(),
        [
            "spec.drivers[1].nodeID: Required value",
            "spec.drivers[1].name: Duplicate value: \"a\"",
            "spec.drivers[1]: Duplicate value: \"k\"",
        ]
    );
    let attachment = |source: Value| json!({"metadata": {"name": "x"}, "spec": {"attacher": "d", "nodeName": "n", "source": source}});
    let refused = h.try_create(&VOLUME_ATTACHMENT, None, attachment(json!({}))).await.unwrap_err();
    assert_eq!(
        refused,
        [
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        ]
    );
    let named = attachment(json!({"persistentVolumeName": "pv"}));
    h.try_create(&VOLUME_ATTACHMENT, None, named).await.unwrap();
    let change = json!({"spec": {"nodeName": "m"}});
    let refused = h.try_patch(&VOLUME_ATTACHMENT, ObjectRef::new(None, "x"), change).await.unwrap_err();
    assert!(refused[0].starts_with("spec: Invalid value:") && refused[0].ends_with("field is immutable"));
    h.stop().await;
}
