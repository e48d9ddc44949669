//! What a node may not do with its certificate.

use std::sync::Arc;

use api::kinds::{CERTIFICATE_SIGNING_REQUEST, CONFIG_MAP, NAMESPACE, NODE, POD, SECRET, SERVICE_ACCOUNT};
use api::{CreateOptions, DeleteOptions, Identity, KindRow, Patch, UpdateOptions};
use client::{ApiFor, ObjectApi, ObjectRef};
use serde_json::{Value, json};

use crate::testing::{Harness, pod};

const HERE: Option<&str> = Some("default");

/// A cluster with two nodes, and a pod of the first and of the second.
async fn cluster() -> (Harness, Arc<dyn ObjectApi>, String) {
    let h = Harness::start().await;
    h.create(&SERVICE_ACCOUNT, HERE, json!({"metadata": {"name": "default"}})).await;
    let uid = h.create(&NODE, None, json!({"metadata": {"name": "n"}})).await.uid().to_string();
    h.create(&NODE, None, json!({"metadata": {"name": "m"}})).await;
    for (name, node) in [("mine", "n"), ("theirs", "m")] {
        let mut body = pod(name);
        body["spec"]["nodeName"] = json!(node);
        h.create(&POD, HERE, body).await;
    }
    let node = h.server.as_user(Identity::node("n"));
    (h, node, uid)
}

/// A mirror as kubelets make it, with a change.
fn mirror(uid: &str, change: impl Fn(&mut Value)) -> Value {
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": uid, "controller": true});
    let mut body = json!({
        "metadata": {
            "name": "mirror", "annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner],
        },
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
    });
    change(&mut body);
    body
}

async fn message(api: &Arc<dyn ObjectApi>, row: &KindRow, namespace: Option<&str>, body: Value) -> String {
    match api.create(row, namespace, body, &CreateOptions::default()).await {
        Ok(_) => "made".into(),
        Err(error) => error.message().to_string(),
    }
}

