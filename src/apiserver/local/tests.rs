//! Places that components in the process may not name.

use api::kinds::{CONFIG_MAP, PRIORITY_CLASS};
use serde_json::json;

use super::*;
use crate::testing::Harness;

/// Upstream's clients ask for `/namespaces/NS/PLURAL/NAME`, which is not there: an autoscaler of a tenant
/// must not reach what belongs to the cluster.
#[tokio::test]
async fn an_object_of_the_cluster_is_not_in_a_namespace() {
    let h = Harness::start().await;
    let class = json!({"metadata": {"name": "wanted"}, "value": 7});
    h.create(&PRIORITY_CLASS, None, class.clone()).await;
    let at = ObjectRef::new(Some("default"), "wanted");
    let (row, here) = (&PRIORITY_CLASS, Some("default"));
    let options = UpdateOptions::default();
    let refusals = [
        h.api.get(row, at).await.unwrap_err(),
        h.api.list(row, here, &ListOptions::default()).await.unwrap_err(),
        h.api.watch(row, here, &WatchOptions::default()).await.map(drop).unwrap_err(),
        h.api.create(row, here, class.clone(), &CreateOptions::default()).await.unwrap_err(),
        h.api.update(row, at, class, &options).await.unwrap_err(),
        h.api.patch(row, at, Patch::merge(json!({"value": 8})), &options).await.unwrap_err(),
        h.api.delete(row, at, &DeleteOptions::default()).await.map(drop).unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!((refusal.code(), &*refusal.to_string()), (404, &*unknown().to_string()));
    }
    let kept = h.get(row, None, "wanted").await.unwrap();
    assert_eq!(kept["value"], 7);
    h.config_map("c").await;
    h.get(&CONFIG_MAP, here, "c").await.unwrap();
    h.stop().await;
}
