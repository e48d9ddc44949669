//! Which volumes the claims of a pod get on a node.

use k8s_openapi::api::storage::v1::StorageClass;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::pod::Labels;

fn claim(name: &str, gibibytes: u64, selected: Option<&str>) -> Arc<PersistentVolumeClaim> {
    let annotations = selected.map(|node| json!({SELECTED_NODE: node}));
    let tree = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "annotations": annotations},
        "spec": {
            "storageClassName": "c", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": format!("{gibibytes}Gi")}},
        },
    });
    Arc::new(serde_json::from_value(tree).unwrap())
}

fn volume(name: &str, gibibytes: u64, node: &str) -> Arc<PersistentVolume> {
    let term = json!({"key": "host", "operator": "In", "values": [node]});
    let tree = json!({
        "metadata": {"name": name},
        "spec": {
            "storageClassName": "c", "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": format!("{gibibytes}Gi")},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
        },
        "status": {"phase": "Available"},
    });
    Arc::new(serde_json::from_value(tree).unwrap())
}

fn class(more: Value) -> Option<Arc<StorageClass>> {
    let mut tree =
        json!({"metadata": {"name": "c"}, "provisioner": "p", "volumeBindingMode": "WaitForFirstConsumer"});
    tree.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Some(Arc::new(serde_json::from_value(tree).unwrap()))
}

fn on(node: &str, claims: &Claims) -> Result<Choice, String> {
    let labels = Labels::from([("host".to_string(), node.to_string())]);
    choose(claims, node, &labels).map_err(|status| status.message())
}

fn waiting(list: Vec<Arc<PersistentVolumeClaim>>, class: &Option<Arc<StorageClass>>) -> Claims {
    let waiting = list.into_iter().map(|claim| (claim, class.clone())).collect();
    Claims { waiting, ..Claims::default() }
}

#[test]
fn nodes_that_will_not_do_say_why() {
    let bound = Claims { bound: vec![Some(volume("v", 1, "a"))], ..Claims::default() };
    assert!(on("a", &bound).unwrap().is_empty());
    assert_eq!(on("b", &bound).err().unwrap(), "node(s) didn't match PersistentVolume's node affinity");
    let lost = Claims { bound: vec![None], ..Claims::default() };
    assert_eq!(
        on("a", &lost).err().unwrap(),
        "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
    );
    const NO_MATCH: &str = "node(s) didn't find available persistent volumes to bind";
    let by_hand = class(json!({"provisioner": "kubernetes.io/no-provisioner"}));
    assert_eq!(on("a", &waiting(vec![claim("x", 1, None)], &by_hand)).err().unwrap(), NO_MATCH);
    let made = class(json!({}));
    let selected = waiting(vec![claim("x", 1, Some("a"))], &made);
    assert_eq!(on("a", &selected).unwrap().to_make.len(), 1);
    assert_eq!(on("b", &selected).err().unwrap(), NO_MATCH);
    let topology =
        json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": "host", "values": ["a"]}]}]});
    let placed = waiting(vec![claim("x", 1, None)], &class(topology));
    assert!(on("a", &placed).is_ok());
    assert_eq!(on("b", &placed).err().unwrap(), NO_MATCH);
}

#[test]
fn what_is_chosen_names_its_claim_and_node() {
    let mut claims = waiting(vec![claim("x", 1, None), claim("y", 5, None)], &class(json!({})));
    claims.volumes.insert("c".to_string(), vec![volume("v", 2, "a")]);
    let choice = on("a", &claims).unwrap().assumed("a");
    let (volume, _) = &choice.bindings[0];
    let named = volume.spec.as_ref().unwrap().claim_ref.as_ref().unwrap();
    assert_eq!(named.name.as_deref(), Some("x"));
    assert_eq!(annotation(&choice.to_make[0].metadata.annotations, SELECTED_NODE), Some("a"));
    assert_eq!(choice.to_make[0].metadata.name.as_deref(), Some("y"));
}

proptest! {
    /// Every claim gets one volume or has one made; no volume is given twice, is too small or elsewhere.
    #[test]
    fn nothing_is_given_twice(
        wants in proptest::collection::vec(1u64..6, 0..6),
        has in proptest::collection::vec((1u64..6, any::<bool>()), 0..8),
    ) {
        let mut list: Vec<_> = wants.iter().enumerate().map(|(at, size)| claim(&format!("c{at}"), *size, None)).collect();
        list.sort_by_key(|claim| requested(claim));
        let mut claims = waiting(list, &class(json!({})));
        let node = |here: bool| if here { "a" } else { "b" };
        let volumes = has.iter().enumerate().map(|(at, (size, here))| volume(&format!("v{at}"), *size, node(*here)));
        claims.volumes.insert("c".to_string(), volumes.collect());
        let choice = on("a", &claims).unwrap();
        prop_assert_eq!(choice.bindings.len() + choice.to_make.len(), wants.len());
        let names: std::collections::BTreeSet<_> = choice.volumes().map(|one| one.metadata.name.clone()).collect();
        prop_assert_eq!(names.len(), choice.bindings.len());
        let labels = Labels::from([("host".to_string(), "a".to_string())]);
        for (volume, claim) in &choice.bindings {
            prop_assert!(api::volumes::capacity(volume) >= requested(claim));
            prop_assert!(api::volumes::fits_node(volume, "a", &labels));
        }
    }
}
