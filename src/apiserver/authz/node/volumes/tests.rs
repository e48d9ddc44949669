//! A node reads the volumes of its own pods, and nobody else's.

use api::kinds::{
    NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, RESOURCE_CLAIM, SECRET, SERVICE_ACCOUNT,
    VOLUME_ATTACHMENT,
};
use api::{Identity, KindRow};
use client::{ApiFor, ObjectRef};
use serde_json::json;

use crate::testing::{Harness, pod};

#[tokio::test]
async fn a_node_reads_the_volumes_of_its_own_pods() {
    let h = Harness::start().await;
    let here = Some("default");
    h.create(&SERVICE_ACCOUNT, here, json!({"metadata": {"name": "default"}})).await;
    for node in ["n1", "n2"] {
        h.create(&NODE, None, json!({"metadata": {"name": node}})).await;
    }
    h.create(&SECRET, here, json!({"metadata": {"name": "key"}})).await;
    let csi = json!({"driver": "d", "volumeHandle": "h",
        "nodePublishSecretRef": {"name": "key", "namespace": "default"}});
    let claim = json!({"namespace": "default", "name": "data"});
    let spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "csi": csi,
        "claimRef": claim});
    h.create(&PERSISTENT_VOLUME, None, json!({"metadata": {"name": "disk"}, "spec": spec})).await;
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        "volumeName": "disk"});
    h.create(&PERSISTENT_VOLUME_CLAIM, here, json!({"metadata": {"name": "data"}, "spec": spec})).await;
    let spec = json!({"attacher": "d", "nodeName": "n1", "source": {"persistentVolumeName": "disk"}});
    h.create(&VOLUME_ATTACHMENT, None, json!({"metadata": {"name": "va"}, "spec": spec})).await;
    h.create(&RESOURCE_CLAIM, here, json!({"metadata": {"name": "gpu"}, "spec": {}})).await;
    let mut body = pod("p");
    body["spec"]["nodeName"] = json!("n1");
    body["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
    body["spec"]["resourceClaims"] = json!([{"name": "g", "resourceClaimName": "gpu"}]);
    h.create(&POD, here, body).await;
    // A claim that only says it has a volume leads nowhere.
    let spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/x"}, "claimRef": {"namespace": "other", "name": "theirs"}});
    h.create(&PERSISTENT_VOLUME, None, json!({"metadata": {"name": "foreign"}, "spec": spec})).await;
    let n1 = h.server.as_user(Identity::node("n1"));
    assert!(n1.get(&PERSISTENT_VOLUME, ObjectRef::new(None, "foreign")).await.is_err());
    let objects: [(&KindRow, _, _); 5] = [
        (&PERSISTENT_VOLUME_CLAIM, here, "data"),
        (&PERSISTENT_VOLUME, None, "disk"),
        (&SECRET, here, "key"),
        (&VOLUME_ATTACHMENT, None, "va"),
        (&RESOURCE_CLAIM, here, "gpu"),
    ];
    for (row, namespace, name) in objects {
        for (node, may) in [("n1", true), ("n2", false)] {
            let api = h.server.as_user(Identity::node(node));
            let found = api.get(row, ObjectRef::new(namespace, name)).await;
            assert_eq!(found.is_ok(), may, "{node} {name}: {found:?}");
        }
    }
    h.stop().await;
}
