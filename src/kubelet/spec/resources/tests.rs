//! Cgroup numbers.

use serde_json::json;

use super::*;

fn pod(containers: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})).unwrap()
}

#[test]
fn numbers() {
    let one = pod(
        json!([{"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}}]),
    );
    let limits = of_container(&one, &one.containers()[0], 1 << 30, false);
    assert_eq!((limits.cpu_shares, limits.cpu_quota, limits.memory_limit_in_bytes), (256, 50_000, 64 << 20));
    assert_eq!(limits.oom_score_adj, 999);
    let both = of_pod(&one);
    assert_eq!(both, PodLimits { shares: 256, quota: Some(50_000), memory: Some(64 << 20) });
    let open = pod(json!([{"name": "a", "resources": {"requests": {"cpu": "250m"}}}, {"name": "b"}]));
    assert_eq!(of_pod(&open), PodLimits { shares: 256, quota: None, memory: None });
}
