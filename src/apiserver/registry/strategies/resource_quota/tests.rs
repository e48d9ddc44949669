//! Quotas against what upstream's validation says of the same objects.

use api::kinds::RESOURCE_QUOTA;
use client::ObjectRef;
use serde_json::{Value, json};

use crate::testing::Harness;

#[tokio::test]
async fn faults_of_quotas_are_upstreams() {
    let h = Harness::start().await;
    let quota = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    let exists = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
    let cases: Vec<(Value, Vec<String>)> = vec![
        (
            quota(json!({"hard": {"storage": "1", "pods": "1.5", "cpu": "-1", "xyz": "1"}})),
            vec![
                "spec.hard[cpu]: Invalid value: \"-1\": must be greater than or equal to 0".into(),
                "spec.hard[pods]: Invalid value: \"1500m\": must be an integer".into(),
                "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota".into(),
                "spec.hard[xyz]: Invalid value: \"xyz\": must be a standard resource type or fully qualified".into(),
                "spec.hard[xyz]: Invalid value: \"xyz\": must be a standard resource for quota".into(),
            ],
        ),
        (
            quota(json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort", "NotBestEffort", "Big"]})),
            vec![
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Big\"]: unsupported scope applied to resource".into(),
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Big\"]: unsupported scope".into(),
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Big\"]: conflicting scopes".into(),
            ],
        ),
        (
            quota(json!({"scopeSelector": {"matchExpressions": [
                {"scopeName": "Terminating", "operator": "In", "values": []},
            ]}})),
            vec![
                format!("spec.scopeSelector.matchExpressions.operator: Invalid value: \"In\": {exists}"),
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector".into(),
            ],
        ),
    ];
    for (body, want) in cases {
        assert_eq!(h.try_create(&RESOURCE_QUOTA, Some("default"), body).await.unwrap_err(), want);
    }
    let body = quota(json!({"hard": {"pods": "1", "count/deployments.apps": "2"}, "scopes": ["BestEffort"]}));
    h.try_create(&RESOURCE_QUOTA, Some("default"), body).await.unwrap();
    let at = ObjectRef::new(Some("default"), "a");
    let refused = h.try_patch(&RESOURCE_QUOTA, at, json!({"spec": {"scopes": ["Terminating"]}})).await;
    assert_eq!(refused.unwrap_err(), ["spec.scopes: Invalid value: [\"Terminating\"]: field is immutable"]);
    h.stop().await;
}
