//! What is there of a new server, and after a definition has come and gone.

use api::ListOptions;
use api::kinds::{API_SERVICE, FLOW_SCHEMA, PRIORITY_CLASS, PRIORITY_LEVEL_CONFIGURATION};
use serde_json::json;

use super::{priorities, wanted};
use crate::testing::Harness;

#[test]
fn each_version_has_upstreams_priority() {
    assert_eq!(priorities("", "v1"), Some((18000, 1, true)));
    assert_eq!(priorities("apps", "v1"), Some((17800, 15, true)));
    assert_eq!(priorities("autoscaling", "v2"), Some((17500, 30, true)));
    assert_eq!(priorities("resource.k8s.io", "v1beta2"), Some((16200, 15, true)));
    assert_eq!(priorities("example.com", "v1alpha1"), Some((1000, 100, false)));
    assert_eq!(priorities("apiregistration.k8s.io", "v1"), None);
    let rows: Vec<_> = api::kinds::ALL.iter().map(|row| std::sync::Arc::new((*row).clone())).collect();
    let want = wanted(&rows);
    assert_eq!(want["v1."]["spec"].get("group"), None);
    assert_eq!(
        want["v1.storage.k8s.io"]["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"],
        "onstart"
    );
}

/// The task that makes them is behind the start: the test waits for the last of them.
#[tokio::test]
async fn a_new_cluster_has_upstreams_objects() {
    let h = Harness::start().await;
    let names = async |row| {
        let list = h.api.list(row, None, &ListOptions::default()).await.unwrap();
        list.items.iter().map(|object| object.name().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&PRIORITY_CLASS).await, ["system-cluster-critical", "system-node-critical"]);
    assert_eq!(names(&PRIORITY_LEVEL_CONFIGURATION).await.len(), 8);
    assert_eq!(names(&FLOW_SCHEMA).await.len(), 11);
    let mut events = h.api.watch(&API_SERVICE, None, &api::WatchOptions::default()).await.unwrap();
    let served = crate::bootstrap::api_services::wanted(
        &api::kinds::ALL.iter().map(|row| std::sync::Arc::new((*row).clone())).collect::<Vec<_>>(),
    );
    while names(&API_SERVICE).await.len() < served.len() {
        futures::StreamExt::next(&mut events).await;
    }
    let core = h.get(&API_SERVICE, None, "v1.").await.unwrap();
    assert_eq!(core["status"]["conditions"][0]["reason"], "Local");
    let refused = json!({"metadata": {"name": "v1.example.com"},
        "spec": {"group": "example.org", "version": "v1", "groupPriorityMinimum": 0, "versionPriority": 1}});
    assert_eq!(
        h.try_create(&API_SERVICE, None, refused).await.unwrap_err(),
        [
            "metadata.name: Invalid value: \"v1.example.com\": must be `spec.version+\".\"+spec.group`: \"v1.example.org\"",
            "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
        ]
    );
    h.stop().await;
}
