//! Tests of which ended pods go.

use serde_json::json;

use super::*;

#[test]
fn the_oldest_ended_pods_go() {
    let pod = |name: &str, created: &str| -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "creationTimestamp": created}}))
                .unwrap(),
        )
    };
    let pods = vec![
        pod("young", "2026-01-03T00:00:00Z"),
        pod("old", "2026-01-01T00:00:00Z"),
        pod("middle", "2026-01-02T00:00:00Z"),
    ];
    let names =
        |pods: Vec<Arc<Pod>>| pods.iter().map(|pod| text(&pod.metadata.name).to_string()).collect::<Vec<_>>();
    assert_eq!(names(surplus(pods.clone(), 1)), ["old", "middle"]);
    assert!(surplus(pods, 3).is_empty());
}