#[tokio::test]
async fn a_mirror_pod_names_nothing_of_the_api() {
    let (h, node, uid) = cluster().await;
    let env = |source: Value| json!([{"name": "A", "valueFrom": source}]);
    let key = json!({"name": "x", "key": "k"});
    let volume = |source: Value| {
        let mut volume = source;
        volume["name"] = json!("v");
        json!({"volumes": [volume]})
    };
    let projected = |source: Value| volume(json!({"projected": {"sources": [source]}}));
    let claim =
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}});
    let first = |list: &str, field: &str, value: Value| {
        let mut container = json!({"name": "d", "image": "i"});
        container[field] = value;
        json!({list: [container]})
    };
    let cases = [
        (json!({"serviceAccountName": "default"}), "serviceaccounts"),
        (json!({"imagePullSecrets": [{"name": "x"}]}), "secrets"),
        (first("containers", "env", env(json!({"secretKeyRef": key}))), "secrets"),
        (first("initContainers", "env", env(json!({"secretKeyRef": key}))), "secrets"),
        (first("containers", "envFrom", json!([{"secretRef": {"name": "x"}}])), "secrets"),
        (first("containers", "env", env(json!({"configMapKeyRef": key}))), "configmaps"),
        (first("containers", "envFrom", json!([{"configMapRef": {"name": "x"}}])), "configmaps"),
        (json!({"resourceClaims": [{"name": "r", "resourceClaimName": "x"}]}), "resourceclaims"),
        (volume(json!({"secret": {"secretName": "x"}})), "secrets"),
        (volume(json!({"configMap": {"name": "x"}})), "configmaps"),
        (projected(json!({"secret": {"name": "x"}})), "secrets"),
        (projected(json!({"configMap": {"name": "x"}})), "configmaps"),
        (projected(json!({"clusterTrustBundle": {"name": "x", "path": "p"}})), "clustertrustbundles"),
        (volume(json!({"persistentVolumeClaim": {"claimName": "x"}})), "persistentvolumeclaims"),
        (
            volume(json!({"ephemeral": {"volumeClaimTemplate": claim}})),
            "persistentvolumeclaims (via ephemeral volumes)",
        ),
        (volume(json!({"csi": {"driver": "d"}})), "csidrivers (via CSI volumes)"),
        (volume(json!({"csi": {"driver": "d", "nodePublishSecretRef": {"name": "x"}}})), "secrets"),
        (volume(json!({"azureFile": {"secretName": "x", "shareName": "s"}})), "secrets"),
        (
            volume(json!({"iscsi": {"targetPortal": "p", "iqn": "i", "lun": 0, "secretRef": {"name": "x"}}})),
            "secrets",
        ),
        (volume(json!({"glusterfs": {"endpoints": "e", "path": "p"}})), "endpoints (via glusterFS volumes)"),
    ];
    for (spec, what) in cases {
        let body = mirror(&uid, |body| {
            body["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        });
        // The plugin for service accounts comes first and has words of its own for two of them.
        let own = [
            format!("node \"n\" can not create pods that reference {what}"),
            "a mirror pod may not reference service accounts".into(),
        ];
        let found = message(&node, &POD, HERE, body).await;
        assert!(
            own.iter().any(|one| found == format!("pods \"mirror\" is forbidden: {one}")),
            "{spec}: {found}"
        );
    }
    let token = mirror(&uid, |body| {
        body["spec"]["volumes"] =
            json!([{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]);
    });
    assert!(message(&node, &POD, HERE, token).await.contains("is forbidden"));
    let harmless = mirror(&uid, |body| {
        body["spec"]["volumes"] =
            json!([{"name": "h", "hostPath": {"path": "/x"}}, {"name": "e", "emptyDir": {}}]);
    });
    assert_eq!(message(&node, &POD, HERE, harmless).await, "made");
    h.stop().await;
}

#[tokio::test]
async fn a_mirror_pod_is_owned_by_its_node() {
    let (h, node, uid) = cluster().await;
    let itself = "node \"n\" can only create pods with an owner reference set to itself";
    let owners = |body: &mut Value, owners: Value| body["metadata"]["ownerReferences"] = owners;
    let owner = |change: Value| {
        let mut owner = mirror(&uid, |_| {})["metadata"]["ownerReferences"][0].clone();
        owner.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!([owner])
    };
    let two = json!([owner(json!({}))[0], owner(json!({"name": "m", "controller": false}))[0]]);
    for (given, why) in [
        (json!([]), itself.to_string()),
        (two, "node \"n\" can only create pods with a single owner reference set to itself".into()),
        (owner(json!({"name": "m"})), itself.into()),
        (owner(json!({"kind": "ReplicaSet", "apiVersion": "apps/v1"})), itself.into()),
        (
            owner(json!({"controller": false})),
            "node \"n\" can only create pods with a controller owner reference set to itself".into(),
        ),
        (
            owner(json!({"blockOwnerDeletion": true})),
            "node \"n\" must not set blockOwnerDeletion on an owner reference".into(),
        ),
        (owner(json!({"uid": "other"})), format!("node n UID mismatch: expected other got {uid}")),
    ] {
        let body = mirror(&uid, |body| owners(body, given.clone()));
        let found = message(&node, &POD, HERE, body).await;
        assert_eq!(found, format!("pods \"mirror\" is forbidden: {why}"), "{given}");
    }
    h.stop().await;
}

#[tokio::test]
async fn the_mirror_annotation_stays() {
    let (h, node, uid) = cluster().await;
    assert_eq!(message(&node, &POD, HERE, mirror(&uid, |_| {})).await, "made");
    let off = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": null}}});
    let on = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "y"}}});
    let options = UpdateOptions::default();
    let fault = |name: &str, what: &str| {
        format!(
            "Pod {name:?} is invalid: metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not {what} mirror pod annotation"
        )
    };
    for api in [&node, &h.api] {
        let at = ObjectRef::new(HERE, "mirror").sub("status");
        let error = api.patch(&POD, at, Patch::merge(off.clone()), &options).await.unwrap_err();
        assert_eq!(error.message(), fault("mirror", "remove or update"));
        let at = ObjectRef::new(HERE, "mine").sub("status");
        let error = api.patch(&POD, at, Patch::merge(on.clone()), &options).await.unwrap_err();
        assert_eq!(error.message(), fault("mine", "add"));
    }
    let plain = h.api.patch(&POD, ObjectRef::new(HERE, "mirror"), Patch::merge(off.clone()), &options).await;
    assert_eq!(plain.unwrap_err().message(), fault("mirror", "remove or update"));
    // Where only a part of the spec is written, annotations stay what they are.
    let at = ObjectRef::new(HERE, "mine").sub("ephemeralcontainers");
    let kept = h.api.patch(&POD, at, Patch::merge(on.clone()), &options).await.unwrap().tree().unwrap();
    assert_eq!(kept["metadata"]["annotations"], Value::Null);
    h.create(&POD, HERE, pod("waiting")).await;
    let binding = json!({"metadata": {"name": "waiting", "annotations": {"kubernetes.io/config.mirror": "y"}},
        "target": {"kind": "Node", "name": "n"}});
    let at = ObjectRef::new(HERE, "waiting").sub("binding");
    let error = h.api.create_sub(&POD, at, binding, &CreateOptions::default()).await.unwrap_err();
    assert_eq!(error.message(), fault("waiting", "add"));
    h.stop().await;
}

