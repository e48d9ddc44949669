//! Tests of the splice, of the stored form and of typed decoding.

use bytes::Bytes;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Object, ObjectError, encode};

fn config_map() -> Value {
    json!({"data": {"metadata": "{\"metadata\":{"}, "kind": "ConfigMap", "apiVersion": "v1",
           "metadata": {"name": "a", "namespace": "n", "resourceVersion": "3", "labels": {"x": "y"}}})
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("valid JSON")
}

#[test]
fn stored_bytes_have_no_version_and_written_ones_the_commits() {
    let object = Object::from_tree(config_map(), 42).unwrap();
    assert!(object.stored_bytes().starts_with(br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"#));
    assert_eq!(parse(object.stored_bytes())["metadata"].get("resourceVersion"), None);
    let written = parse(&object.to_json());
    assert_eq!(written["metadata"]["resourceVersion"], "42");
    assert_eq!(written["data"], config_map()["data"]);
    assert_eq!(object.tree().unwrap(), written);
    assert!(object.to_json().len() <= object.json_len());
}

#[test]
fn empty_metadata_is_spliced_without_a_stray_comma() {
    let object = Object::from_tree(json!({"kind": "X", "apiVersion": "v1", "metadata": {}}), 7).unwrap();
    assert_eq!(parse(&object.to_json())["metadata"], json!({"resourceVersion": "7"}));
}

#[test]
fn bytes_of_another_shape_are_brought_into_the_stored_one() {
    let odd = serde_json::to_vec(&config_map()).unwrap();
    let object = Object::from_stored(Bytes::from(odd), 9).unwrap();
    assert_eq!(object.tree().unwrap()["metadata"]["resourceVersion"], "9");
    let nested = br#"{"spec":{"metadata":{"a":1}},"kind":"X","metadata":{"name":"outer"}}"#;
    let object = Object::from_stored(Bytes::from_static(nested), 1).unwrap();
    assert_eq!(object.name(), "outer");
    assert_eq!(object.tree().unwrap()["spec"]["metadata"], json!({"a": 1}));
}

#[test]
fn wire_objects_keep_their_own_version() {
    let object = Object::from_wire(Bytes::from(serde_json::to_vec(&config_map()).unwrap())).unwrap();
    assert_eq!(object.resource_version(), 3);
    assert_eq!(parse(&object.to_json()), config_map());
    assert_eq!(object.at_version(5).unwrap().tree().unwrap()["metadata"]["resourceVersion"], "5");
}

#[test]
fn typed_form_is_decoded_once_and_carries_the_version() {
    let object = Object::from_tree(config_map(), 42).unwrap();
    let first = object.typed::<ConfigMap>().unwrap();
    assert_eq!(first.metadata.resource_version.as_deref(), Some("42"));
    assert!(std::sync::Arc::ptr_eq(&first, &object.typed::<ConfigMap>().unwrap()));
    assert!(object.typed::<Pod>().is_err(), "another kind is refused, not guessed");
    object.forget_typed();
    assert!(!object.has_typed());
    assert_eq!(object.typed::<ConfigMap>().unwrap(), first);
}

#[test]
fn an_item_of_a_list_need_not_say_what_it_is() {
    let untyped = |object: &Object| {
        let mut out = bytes::BytesMut::new();
        object.write_json_untyped(&mut out);
        serde_json::from_slice::<Value>(&out).unwrap()
    };
    let mut expected = Object::from_tree(config_map(), 42).unwrap().tree().unwrap();
    expected.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
    assert_eq!(untyped(&Object::from_tree(config_map(), 42).unwrap()), expected);
    // Bytes that somebody else has written keep what they have.
    let other = Bytes::from_static(br#"{"apiVersion":"v1","x":1,"kind":"X","metadata":{"name":"x"}}"#);
    let other = Object::from_stored(other, 42).unwrap();
    assert_eq!(untyped(&other), other.tree().unwrap());
}

#[test]
fn a_selector_is_parsed_once_whatever_its_form() {
    let labels = |value: &str| [("app".to_string(), value.to_string())].into();
    let object = |selector: Value| {
        let tree = json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}, "spec": {"selector": selector}});
        Object::from_tree(tree, 1).unwrap()
    };
    let set = object(
        json!({"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}),
    );
    let selector = set.selector().unwrap();
    assert!(selector.matches(&labels("a")) && !selector.matches(&labels("b")));
    assert!(std::sync::Arc::ptr_eq(&selector, &set.selector().unwrap()));
    set.forget_typed();
    assert!(set.selector().unwrap().matches(&labels("a")), "asked for again it is parsed again");
    let service = object(json!({"app": "a"})).selector().unwrap();
    assert!(service.matches(&labels("a")) && !service.matches(&labels("b")));
    assert!(object(json!({})).selector().unwrap().is_everything());
    assert!(!object(json!({"app": 3})).selector().unwrap().matches(&labels("3")), "no selector at all");
    assert!(object(Value::Null).selector().is_none());
    assert!(Object::from_tree(config_map(), 1).unwrap().selector().is_none());
}

#[test]
fn null_metadata_fields_count_as_absent() {
    let tree =
        json!({"metadata": {"name": "a", "labels": null, "finalizers": null, "ownerReferences": null}});
    let object = Object::from_tree(tree, 1).unwrap();
    assert!(object.labels().is_empty() && object.metadata().finalizers.is_empty());
}

#[test]
fn what_is_not_an_object_is_refused() {
    for tree in [json!([]), json!({}), json!({"metadata": []}), json!({"metadata": {"name": 3}})] {
        assert!(Object::from_tree(tree.clone(), 1).is_err(), "{tree}");
    }
    assert!(matches!(encode(json!({"metadata": null})), Err(ObjectError::Shape)));
    assert!(Object::from_stored(Bytes::from_static(b"{\"metadata\":{"), 1).is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z\"{}:\\\\\u{e9}]{0,12}".prop_map(Value::from),
        Just(Value::from("\"metadata\":{")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("metadata|spec|[a-z]{1,5}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever the content, a round trip through the stored form changes nothing but the version.
    #[test]
    fn round_trip(spec in any_json(), annotations in prop::collection::btree_map("[a-z]{1,4}", "[ -~]{0,20}", 0..3), version: u64) {
        let mut tree = json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a", "annotations": annotations}, "spec": spec});
        let object = Object::from_tree(tree.clone(), version).unwrap();
        let again = Object::from_stored(object.stored_bytes().clone(), version).unwrap();
        tree["metadata"]["resourceVersion"] = json!(version.to_string());
        prop_assert_eq!(parse(&object.to_json()), tree.clone());
        prop_assert_eq!(again.tree().unwrap(), tree);
    }

    /// No bytes make it panic.
    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Object::from_stored(Bytes::from(bytes.clone()), 1);
        let _ = Object::from_wire(Bytes::from(bytes));
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 64, ..Default::default() })]

    /// An informer passes over what does not decode, so nothing that the API accepts may fail to.
    #[test]
    fn what_is_accepted_decodes_to_its_type(seed in proptest::num::u64::ANY) {
        let mut dice = crate::schema::random::Dice(seed);
        for (row, decodes) in crate::kinds::DECODES {
            let ty = crate::schema::for_kind(row).unwrap();
            let mut tree = crate::schema::random::random_object(ty, &mut dice, 0);
            tree["apiVersion"] = row.api_version().into();
            tree["kind"] = row.kind.to_string().into();
            if !tree["metadata"].is_object() {
                tree["metadata"] = json!({});
            }
            crate::schema::check(row, &mut tree, crate::FieldValidation::Strict).unwrap();
            crate::schema::apply_type_defaults(ty, &mut tree);
            let object = Object::from_tree(tree.clone(), 7).unwrap();
            let outcome = decodes(&object);
            proptest::prop_assert!(outcome.is_ok(), "{}: {:?}: {}", row.kind, outcome, tree);
        }
    }
}

/// Upstream writes a time that a required field lacks as null, and accepts one that leaves it out.
#[test]
fn a_condition_without_a_time_decodes() {
    for condition in [
        json!({ "type": "Ready", "status": "True" }),
        json!({ "type": "Ready", "status": "True", "lastTransitionTime": null }),
    ] {
        let tree = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s" },
            "status": { "conditions": [condition] },
        });
        let service = Object::from_tree(tree, 1).unwrap().typed::<Service>().unwrap();
        let conditions = service.status.as_ref().unwrap().conditions.as_ref().unwrap();
        assert_eq!(conditions[0].type_, "Ready");
    }
}

