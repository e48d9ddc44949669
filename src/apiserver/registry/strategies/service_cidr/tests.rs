//! Ranges: what is refused, the default one, and services' use of them.

use api::kinds::{SERVICE, SERVICE_CIDR};
use api::{ApiError, CreateOptions, Patch, UpdateOptions};
use client::ObjectRef;
use serde_json::{Value, json};

use crate::testing::{Harness, config};

async fn create(h: &Harness, name: &str, cidrs: Value) -> Result<Value, ApiError> {
    let body = json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}});
    Ok(h.api.create(&SERVICE_CIDR, None, body, &CreateOptions::default()).await?.tree().unwrap())
}

async fn patch(h: &Harness, name: &str, part: Option<&'static str>, body: Value) -> Result<Value, ApiError> {
    let at = ObjectRef { subresource: part, ..ObjectRef::new(None, name) };
    let done = h.api.patch(&SERVICE_CIDR, at, Patch::merge(body), &UpdateOptions::default()).await?;
    Ok(done.tree().unwrap())
}

#[tokio::test]
async fn ranges_are_validated_as_upstream_does() {
    let h = Harness::start().await;
    for (cidrs, want) in [
        (json!([]), "spec.cidrs: Required value: at least one CIDR required"),
        (
            json!(["x"]),
            "spec.cidrs[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ),
        (
            json!(["10.9.8.7/24"]),
            "spec.cidrs[0]: Invalid value: \"10.9.8.7/24\": must not have bits set beyond the prefix length",
        ),
        (json!(["10.9.8.0/024"]), "must not have leading 0s in IP or prefix length"),
        (json!(["010.9.8.0/24"]), "must not have leading 0s in IP or prefix length"),
        (json!(["FD00::/64"]), "must be in canonical form (\"fd00::/64\")"),
        (
            json!(["10.9.0.0/24", "10.8.0.0/24"]),
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ),
        (json!(["10.9.0.0/24", "fd00::/64", "fd01::/64"]), "may only hold up to 2 values"),
    ] {
        let refused = create(&h, "a", cidrs.clone()).await.unwrap_err();
        assert!(refused.code() == 422 && refused.message().contains(want), "{cidrs}: {refused}");
    }
    let made = create(&h, "a", json!(["10.9.0.0/24"])).await.unwrap();
    assert!(made["metadata"].get("generation").is_none() && made["status"] == json!({}), "{made}");
    for cidrs in [json!(["10.8.0.0/24"]), json!(["10.8.0.0/24", "fd00::/64"])] {
        let refused = patch(&h, "a", None, json!({"spec": {"cidrs": cidrs}})).await.unwrap_err();
        assert!(
            refused.message().contains("spec.cidrs[0]: Invalid value: \"10.8.0.0/24\": field is immutable"),
            "{refused}"
        );
    }
    let both = json!({"spec": {"cidrs": ["10.9.0.0/24", "fd00::/64"]}});
    patch(&h, "a", None, both).await.unwrap();
    let one = patch(&h, "a", None, json!({"spec": {"cidrs": ["10.9.0.0/24"]}})).await.unwrap_err();
    assert!(
        one.message().contains("spec.cidrs: Invalid value: [\"10.9.0.0/24\"]: field is immutable"),
        "{one}"
    );
    let status = json!({
        "metadata": {"labels": {"a": "b"}}, "spec": {"cidrs": ["10.7.0.0/24"]},
        "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "No", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    let told = patch(&h, "a", Some("status"), status).await.unwrap();
    assert_eq!(told["spec"]["cidrs"], json!(["10.9.0.0/24", "fd00::/64"]));
    assert_eq!(told["status"]["conditions"][0]["reason"], "No");
    assert!(told["metadata"].get("labels").is_none());
    h.stop().await;
}

async fn service(h: &Harness, name: &str, address: Option<&str>) -> Result<String, ApiError> {
    let mut body = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    body["spec"]["clusterIP"] = json!(address);
    let made = h.api.create(&SERVICE, Some("default"), body, &CreateOptions::default()).await?;
    Ok(made.tree().unwrap()["spec"]["clusterIP"].as_str().unwrap().to_string())
}

#[tokio::test]
async fn addresses_come_from_every_range_that_is_ready() {
    let mut config = config();
    config.service_cidr = "10.43.0.0/29".into();
    let h = Harness::with(config).await;
    let full = "Internal error occurred: failed to allocate a serviceIP for Service \"late\": range is full";
    // One address is the `kubernetes` service's.
    for number in 0..5 {
        service(&h, &format!("s{number}"), None).await.unwrap();
    }
    assert_eq!(service(&h, "late", None).await.unwrap_err().message(), full);
    let refused = service(&h, "late", Some("10.44.0.9")).await.unwrap_err();
    assert!(
        refused.message().ends_with("the provided network does not match the current range"),
        "{refused}"
    );
    create(&h, "more", json!(["10.44.0.0/28"])).await.unwrap();
    assert!(service(&h, "late", None).await.unwrap().starts_with("10.44.0."));
    // The addresses of the network itself and of everybody in it belong to no range.
    for address in ["10.44.0.0", "10.44.0.15"] {
        let refused = service(&h, "x", Some(address)).await.unwrap_err();
        assert!(refused.message().ends_with("does not match the current range"), "{refused}");
    }
    let condition = |status: &str| {
        json!({"status": {"conditions": [{"type": "Ready", "status": status, "reason": "Told",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
    };
    patch(&h, "more", Some("status"), condition("False")).await.unwrap();
    assert!(service(&h, "x", None).await.unwrap_err().message().ends_with("range is full"));
    patch(&h, "more", Some("status"), condition("True")).await.unwrap();
    service(&h, "x", None).await.unwrap();
    patch(&h, "more", None, json!({"metadata": {"finalizers": ["example.com/hold"]}})).await.unwrap();
    h.delete(&SERVICE_CIDR, None, "more").await.unwrap();
    assert!(service(&h, "y", None).await.unwrap_err().message().ends_with("range is full"));
    h.stop().await;
}

#[tokio::test]
async fn the_range_of_the_flags_is_made_and_told_to_be_ready() {
    let h = Harness::start().await;
    let made = h.get(&SERVICE_CIDR, None, "kubernetes").await.unwrap();
    assert_eq!(made["spec"]["cidrs"], json!(["10.43.0.0/16"]));
    let mut events = crate::testing::Events(
        h.api.watch(&SERVICE_CIDR, None, &api::WatchOptions::default()).await.unwrap(),
    );
    loop {
        let now = h.get(&SERVICE_CIDR, None, "kubernetes").await.unwrap();
        if let Some(ready) = now["status"]["conditions"].get(0) {
            assert_eq!([&ready["type"], &ready["status"]], ["Ready", "True"]);
            assert_eq!(ready["message"], "Kubernetes default Service CIDR is ready");
            break;
        }
        events.next().await;
    }
    // It comes back.
    h.delete(&SERVICE_CIDR, None, "kubernetes").await.unwrap();
    while h.get(&SERVICE_CIDR, None, "kubernetes").await.is_err() {
        events.next().await;
    }
    h.stop().await;
}
