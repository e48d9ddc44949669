//! Which directory a claim leads to, and what is refused.

use serde_json::{Value, json};

use super::super::claim::FINALIZER;
use super::*;

fn volume(spec: Value, annotations: Value) -> PersistentVolume {
    let mut full = json!({
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "claimRef": {"name": "data", "uid": "u1"},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        full[key] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "pv", "annotations": annotations}, "spec": full}))
        .unwrap()
}

fn pod(container: Value, claim: Value) -> Pod {
    crate::testing::pod(json!({
        "containers": [container], "volumes": [{"name": "v", "persistentVolumeClaim": claim}],
    }))
}

fn located(pod: &Pod, volume: &PersistentVolume) -> Result<Found, String> {
    let node = json!({"metadata": {"name": "n", "labels": {"kubernetes.io/hostname": "n"}}});
    let node: Node = serde_json::from_value(node).unwrap();
    let source = &pod.spec_ref().volumes.as_ref().unwrap()[0];
    locate(pod, source, volume, Some(&node))
        .map_err(|error| super::super::MountError { volume: "v".to_string(), why: error }.to_string())
}

fn on_node(name: &str) -> Value {
    let term = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [name]});
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}})
}

#[test]
fn a_volume_is_a_directory_of_the_node() {
    let plain = pod(json!({"name": "c"}), json!({"claimName": "data", "readOnly": true}));
    let local = volume(json!({"local": {"path": "/disk"}, "nodeAffinity": on_node("n")}), json!({}));
    let found = located(&plain, &local).unwrap();
    assert_eq!(found.directory, Directory::Local { path: "/disk".into(), is_made: false });
    assert!(found.read_only);
    let made = json!({PROVISIONED_BY: LOCAL_PATH});
    let found = located(&plain, &volume(json!({"hostPath": {"path": "/disk"}}), made)).unwrap();
    assert_eq!(found.directory, Directory::Local { path: "/disk".into(), is_made: true });
    let host = volume(json!({"hostPath": {"path": "/disk", "type": "Directory"}}), json!({}));
    let found = located(&plain, &host).unwrap();
    assert_eq!(found.directory, Directory::Host { path: "/disk".into(), kind: "Directory".into() });
}

#[test]
fn what_cannot_be_used_is_told_in_upstreams_words() {
    let plain = pod(json!({"name": "c"}), json!({"claimName": "data"}));
    let elsewhere = volume(json!({"local": {"path": "/disk"}, "nodeAffinity": on_node("other")}), json!({}));
    assert_eq!(
        located(&plain, &elsewhere).unwrap_err(),
        "MountVolume.NodeAffinity check failed for volume \"pv\" : no matching NodeSelectorTerms"
    );
    let nfs = volume(json!({"nfs": {"server": "s", "path": "/"}}), json!({}));
    assert!(located(&plain, &nfs).unwrap_err().ends_with("no volume plugin matched"));
    let block = volume(json!({"local": {"path": "/dev/x"}, "volumeMode": "Block"}), json!({}));
    let mounted = json!({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    assert_eq!(
        located(&pod(mounted, json!({"claimName": "data"})), &block).unwrap_err(),
        "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process volumes=[v]: volume v has volumeMode Block, but is specified in volumeMounts"
    );
    let device = json!({"name": "c", "volumeDevices": [{"name": "v", "devicePath": "/dev/v"}]});
    let device = pod(device, json!({"claimName": "data"}));
    assert!(
        located(&device, &block).unwrap_err().ends_with("this node has no support for raw block volumes")
    );
    let files = volume(json!({"local": {"path": "/disk"}}), json!({}));
    assert!(located(&device, &files).unwrap_err().ends_with("but is specified in volumeDevices"));
}

#[test]
fn a_binding_must_be_whole() {
    let claim = |status: &str, volume: &str| -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": "data", "uid": "u1"}, "spec": {"volumeName": volume}, "status": {"phase": status},
        }))
        .unwrap()
    };
    let told = |claim: &PersistentVolumeClaim| match check_claim(claim) {
        Ok(()) => String::new(),
        Err(error) => error.to_string(),
    };
    assert_eq!(told(&claim("Pending", "")), "PVC is not bound");
    assert_eq!(told(&claim("Bound", "")), "PVC has empty pvc.Spec.VolumeName");
    assert_eq!(told(&claim("Bound", "pv")), "");
    let mut going = claim("Bound", "pv");
    going.metadata.deletion_timestamp = Some(api::time::seconds(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(told(&going), "PVC is being deleted");
    going.metadata.finalizers = Some(vec![FINALIZER.to_string()]);
    assert_eq!(told(&going), "");
    let mut other = claim("Bound", "pv");
    other.metadata.uid = Some("u2".to_string());
    let told = check_volume(&volume(json!({}), json!({})), &other).unwrap_err().to_string();
    assert_eq!(told, "found PV object pv but its pvc.Spec.ClaimRef.UID u1 does not point to claim.UID u2");
}
