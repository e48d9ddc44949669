//! Tests of mirrored slices.

use serde_json::{Value, json};

use super::*;

fn endpoints(subsets: Value) -> Endpoints {
    serde_json::from_value(json!({
        "metadata": {"name": "db", "namespace": "ns", "uid": "e", "labels": {"app": "db"}, "annotations": {
            "note": "kept", LAST_APPLIED: "{}",
        }},
        "subsets": subsets,
    }))
    .unwrap()
}

fn named(slice: EndpointSlice, name: &str) -> Arc<EndpointSlice> {
    let mut slice = slice;
    slice.metadata.name = Some(name.to_string());
    Arc::new(slice)
}

#[test]
fn each_family_has_its_slice() {
    let subsets = json!([{
        "addresses": [{"ip": "192.0.2.1", "hostname": "a"}, {"ip": "2001:db8::1"}],
        "notReadyAddresses": [{"ip": "192.0.2.2"}],
        "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
    }]);
    let plan = plan(Some(&endpoints(subsets)), &[]);
    let [four, six] = plan.create.as_slice() else { panic!("two slices") };
    assert_eq!((four.address_type.as_str(), six.address_type.as_str()), ("IPv4", "IPv6"));
    let ready: Vec<_> = four
        .endpoints
        .iter()
        .flatten()
        .map(|one| one.conditions.as_ref().and_then(|one| one.ready))
        .collect();
    assert_eq!(ready, [Some(true), Some(false)]);
    let metadata = &four.metadata;
    assert_eq!(metadata.labels.as_ref().unwrap()[SERVICE_NAME], "db");
    assert_eq!(metadata.labels.as_ref().unwrap()["app"], "db");
    assert_eq!(metadata.annotations.as_ref().unwrap().keys().collect::<Vec<_>>(), ["note"]);
    assert_eq!(metadata.owner_references.as_ref().unwrap()[0].kind, "Endpoints");
}

#[test]
fn what_is_right_is_left_and_what_is_wrong_is_changed() {
    let one = |ip: &str| endpoints(json!([{"addresses": [{"ip": ip}], "ports": [{"port": 80}]}]));
    let made = plan(Some(&one("192.0.2.1")), &[]).create.remove(0);
    let present = [named(made, "db-1")];
    let again = plan(Some(&one("192.0.2.1")), &present);
    assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
    let changed = plan(Some(&one("192.0.2.9")), &present);
    assert_eq!(changed.update[0].metadata.name.as_deref(), Some("db-1"));
    assert!(changed.create.is_empty() && changed.delete.is_empty());
    assert_eq!(plan(None, &present).delete.len(), 1);
    assert_eq!(plan(Some(&one("2001:db8::1")), &present).delete.len(), 1, "the family cannot change");
}

#[test]
fn opting_out() {
    let mut endpoints = endpoints(json!([]));
    assert!(is_mirrored(&endpoints));
    endpoints.metadata.labels = Some([(SKIP.to_string(), "true".to_string())].into());
    assert!(!is_mirrored(&endpoints));
}
