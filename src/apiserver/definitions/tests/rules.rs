//! What a definition may say, and what becomes of objects when it says something else.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_a_definition_are_bounded() {
    let h = Harness::start().await;
    let names = |count: usize| (0..count).map(|n| format!("n{n}")).collect::<Vec<_>>();
    let refused = async |change: &dyn Fn(&mut Value)| {
        let mut body = definition("widgets", "Widget");
        change(&mut body["spec"]);
        let error = h.api.create(&DEFINITION, None, body, &CreateOptions::default()).await.unwrap_err();
        assert_eq!(error.code(), 422);
        error.message().to_string()
    };
    let versions = refused(&|spec| {
        let version = |name: String| json!({ "name": name, "served": true, "storage": false });
        spec["versions"] = names(101).into_iter().map(version).collect();
    })
    .await;
    assert!(versions.contains("spec.versions: Too many: 101: must have at most 100 items"), "{versions}");
    for part in ["shortNames", "categories"] {
        let message = refused(&|spec| spec["names"][part] = json!(names(101))).await;
        assert!(message.contains(&format!("spec.names.{part}: Too many: 101: must have at most 100 items")));
    }
    let columns = refused(&|spec| {
        let column = |name: String| json!({ "name": name, "type": "string", "jsonPath": ".spec" });
        spec["versions"][0]["additionalPrinterColumns"] = names(101).into_iter().map(column).collect();
    })
    .await;
    assert!(columns.contains("spec.additionalPrinterColumns: Too many: 101"), "{columns}");
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_definition_are_judged_as_upstream_does() {
    let h = Harness::start().await;
    let mut body = definition("widgets", "Widget");
    let version = &mut body["spec"]["versions"][0];
    version["deprecationWarning"] = json!("soon");
    version["additionalPrinterColumns"] =
        json!([{ "name": "A", "type": "string", "format": "text", "jsonPath": "spec" }]);
    version["subresources"]["scale"] =
        json!({ "specReplicasPath": "spec.replicas", "statusReplicasPath": ".spec.replicas" });
    version["schema"]["openAPIV3Schema"]["oneOf"] = json!([{ "required": ["spec"] }]);
    body["spec"]["conversion"] = json!({ "strategy": "None", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": { "url": "https://example.com" } } });
    let error = h.api.create(&DEFINITION, None, body, &CreateOptions::default()).await.unwrap_err();
    for part in [
        r#"spec.versions[0].deprecationWarning: Invalid value: "soon": can only be set for deprecated versions"#,
        r#"spec.additionalPrinterColumns[0].format: Invalid value: "text": must be one of byte,date,date-time,double,float,int32,int64,password"#,
        r#"spec.additionalPrinterColumns[0].JSONPath: Invalid value: "spec": must be a simple json path starting with ."#,
        r#"spec.subresources.scale.specReplicasPath: Invalid value: "spec.replicas": must be a simple json path starting with ."#,
        r#"spec.subresources.scale.statusReplicasPath: Invalid value: ".spec.replicas": should be a json path under .status"#,
        "fields are allowed at the root of the schema if the status subresource is enabled",
        "spec.conversion.webhookClientConfig: Forbidden: should not be set when strategy is not set to Webhook",
        "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webhook",
    ] {
        assert!(error.message().contains(part), "{part} is not in {error}");
    }
    // Versions that objects may be stored in stay.
    h.widgets().await;
    let mut change = definition("widgets", "Widget")["spec"]["versions"].clone();
    change[0]["name"] = json!("v2");
    let at = ObjectRef::new(None, "widgets.example.com");
    let patch = Patch::merge(json!({ "spec": { "versions": change } }));
    let error = h.api.patch(&DEFINITION, at, patch, &UpdateOptions::default()).await.unwrap_err();
    assert!(
        error
            .message()
            .contains(r#"status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was"#),
        "{error}"
    );
    h.stop().await;
}

/// A patch is judged by what it says, not by what an earlier schema had let in.
#[tokio::test(flavor = "multi_thread")]
async fn fields_of_an_earlier_schema_are_pruned_before_a_patch() {
    let h = Harness::start().await;
    let row = h.widgets().await;
    h.create(&row, Some("default"), widget("w", json!({ "selector": "x", "replicas": 2 }))).await;
    let mut versions = definition("widgets", "Widget")["spec"]["versions"].clone();
    let spec = &mut versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["properties"].as_object_mut().unwrap().remove("selector");
    let at = ObjectRef::new(None, "widgets.example.com");
    let patch = Patch::merge(json!({ "spec": { "versions": versions } }));
    let changed = h.api.patch(&DEFINITION, at, patch, &UpdateOptions::default()).await.unwrap();
    let at = ObjectRef::new(Some("default"), "w");
    let strict = UpdateOptions { field_validation: api::FieldValidation::Strict, ..UpdateOptions::default() };
    let patched = async || {
        // Until the new schema is served.
        loop {
            let patch = Patch::merge(json!({ "metadata": { "labels": { "a": "b" } } }));
            let tree = h.api.patch(&row, at, patch, &strict).await.unwrap().tree().unwrap();
            if tree["spec"].get("selector").is_none() {
                return tree;
            }
            tokio::task::yield_now().await;
        }
    };
    let tree = tokio::time::timeout(Duration::from_secs(20), patched()).await.expect("in time");
    assert!(changed.tree().is_ok());
    assert_eq!(tree["spec"], json!({ "replicas": 2 }));
    h.stop().await;
}
