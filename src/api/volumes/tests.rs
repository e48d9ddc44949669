//! Which volume a claim gets.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn claim(size: &str, more: Value) -> PersistentVolumeClaim {
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": size}},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let metadata = json!({"name": "data", "namespace": "ns", "uid": "u1"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn volume(name: &str, size: &str, more: Value) -> Arc<PersistentVolume> {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let labels = json!({"disk": name});
    let tree =
        json!({"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"phase": "Available"}});
    Arc::new(serde_json::from_value(tree).unwrap())
}

fn chosen<'v>(claim: &PersistentVolumeClaim, volumes: &'v [Arc<PersistentVolume>]) -> &'v str {
    let found = best_match_anywhere(claim, volumes, false);
    found.and_then(|volume| volume.metadata.name.as_deref()).unwrap_or("")
}

#[test]
fn the_smallest_that_fits_is_taken() {
    let none = json!({});
    let volumes = [
        volume("small", "1Gi", none.clone()),
        volume("large", "10Gi", none.clone()),
        volume("fair", "5120Mi", none.clone()),
        volume("block", "5Gi", json!({"volumeMode": "Block"})),
        volume("classy", "5Gi", json!({"storageClassName": "fast"})),
        volume("taken", "5Gi", json!({"claimRef": {"name": "other", "namespace": "ns", "uid": "u2"}})),
    ];
    assert_eq!(chosen(&claim("2Gi", none.clone()), &volumes), "fair");
    assert_eq!(chosen(&claim("11Gi", none.clone()), &volumes), "");
    assert_eq!(chosen(&claim("1Gi", json!({"volumeMode": "Block"})), &volumes), "block");
    assert_eq!(chosen(&claim("1Gi", json!({"storageClassName": "fast"})), &volumes), "classy");
    assert_eq!(
        chosen(&claim("1Gi", json!({"selector": {"matchLabels": {"disk": "large"}}})), &volumes),
        "large"
    );
    assert_eq!(chosen(&claim("1Gi", json!({"accessModes": ["ReadWriteMany"]})), &volumes), "");
    assert_eq!(chosen(&claim("1Gi", json!({"volumeAttributesClassName": "gold"})), &volumes), "");
    let all = |_: &str| true;
    assert!(best_match(&claim("1Gi", none.clone()), &volumes, None, all, false).is_none());
    assert!(best_match(&claim("1Gi", none), &volumes, None, |_| false, true).is_none(), "it waits");
}

#[test]
fn what_is_meant_for_a_claim_goes_before_what_fits_better() {
    let meant = json!({"claimRef": {"name": "data", "namespace": "ns"}, "storageClassName": "any"});
    let volumes = [volume("fair", "1Gi", json!({})), volume("meant", "9Gi", meant)];
    assert_eq!(chosen(&claim("1Gi", json!({})), &volumes), "meant");
    let waiting = best_match(&claim("1Gi", json!({})), &volumes, None, |_| false, true);
    assert_eq!(waiting.unwrap().metadata.name.as_deref(), Some("meant"));
    let earlier = json!({"claimRef": {"name": "data", "namespace": "ns", "uid": "u0"}});
    assert_eq!(
        chosen(&claim("1Gi", json!({})), &[volume("meant", "9Gi", earlier)]),
        "",
        "of an earlier claim"
    );
}

#[test]
fn a_volume_for_many_is_left_to_those_who_need_it() {
    let shared = json!({"accessModes": ["ReadWriteMany", "ReadWriteOnce"]});
    let volumes = [volume("shared", "1Gi", shared), volume("single", "5Gi", json!({}))];
    assert_eq!(chosen(&claim("1Gi", json!({})), &volumes), "single");
    assert_eq!(chosen(&claim("1Gi", json!({"accessModes": ["ReadWriteMany"]})), &volumes), "shared");
}

#[test]
fn a_volume_of_one_node_is_for_that_node() {
    let terms = json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["one"]}]}]);
    let volumes =
        [volume("local", "1Gi", json!({"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}))];
    for (node, fits) in [("one", true), ("two", false)] {
        let labels = BTreeMap::from([("kubernetes.io/hostname".to_string(), node.to_string())]);
        let found =
            best_match(&claim("1Gi", json!({})), &volumes, Some((node, &labels)), |_| false, true).is_some();
        assert_eq!(found, fits, "{node}");
    }
}

#[test]
fn a_claim_made_for_another_pod_is_refused() {
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "pod"}})).unwrap();
    let mut claim = claim("1Gi", json!({}));
    let refused = check_made_for(&pod, &claim).unwrap_err().to_string();
    assert_eq!(refused, "PVC ns/data was not created for pod ns/p (pod is not owner)");
    claim.metadata.owner_references = Some(vec![crate::owner::controller_reference(&pod)]);
    assert_eq!(check_made_for(&pod, &claim), Ok(()));
}

proptest! {
    /// Whatever is chosen is free, or meant for the claim, is large enough, and nothing smaller would do.
    #[test]
    fn what_is_chosen_fits(
        sizes in proptest::collection::vec((1i64..9, 0u8..3, any::<bool>()), 0..12),
        wanted in 1i64..9,
    ) {
        let volumes: Vec<_> = sizes.iter().enumerate().map(|(at, (size, reference, released))| {
            let more = match reference {
                0 => json!({}),
                1 => json!({"claimRef": {"name": "data", "namespace": "ns", "uid": "u1"}}),
                _ => json!({"claimRef": {"name": "data", "namespace": "ns", "uid": "u2"}}),
            };
            let mut one = (*volume(&format!("v{at}"), &format!("{size}Gi"), more)).clone();
            if *released {
                one.status.as_mut().unwrap().phase = Some("Released".to_string());
            }
            Arc::new(one)
        }).collect();
        let claim = claim(&format!("{wanted}Gi"), json!({}));
        let free = |one: &PersistentVolume| {
            one.spec.as_ref().unwrap().claim_ref.is_none()
                && one.status.as_ref().unwrap().phase.as_deref() == Some("Available")
        };
        match best_match_anywhere(&claim, &volumes, false) {
            Some(found) => {
                prop_assert!(capacity(found) >= requested(&claim));
                prop_assert!(is_bound_to(found, &claim) || free(found));
                let smaller = volumes.iter().any(|one| {
                    free(one) && capacity(one) >= requested(&claim) && capacity(one) < capacity(found)
                });
                prop_assert!(is_bound_to(found, &claim) || !smaller);
            }
            None => prop_assert!(!volumes.iter().any(|one| free(one) && capacity(one) >= requested(&claim))),
        }
    }
}
