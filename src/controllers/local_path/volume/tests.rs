//! Tests of what the provisioner makes, refuses and gives up.

use api::volumes::fits_node;

use super::*;

fn claim(spec: Value) -> PersistentVolumeClaim {
    let mut full = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        full[key] = value.clone();
    }
    let metadata = json!({"name": "data", "namespace": "ns", "uid": "u1"});
    serde_json::from_value(json!({"metadata": metadata, "spec": full})).unwrap()
}

fn class(annotations: Value) -> StorageClass {
    serde_json::from_value(json!({
        "metadata": {"name": "local-path", "annotations": annotations}, "provisioner": LOCAL_PATH,
        "reclaimPolicy": "Retain",
    }))
    .unwrap()
}

fn node() -> Node {
    serde_json::from_value(json!({"metadata": {
        "name": "one", "labels": {HOSTNAME: "host-one"}, "annotations": {LOCAL_PATH_DIRECTORY: "/data/storage"},
    }}))
    .unwrap()
}

fn config(paths: Value) -> ConfigMap {
    let text = json!({"nodePathMap": paths}).to_string();
    serde_json::from_value(json!({"data": {"config.json": text}})).unwrap()
}

#[test]
fn a_volume_is_a_directory_on_its_node() {
    let class = class(json!({"defaultVolumeType": "local"}));
    let made = for_claim(&claim(json!({})), &class, Some(&node()), None).unwrap();
    assert_eq!(made.metadata.name.as_deref(), Some("pvc-u1"));
    assert_eq!(path_of(&made), Some("/data/storage/pvc-u1_ns_data"));
    assert_eq!(node_of(&made), Some("one"));
    let spec = made.spec.unwrap();
    assert!(spec.local.is_some() && spec.host_path.is_none());
    assert_eq!(spec.persistent_volume_reclaim_policy.as_deref(), Some("Retain"));
    assert_eq!(spec.claim_ref.unwrap().uid.as_deref(), Some("u1"));
    assert_eq!(spec.capacity.unwrap()["storage"].0, "2Gi");
}

#[test]
fn a_node_that_calls_itself_another_gets_no_volume_onto_that() {
    let class = class(json!({}));
    let mut stolen = node();
    stolen.metadata.labels.as_mut().unwrap().insert(HOSTNAME.into(), "host-two".into());
    let made = for_claim(&claim(json!({})), &class, Some(&stolen), None).unwrap();
    assert_eq!(node_of(&made), Some("one"), "it is the one that is asked to remove the directory");
    let labels = BTreeMap::from([(HOSTNAME.to_string(), "host-two".to_string())]);
    assert!(!fits_node(&made, "two", &labels), "its directory is not made on the other");
    assert!(fits_node(&made, "one", &labels));
    let honest = for_claim(&claim(json!({})), &class, Some(&node()), None).unwrap();
    let labels = BTreeMap::from([(HOSTNAME.to_string(), "host-one".to_string())]);
    assert!(fits_node(&honest, "one", &labels));
    assert!(!fits_node(&honest, "two", &labels), "nor is data of others given to it");
}

#[test]
fn the_configuration_goes_before_what_the_node_says() {
    let class = class(json!({}));
    let path = |config: &ConfigMap| {
        let made = for_claim(&claim(json!({})), &class, Some(&node()), Some(config));
        let made = made.map_err(|error| error.to_string())?;
        Ok::<_, String>(path_of(&made).unwrap_or("").to_string())
    };
    let folder = "pvc-u1_ns_data";
    let own =
        config(json!([{"node": "one", "paths": ["/fast/"]}, {"node": OTHER_NODES, "paths": ["/slow"]}]));
    assert_eq!(path(&own), Ok(format!("/fast/{folder}")));
    assert_eq!(
        path(&config(json!([{"node": OTHER_NODES, "paths": ["/slow"]}]))),
        Ok(format!("/slow/{folder}"))
    );
    assert_eq!(
        path(&config(json!([{"node": "two", "paths": ["/x"]}]))),
        Ok(format!("/data/storage/{folder}"))
    );
    let none = path(&config(json!([{"node": "one", "paths": []}])));
    assert_eq!(none, Err("no local path available on node one".to_string()));
    let broken = serde_json::from_value(json!({"data": {"config.json": "{"}})).unwrap();
    assert!(path(&broken).unwrap_err().starts_with("invalid config.json of local-path-config: "));
}

#[test]
fn what_it_cannot_do_is_refused() {
    let refused = |spec: Value| {
        for_claim(&claim(spec), &class(json!({})), Some(&node()), None).unwrap_err().to_string()
    };
    assert!(refused(json!({"accessModes": ["ReadWriteMany"]})).starts_with("NodePath only supports"));
    assert!(refused(json!({"volumeMode": "Block"})).ends_with("does not support block volume provisioning"));
    assert_eq!(refused(json!({"selector": {}})), "claim.Spec.Selector is not supported");
    let nowhere = for_claim(&claim(json!({})), &class(json!({})), None, None).unwrap_err().to_string();
    assert_eq!(nowhere, "configuration error, no node was specified");
    let odd = for_claim(&claim(json!({})), &class(json!({"defaultVolumeType": "tape"})), Some(&node()), None);
    assert_eq!(odd.unwrap_err().to_string(), "\"tape\" is not a supported volume type");
}

#[test]
fn long_names_make_a_directory_all_the_same() {
    let mut long = claim(json!({}));
    long.metadata.name = Some("x".repeat(253));
    let made = for_claim(&long, &class(json!({})), Some(&node()), None).unwrap();
    assert_eq!(path_of(&made).unwrap().rsplit('/').next().unwrap().len(), 255);
}

#[test]
fn only_a_released_volume_leaves_with_its_data() {
    let made = |policy: &str, phase: &str, is_going: bool, is_ours: bool| -> PersistentVolume {
        let deleted = is_going.then_some("2026-01-01T00:00:00Z");
        let by = if is_ours { LOCAL_PATH } else { "other" };
        serde_json::from_value(json!({
            "metadata": {"name": "v", "annotations": {PROVISIONED_BY: by}, "finalizers": [FINALIZER],
                "deletionTimestamp": deleted},
            "spec": {"persistentVolumeReclaimPolicy": policy, "claimRef": {"uid": "u1"}},
            "status": {"phase": phase},
        }))
        .unwrap()
    };
    let mut unclaimed = made("Delete", "Released", false, true);
    unclaimed.spec.as_mut().unwrap().claim_ref = None;
    assert_eq!(leaving(&unclaimed), Leaving::No);
    for is_going in [false, true] {
        assert_eq!(leaving(&made("Delete", "Released", is_going, true)), Leaving::WithData);
        assert_eq!(leaving(&made("Delete", "Released", is_going, false)), Leaving::No);
        for phase in ["Bound", "Available", "Failed", "Pending"] {
            assert_eq!(leaving(&made("Delete", phase, is_going, true)), Leaving::No, "{phase}");
        }
        let kept = if is_going { Leaving::WithoutData } else { Leaving::No };
        assert_eq!(leaving(&made("Retain", "Released", is_going, true)), kept);
    }
}
