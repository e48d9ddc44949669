//! Parsed once, kept for as long as somebody needs it.

use serde_json::json;

use super::*;

fn definition(number: usize) -> Value {
    let schema = json!({ "type": "object", "properties": { format!("f{number}"): { "type": "string" } } });
    json!({ "spec": { "versions": [{ "name": "v1", "schema": { "openAPIV3Schema": schema } }] } })
}

#[test]
fn what_validation_has_parsed_is_served() {
    let memo = SchemaMemo::default();
    let checked = memo.check(&definition(1));
    let served = memo.take(&definition(1));
    assert!(Arc::ptr_eq(&checked, &served));
    assert!(memo.inner.lock().waiting.is_empty());
    // An update that leaves the schemas alone parses nothing, also after a long time.
    drop(checked);
    assert!(Arc::ptr_eq(&memo.check(&definition(1)), &served));
    assert!(!Arc::ptr_eq(&memo.check(&definition(2)), &served));
}

#[test]
fn what_is_never_served_is_forgotten() {
    let memo = SchemaMemo::default();
    for number in 0..10_000 {
        drop(memo.check(&definition(number)));
    }
    let inner = memo.inner.lock();
    assert_eq!(inner.waiting.len(), WAITING);
    assert!(inner.known.len() <= 4 * WAITING, "{}", inner.known.len());
}

#[test]
fn versions_that_are_alike_share_their_schema() {
    let mut body = definition(1);
    let mut second = body["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    body["spec"]["versions"].as_array_mut().unwrap().push(second);
    let schemas = SchemaMemo::default().check(&body);
    assert!(Arc::ptr_eq(&schemas.of("v1").unwrap(), &schemas.of("v2").unwrap()));
    // Their faults are the definition's, as upstream has it; else a version's.
    body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["type"] = json!("string");
    let faults = |body: &Value| SchemaMemo::default().check(body).faults[0].to_string();
    assert!(faults(&body).starts_with("spec.versions[0].schema.openAPIV3Schema.type: "), "{}", faults(&body));
    body["spec"]["versions"][1]["schema"] = body["spec"]["versions"][0]["schema"].clone();
    assert!(faults(&body).starts_with("spec.validation.openAPIV3Schema.type: "), "{}", faults(&body));
}