/// What a review found: a mirror that names a secret, whose annotation is then taken off, opens the secret.
#[tokio::test]
async fn a_secret_of_another_namespace_stays_closed() {
    let (h, node, uid) = cluster().await;
    h.create(&NAMESPACE, None, json!({"metadata": {"name": "tenant"}})).await;
    h.create(&SECRET, Some("tenant"), json!({"metadata": {"name": "s"}})).await;
    h.create(&CONFIG_MAP, Some("tenant"), json!({"metadata": {"name": "s"}})).await;
    let body = mirror(&uid, |body| {
        body["spec"]["containers"][0]["env"] =
            json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    });
    assert!(
        message(&node, &POD, Some("tenant"), body)
            .await
            .contains("can not create pods that reference secrets")
    );
    for row in [&SECRET, &CONFIG_MAP] {
        let error = node.get(row, ObjectRef::new(Some("tenant"), "s")).await.unwrap_err();
        assert!(
            error.message().ends_with("no relationship found between node 'n' and this object"),
            "{error}"
        );
    }
    h.stop().await;
}

#[tokio::test]
async fn a_node_keeps_to_its_own_pods_and_objects() {
    let (h, node, _) = cluster().await;
    let evict = |name: &'static str| {
        let node = node.clone();
        async move {
            let at = ObjectRef::new(HERE, name).sub("eviction");
            let made = node
                .create_sub(&POD, at, json!({"metadata": {"name": name}}), &CreateOptions::default())
                .await;
            made.map(drop).map_err(|error| error.message().to_string())
        }
    };
    let foreign = "pods \"theirs\" is forbidden: node n can only evict pods with spec.nodeName set to itself";
    assert_eq!(evict("theirs").await, Err(foreign.into()));
    assert_eq!(evict("none").await, Err("pods \"none\" not found".into()));
    assert_eq!(evict("mine").await, Ok(()));

    // More rights by a role do not lift what a node is.
    let rules = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    h.create(&api::kinds::CLUSTER_ROLE, None, json!({"metadata": {"name": "all"}, "rules": rules})).await;
    let binding = json!({"metadata": {"name": "all"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "all"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}]});
    h.create(&api::kinds::CLUSTER_ROLE_BINDING, None, binding).await;
    let options = UpdateOptions::default();
    let image = Patch::merge(json!({"metadata": {"labels": {"a": "b"}}}));
    let error = node.patch(&POD, ObjectRef::new(HERE, "theirs"), image, &options).await.unwrap_err();
    assert!(error.message().ends_with("node \"n\" can only create and delete mirror pods"), "{error}");
    let error = node.delete(&NODE, ObjectRef::new(None, "m"), &DeleteOptions::default()).await.unwrap_err();
    assert_eq!(error.message(), "nodes \"m\" is forbidden: node \"n\" is not allowed to modify node \"m\"");
    for (part, why) in [
        (
            json!({"podCIDR": "10.99.0.7/32", "podCIDRs": ["10.99.0.7/32"]}),
            "is not allowed to modify podCIDR",
        ),
        (json!({"taints": [{"key": "a", "effect": "NoSchedule"}]}), "is not allowed to modify taints"),
    ] {
        let change = Patch::merge(json!({"spec": part}));
        let error = node.patch(&NODE, ObjectRef::new(None, "n"), change, &options).await.unwrap_err();
        assert_eq!(error.message(), format!("nodes \"n\" is forbidden: node \"n\" {why}"));
    }
    let nameless = h.server.as_user(Identity::node(""));
    let error =
        nameless.create(&NODE, None, json!({"metadata": {"name": "x"}}), &CreateOptions::default()).await;
    assert!(error.unwrap_err().message().contains("could not determine node from user \"system:node:\""));
    h.stop().await;
}

#[tokio::test]
async fn a_node_asks_for_certificates_in_its_own_name() {
    use base64::Engine as _;
    let (h, node, _) = cluster().await;
    let request = |common_name: &str, signer: &str| {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = parameters.serialize_request(&key).unwrap().pem().unwrap();
        let request = base64::engine::general_purpose::STANDARD.encode(pem);
        json!({"metadata": {"generateName": "r-"},
            "spec": {"request": request, "signerName": signer, "usages": ["client auth"]}})
    };
    for signer in ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"] {
        let row = &CERTIFICATE_SIGNING_REQUEST;
        let found = message(&node, row, None, request("system:node:m", signer)).await;
        assert!(found.ends_with("can only create a node CSR with CN=system:node:n"), "{found}");
        assert_eq!(message(&node, row, None, request("system:node:n", signer)).await, "made");
    }
    h.stop().await;
}
