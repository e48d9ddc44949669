//! What a deletion is answered with.

use super::*;

#[tokio::test]
async fn a_deletion_answers_with_the_object_where_upstreams_does() {
    let h = Harness::start().await;
    let core = "/api/v1/namespaces/default";
    let account = json!({ "metadata": { "name": "default" } });
    post(&h, &format!("{core}/serviceaccounts"), account).await;
    let service = json!({ "metadata": { "name": "a" }, "spec": { "ports": [{ "port": 80 }] } });
    let pod =
        json!({ "metadata": { "name": "a" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let plain = || json!({ "metadata": { "name": "a" } });
    let cases = [
        (format!("{core}/services"), service, "Service"),
        (format!("{core}/pods"), pod, "Pod"),
        (format!("{core}/serviceaccounts"), plain(), "ServiceAccount"),
        (CONFIG_MAPS.to_string(), plain(), "Status"),
        ("/api/v1/namespaces".to_string(), plain(), "Namespace"),
    ];
    for (path, body, kind) in cases {
        let created = post(&h, &path, body).await;
        assert_eq!(created.code, 201, "{kind}: {}", created.message());
        let deleted = send(&h, "DELETE", &format!("{path}/a"), &[], Body::empty()).await;
        let tree = deleted.json();
        assert_eq!((deleted.code, tree["kind"].as_str()), (200, Some(kind)));
        if kind == "Status" {
            assert_eq!(tree["details"]["uid"], created.json()["metadata"]["uid"]);
            continue;
        }
        assert_eq!(tree["metadata"]["uid"], created.json()["metadata"]["uid"]);
        // Its version is that of the deletion, as a watch has it.
        let version =
            |tree: &Value| tree["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
        assert!(version(&tree) > version(&created.json()), "{kind}");
    }
    h.stop().await;
}
