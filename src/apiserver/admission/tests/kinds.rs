//! The plugins that look at accounts, limit ranges, classes, volumes and tolerations.

use api::kinds::{
    INGRESS, INGRESS_CLASS, LIMIT_RANGE, PERSISTENT_VOLUME_CLAIM, POD, PRIORITY_CLASS, RUNTIME_CLASS,
    SERVICE_ACCOUNT, STORAGE_CLASS,
};
use api::{CreateOptions, UpdateOptions};
use client::ObjectRef;
use serde_json::{Value, json};

use crate::admission::{PluginError, Plugins};
use crate::testing::{Harness, config, pod};

const HERE: Option<&str> = Some("default");

async fn start() -> Harness {
    let h = Harness::start().await;
    h.create(&SERVICE_ACCOUNT, HERE, json!({"metadata": {"name": "default"}})).await;
    h
}

fn claim(name: &str, size: &str) -> Value {
    json!({"metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}})
}

#[tokio::test]
async fn limit_ranges_fill_in_and_bound() {
    let h = start().await;
    let limits = json!([
        {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"},
            "maxLimitRequestRatio": {"cpu": "10"}},
        {"type": "Pod", "max": {"memory": "1Gi"}},
        {"type": "PersistentVolumeClaim", "min": {"storage": "2Gi"}, "max": {"storage": "4Gi"}},
    ]);
    h.create(&LIMIT_RANGE, HERE, json!({"metadata": {"name": "l"}, "spec": {"limits": limits}})).await;
    let mut body = pod("p");
    body["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "1Gi"}});
    let made = h.try_create(&POD, HERE, body).await.unwrap();
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}})
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let mut body = pod("q");
    body["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "10m"}, "limits": {"cpu": "2"}});
    assert_eq!(
        h.try_create(&POD, HERE, body).await.unwrap_err(),
        [
            "pods \"q\" is forbidden: [maximum cpu usage per Container is 1, but limit is 2, cpu max limit to request ratio per Container is 10, but provided ratio is 200.000000, maximum memory usage per Pod is 1Gi.  No limit is specified]"
        ]
    );
    for (size, want) in [
        ("1Gi", "minimum storage usage per PersistentVolumeClaim is 2Gi, but request is 1Gi"),
        ("5Gi", "maximum storage usage per PersistentVolumeClaim is 4Gi, but request is 5Gi"),
    ] {
        let refused = h.try_create(&PERSISTENT_VOLUME_CLAIM, HERE, claim("c", size)).await.unwrap_err();
        assert_eq!(refused, [format!("persistentvolumeclaims \"c\" is forbidden: {want}")]);
    }
    h.stop().await;
}

#[tokio::test]
async fn the_newest_default_class_is_taken() {
    let h = start().await;
    let mark = |kind: &str| json!({(format!("{kind}.kubernetes.io/is-default-class")): "true"});
    let made = h.try_create(&PERSISTENT_VOLUME_CLAIM, HERE, claim("none", "1Gi")).await.unwrap();
    assert!(made["spec"]["storageClassName"].is_null(), "{made}");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    for name in ["b", "a"] {
        let metadata = json!({"name": name, "annotations": mark("storageclass")});
        h.create(&STORAGE_CLASS, None, json!({"metadata": metadata, "provisioner": "p"})).await;
    }
    let made = h.try_create(&PERSISTENT_VOLUME_CLAIM, HERE, claim("some", "1Gi")).await.unwrap();
    assert!(made["spec"]["storageClassName"].is_string(), "{made}");
    let mut wanted = claim("without", "1Gi");
    wanted["spec"]["storageClassName"] = json!("");
    let made = h.try_create(&PERSISTENT_VOLUME_CLAIM, HERE, wanted).await.unwrap();
    assert_eq!(made["spec"]["storageClassName"], "");
    let metadata = json!({"name": "i", "annotations": mark("ingressclass")});
    h.create(&INGRESS_CLASS, None, json!({"metadata": metadata, "spec": {"controller": "k8s.io/x"}})).await;
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let body = json!({"metadata": {"name": "web"}, "spec": {"defaultBackend": backend}});
    assert_eq!(h.try_create(&INGRESS, HERE, body).await.unwrap()["spec"]["ingressClassName"], "i");
    h.stop().await;
}

#[tokio::test]
async fn claims_grow_where_their_class_allows_it() {
    let h = start().await;
    let class = |name: &str, grows: bool| json!({"metadata": {"name": name}, "provisioner": "p", "allowVolumeExpansion": grows});
    h.create(&STORAGE_CLASS, None, class("rigid", false)).await;
    let mut body = claim("c", "1Gi");
    body["spec"]["storageClassName"] = json!("rigid");
    h.create(&PERSISTENT_VOLUME_CLAIM, HERE, body).await;
    let at = ObjectRef::new(HERE, "c");
    let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    h.try_patch(&PERSISTENT_VOLUME_CLAIM, at.sub("status"), bound).await.unwrap();
    let more = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    assert_eq!(
        h.try_patch(&PERSISTENT_VOLUME_CLAIM, at, more.clone()).await.unwrap_err(),
        [
            "persistentvolumeclaims \"c\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
        ]
    );
    h.try_patch(&STORAGE_CLASS, ObjectRef::new(None, "rigid"), json!({"allowVolumeExpansion": true}))
        .await
        .unwrap();
    h.try_patch(&PERSISTENT_VOLUME_CLAIM, at, more).await.unwrap();
    h.stop().await;
}

#[tokio::test]
async fn an_update_without_the_priority_keeps_it() {
    let h = start().await;
    h.create(
        &PRIORITY_CLASS,
        None,
        json!({"metadata": {"name": "usual"}, "value": 7, "globalDefault": true}),
    )
    .await;
    let made = h.try_create(&POD, HERE, pod("p")).await.unwrap();
    assert_eq!(made["spec"]["priority"], 7);
    // As a file has it that was there before the class.
    let mut again = made.clone();
    let spec = again["spec"].as_object_mut().unwrap();
    spec.remove("priority");
    spec.remove("preemptionPolicy");
    again["metadata"]["labels"] = json!({"new": "label"});
    let at = ObjectRef::new(HERE, "p");
    let kept = h.api.update(&POD, at, again, &UpdateOptions::default()).await.unwrap().tree().unwrap();
    assert_eq!((&kept["spec"], &kept["metadata"]["labels"]["new"]), (&made["spec"], &json!("label")));
    h.stop().await;
}

#[tokio::test]
async fn pods_take_over_their_classes() {
    let h = start().await;
    let priority = json!({"metadata": {"name": "usual"}, "value": 7, "globalDefault": true});
    h.create(&PRIORITY_CLASS, None, priority).await;
    let runtime = json!({"metadata": {"name": "vm"}, "handler": "kata", "overhead": {"podFixed": {"cpu": "250m"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}});
    h.create(&RUNTIME_CLASS, None, runtime).await;
    let mut body = pod("p");
    body["spec"]["runtimeClassName"] = json!("vm");
    let made = h.try_create(&POD, HERE, body).await.unwrap();
    let spec = &made["spec"];
    assert_eq!((&spec["priority"], &spec["priorityClassName"]), (&json!(7), &json!("usual")));
    assert_eq!(spec["overhead"], json!({"cpu": "250m"}));
    assert_eq!(spec["nodeSelector"], json!({"vm": "yes"}));
    assert!(spec["tolerations"].as_array().unwrap().iter().any(|one| one["key"] == "vm"), "{spec}");
    for (change, want) in [
        (json!({"runtimeClassName": "no"}), "pod rejected: RuntimeClass \"no\" not found"),
        (json!({"priorityClassName": "no"}), "no PriorityClass with name no was found"),
        (
            json!({"overhead": {"cpu": "1"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}}),
            "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
        ),
    ] {
        let mut body = pod("q");
        for (key, value) in change.as_object().unwrap() {
            body["spec"][key] = value.clone();
        }
        assert_eq!(
            h.try_create(&POD, HERE, body).await.unwrap_err(),
            [format!("pods \"q\" is forbidden: {want}")]
        );
    }
    let second = json!({"metadata": {"name": "other"}, "value": 8, "globalDefault": true});
    assert_eq!(
        h.try_create(&PRIORITY_CLASS, None, second).await.unwrap_err(),
        [
            "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. Only one default can exist"
        ]
    );
    let kept = h
        .api
        .delete(&PRIORITY_CLASS, ObjectRef::new(None, "system-node-critical"), &api::DeleteOptions::default())
        .await
        .unwrap_err();
    assert!(kept.message().ends_with("this is a system priority class and cannot be deleted"), "{kept}");
    h.stop().await;
}

#[tokio::test]
async fn plugins_are_chosen_by_name() {
    let unknown = Plugins::choose(["PodSecurty"], []).unwrap_err();
    assert_eq!(unknown.to_string(), "enable-admission-plugins plugin \"PodSecurty\" is unknown");
    assert!(matches!(Plugins::choose(["Priority"], ["Priority"]), Err(PluginError::Overlap(_))));
    assert!(matches!(Plugins::choose(["ImagePolicyWebhook"], []), Err(PluginError::Absent(_))));
    let mut settings = config();
    settings.admission = Plugins::choose([], ["StorageObjectInUseProtection"]).unwrap();
    let h = Harness::with(settings).await;
    let made = h.try_create(&PERSISTENT_VOLUME_CLAIM, HERE, claim("c", "1Gi")).await.unwrap();
    assert!(made["metadata"]["finalizers"].is_null(), "{made}");
    h.stop().await;
}

#[tokio::test]
async fn an_update_keeps_the_tolerations_that_were_filled_in() {
    let h = start().await;
    let mut tree = h.create(&POD, HERE, pod("p")).await.tree().unwrap();
    let filled = tree["spec"]["tolerations"].as_array().unwrap().clone();
    assert_eq!(filled.len(), 2, "{filled:?}");
    let own = json!({"key": "own", "operator": "Equal", "value": "v", "effect": "NoSchedule"});
    tree["spec"]["tolerations"] = json!([own]);
    let at = ObjectRef::new(HERE, "p");
    let updated = h.api.update(&POD, at, tree, &UpdateOptions::default()).await.unwrap().tree().unwrap();
    let mut expected = vec![own];
    expected.extend(filled);
    assert_eq!(updated["spec"]["tolerations"], json!(expected));
    assert_eq!(updated["metadata"]["generation"], 2);
    h.stop().await;
}

#[tokio::test]
async fn a_pod_that_its_account_makes_too_large_is_refused() {
    let h = Harness::start().await;
    let secrets: Vec<Value> = (0..2600).map(|n| json!({"name": format!("{n}{}", "s".repeat(500))})).collect();
    let account = json!({"metadata": {"name": "default"}, "imagePullSecrets": secrets});
    h.create(&SERVICE_ACCOUNT, HERE, account).await;
    let mut body = pod("p");
    body["metadata"]["annotations"] = json!({"k": "x".repeat(250_000)});
    let own = json!([{"name": "own"}]);
    let error = h.api.create(&POD, HERE, body.clone(), &CreateOptions::default()).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (413, "RequestEntityTooLarge"));
    assert!(error.message().ends_with("is larger than the limit of 1572864"), "{error}");
    body["spec"]["imagePullSecrets"] = own.clone();
    assert_eq!(h.create(&POD, HERE, body).await.tree().unwrap()["spec"]["imagePullSecrets"], own);
    h.stop().await;
}
