//! What `/metrics` tells of requests.

use super::*;

#[tokio::test]
async fn requests_are_counted() {
    let h = Harness::start().await;
    for path in [CONFIG_MAPS, CONFIG_MAPS, "/api/v1/namespaces/default/configmaps/no"] {
        get(&h, path).await;
    }
    get(&h, "/readyz").await;
    get(&h, "/api/v1/namespaces/default/endpoints").await;
    let body = json!({ "metadata": { "name": "a" } });
    post(&h, &format!("{CONFIG_MAPS}?dryRun=All"), body).await;
    let watch = Request::builder().uri(format!("{CONFIG_MAPS}?watch=1")).body(Body::empty()).unwrap();
    let watch = raw(&h, watch).await;
    let text = String::from_utf8(get(&h, "/metrics").await.body.to_vec()).unwrap();
    let labels = |verb: &str, scope: &str, dry_run: &str| {
        format!(
            "component=\"apiserver\",{dry_run}group=\"\",resource=\"configmaps\",scope=\"{scope}\",subresource=\"\",verb=\"{verb}\",version=\"v1\""
        )
    };
    let (list, found) =
        (labels("LIST", "namespace", "dry_run=\"\","), labels("GET", "resource", "dry_run=\"\","));
    let created = labels("POST", "resource", "dry_run=\"All\",");
    let (size, watched) = (labels("LIST", "namespace", ""), labels("WATCH", "namespace", ""));
    for line in [
        format!("apiserver_request_total{{code=\"200\",{list}}} 2\n"),
        format!("apiserver_request_total{{code=\"404\",{found}}} 1\n"),
        format!("apiserver_request_total{{code=\"201\",{created}}} 1\n"),
        format!("apiserver_request_duration_seconds_count{{{list}}} 2\n"),
        format!("apiserver_response_sizes_count{{{size}}} 2\n"),
        format!("apiserver_longrunning_requests{{{watched}}} 1\n"),
        "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0\n".to_string(),
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1\n".to_string(),
        "apiserver_resource_objects{group=\"\",resource=\"namespaces\"} 4\n".to_string(),
        "apiserver_storage_objects{resource=\"deployments.apps\"} 0\n".to_string(),
        "kubernetes_healthcheck{name=\"ping\",type=\"readyz\"} 1\n".to_string(),
        "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"readyz\"} 1\n".to_string(),
        "apiserver_requested_deprecated_apis{group=\"\",removed_release=\"\",resource=\"endpoints\",subresource=\"\",version=\"v1\"} 1\n".to_string(),
    ] {
        assert!(text.contains(&line), "{line}{text}");
    }
    drop(watch);
    let text = String::from_utf8(get(&h, "/metrics").await.body.to_vec()).unwrap();
    let over = format!("apiserver_longrunning_requests{{{watched}}} 0\n");
    assert!(text.contains(&over), "{text}");
    h.stop().await;
}