#[test]
fn managed_fields_come_first_and_typed_readers_are_spared_them() {
    let entry = json!([{ "manager": "m]\\\"}", "fieldsV1": { "f:data": { "v:\"]\"": {} } } }]);
    let tree = json!({ "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "managedFields": entry, "labels": { "a": "b" }, "name": "x" },
        "data": { "k": "v", "x": "\"managedFields\":[" } });
    let mut bare = tree.clone();
    bare["metadata"].as_object_mut().unwrap().remove("managedFields");
    bare["metadata"]["resourceVersion"] = json!("7");
    let stored = Object::from_tree(tree.clone(), 7).unwrap();
    assert!(
        stored
            .stored_bytes()
            .starts_with(br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"managedFields":["#)
    );
    let wire = Object::from_wire(stored.to_json()).unwrap();
    for object in [&stored, &wire] {
        let managed = object.managed_fields().unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&managed).unwrap(), entry);
        assert_eq!(object.tree_without_managed_fields().unwrap(), bare);
        let typed = object.typed::<k8s_openapi::api::core::v1::ConfigMap>().unwrap();
        assert_eq!(typed.metadata.managed_fields, None);
        assert_eq!(typed.metadata.name.as_deref(), Some("x"));
        assert_eq!(object.tree().unwrap()["metadata"]["managedFields"], entry);
        assert_eq!(object.labels()["a"], "b");
    }
    let encoded = super::encode_managed(bare.clone(), Some(entry.to_string().as_bytes())).unwrap();
    assert_eq!(encoded, stored.stored_bytes());
    // Nothing else in the metadata, and none at all.
    let only = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "managedFields": entry } });
    let only = Object::from_wire(Object::from_tree(only, 8).unwrap().to_json()).unwrap();
    assert_eq!(only.tree_without_managed_fields().unwrap()["metadata"], json!({ "resourceVersion": "8" }));
    assert_eq!(Object::from_tree(bare.clone(), 7).unwrap().managed_fields(), None);
    assert_eq!(Object::from_tree(bare.clone(), 7).unwrap().tree_without_managed_fields().unwrap(), bare);
}
