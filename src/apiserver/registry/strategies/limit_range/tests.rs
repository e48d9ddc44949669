//! Limit ranges against what upstream's validation says of the same objects.

use api::kinds::LIMIT_RANGE;
use serde_json::{Value, json};

use crate::testing::Harness;

#[tokio::test]
async fn faults_of_limit_ranges_are_upstreams() {
    let h = Harness::start().await;
    let range = |item: Value| json!({"metadata": {"name": "a"}, "spec": {"limits": [item]}});
    let at = "spec.limits[0]";
    let cases: Vec<(Value, Vec<String>)> = vec![
        (
            range(json!({"type": "Node"})),
            vec![format!(
                "{at}.type: Invalid value: \"Node\": must be a standard limit type or fully qualified"
            )],
        ),
        (
            range(json!({"type": "Pod", "default": {"cpu": "1"}})),
            vec![format!("{at}.default: Forbidden: may not be specified when `type` is 'Pod'")],
        ),
        (
            range(json!({"type": "PersistentVolumeClaim"})),
            vec![format!(
                "{at}.limits: Required value: either minimum or maximum storage value is required, but neither was provided"
            )],
        ),
        (
            range(json!({"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}})),
            vec![
                format!("{at}.min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1"),
                format!(
                    "{at}.defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1"
                ),
                format!(
                    "{at}.default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1"
                ),
            ],
        ),
        (
            range(json!({"type": "Container", "min": {"memory": "1Gi"}, "max": {"memory": "2Gi"},
                "maxLimitRequestRatio": {"memory": "4"}, "default": {"pods": "1"}})),
            vec![
                format!(
                    "{at}.default[pods]: Invalid value: \"pods\": must be a standard resource for containers"
                ),
                format!(
                    "{at}.defaultRequest[pods]: Invalid value: \"pods\": must be a standard resource for containers"
                ),
                format!(
                    "{at}.maxLimitRequestRatio[memory]: Invalid value: \"4\": ratio 4 is greater than max/min = 2.000000"
                ),
            ],
        ),
    ];
    for (body, want) in cases {
        assert_eq!(h.try_create(&LIMIT_RANGE, Some("default"), body).await.unwrap_err(), want);
    }
    let item = json!({"type": "Container", "min": {"memory": "1Mi"}, "max": {"cpu": "2"}});
    let made = h.try_create(&LIMIT_RANGE, Some("default"), range(item)).await.unwrap();
    let item = &made["spec"]["limits"][0];
    assert_eq!(item["default"], json!({"cpu": "2"}));
    assert_eq!(item["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
    h.stop().await;
}
