//! From client-side to server-side apply.

use super::*;

fn entry(manager: &str, operation: &str, fields: Value) -> Value {
    json!({ "manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
            "time": "2026-01-01T00:00:00Z", "fieldsV1": fields })
}

#[test]
fn the_former_owner_gives_its_fields_to_the_new_one() {
    let of = |entries: Value| json!({ "metadata": { "resourceVersion": "7", "managedFields": entries } });
    let former = entry(CLIENT_SIDE, "Update", json!({ "f:data": { "f:a": {} } }));
    let own = entry(MANAGER, "Apply", json!({ "f:data": { "f:b": {} } }));
    let other = entry("x", "Update", json!({ "f:data": { "f:c": {} } }));
    let change = taken_over(&of(json!([former, own, other])), MANAGER).unwrap();
    let both = entry(MANAGER, "Apply", json!({ "f:data": { "f:a": {}, "f:b": {} } }));
    assert_eq!(change[0]["value"], json!([both, other]));
    assert_eq!(change[1]["value"], "7");
    let change = taken_over(&of(json!([former])), MANAGER).unwrap();
    assert_eq!(change[0]["value"], json!([entry(MANAGER, "Apply", json!({ "f:data": { "f:a": {} } }))]));
    assert_eq!(taken_over(&of(json!([own, other])), MANAGER), None);
}

#[test]
fn the_annotation_is_kept_until_somebody_applies_it() {
    let annotated = json!({ "f:metadata": { "f:annotations": { format!("f:{ANNOTATION}"): {} } } });
    let object = |operation: &str| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a", "namespace": "n", "uid": "7",
            "annotations": { ANNOTATION: "{}", "other": "x" },
            "managedFields": [entry("m", operation, annotated.clone())] } })
    };
    assert_eq!(
        kept_annotation(&object("Update")).unwrap(),
        json!({ "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": "a", "namespace": "n", "annotations": { ANNOTATION: "{}" } } })
    );
    assert_eq!(kept_annotation(&object("Apply")), None);
}
