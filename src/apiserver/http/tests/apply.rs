//! Apply as clients send it.

use super::*;

const APPLY: [(&str, &str); 1] = [("content-type", "application/apply-patch+yaml")];

async fn apply(h: &Harness, query: &str, body: &str) -> Answer {
    send(h, "PATCH", &format!("{CONFIG_MAPS}/a?{query}"), &APPLY, body.to_string()).await
}

const SETTINGS: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n";

#[tokio::test]
async fn the_first_apply_creates_in_yaml_and_json() {
    let h = Harness::start().await;
    let tried = apply(&h, "fieldManager=m&dryRun=All", SETTINGS).await;
    assert_eq!((tried.code, get(&h, &format!("{CONFIG_MAPS}/a")).await.code), (201, 404));
    assert_eq!(apply(&h, "fieldManager=m", SETTINGS).await.code, 201);
    let json = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"w"}}"#;
    let changed = apply(&h, "fieldManager=m", json).await;
    assert_eq!((changed.code, changed.json()["data"]["k"].as_str()), (200, Some("w")));
    let refused = apply(&h, "fieldManager=n", SETTINGS).await;
    assert_eq!(
        (refused.code, refused.message().as_str()),
        (409, "Apply failed with 1 conflict: conflict with \"m\": .data.k")
    );
    assert_eq!(
        refused.json()["details"]["causes"],
        json!([{ "field": ".data.k", "message": "conflict with \"m\"", "reason": "FieldManagerConflict" }])
    );
    assert_eq!(apply(&h, "fieldManager=n&force=true", SETTINGS).await.code, 200);
    h.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_the_request_is_said() {
    let h = Harness::start().await;
    let nobody = apply(&h, "force=true", SETTINGS).await;
    assert_eq!(
        (nobody.code, nobody.message().as_str()),
        (
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
        )
    );
    let merge = [("content-type", "application/merge-patch+json")];
    let forced = send(&h, "PATCH", &format!("{CONFIG_MAPS}/a?force=true"), &merge, "{}").await;
    assert_eq!(
        (forced.code, forced.message().as_str()),
        (
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
        )
    );
    let cbor = [("content-type", "application/apply-patch+cbor")];
    let refused = send(&h, "PATCH", &format!("{CONFIG_MAPS}/a?fieldManager=m"), &cbor, "x").await;
    assert_eq!(refused.code, 415);
    let broken = apply(&h, "fieldManager=m", "a: b: c").await;
    assert!(
        broken.code == 400
            && broken.message().starts_with("error decoding YAML: error converting YAML to JSON:"),
        "{}",
        broken.message()
    );
    let list = apply(&h, "fieldManager=m", "[1]").await;
    assert!(list.message().contains("cannot unmarshal array into Go value"), "{}", list.message());
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  k: v\n  k: w\n";
    let refused = apply(&h, "fieldManager=m&fieldValidation=Strict", twice).await;
    assert_eq!(
        (refused.code, refused.message().as_str()),
        (
            400,
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 6: key \"k\" already set in map"
        )
    );
    let warned = apply(&h, "fieldManager=m", twice).await;
    let warning = warned.headers.get("warning").and_then(|text| text.to_str().ok()).unwrap_or_default();
    assert!(warned.code == 201 && warning.contains("line 6: key \\\"k\\\" already set in map"), "{warning}");
    h.stop().await;
}
