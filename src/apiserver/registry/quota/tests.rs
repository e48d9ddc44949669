//! Quotas under many writers, and what they say.

use api::kinds::{CONFIG_MAP, POD, RESOURCE_QUOTA, SERVICE_ACCOUNT};
use client::ObjectRef;
use serde_json::{Value, json};

use crate::testing::{Harness, pod};

const HERE: Option<&str> = Some("default");

/// A quota whose use somebody has counted.
async fn quota(h: &Harness, hard: Value, used: Value) {
    let body = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    h.try_create(&RESOURCE_QUOTA, HERE, body).await.unwrap();
    let status = json!({"status": {"hard": hard, "used": used}});
    h.try_patch(&RESOURCE_QUOTA, ObjectRef::new(HERE, "q").sub("status"), status).await.unwrap();
}

async fn used(h: &Harness) -> Value {
    h.get(&RESOURCE_QUOTA, HERE, "q").await.unwrap()["status"]["used"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_never_spend_more_than_there_is() {
    let h = Harness::start().await;
    quota(&h, json!({"count/configmaps": "7"}), json!({"count/configmaps": "0"})).await;
    // All are on their way at once: each reads the quota before any other has written it.
    let writers = (0..40).map(|number| {
        let body = json!({"metadata": {"name": format!("c{number}")}});
        h.try_create(&CONFIG_MAP, HERE, body)
    });
    let mut made = 0;
    for outcome in futures::future::join_all(writers).await {
        match outcome {
            Ok(_) => made += 1,
            Err(why) => assert!(why[0].contains("exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=7, limited: count/configmaps=7"), "{why:?}"),
        }
    }
    assert_eq!(made, 7);
    assert_eq!(used(&h).await, json!({"count/configmaps": "7"}));
    h.stop().await;
}

#[tokio::test]
async fn pods_are_charged_with_what_they_ask_for() {
    let h = Harness::start().await;
    h.create(&SERVICE_ACCOUNT, HERE, json!({"metadata": {"name": "default"}})).await;
    let hard = json!({"pods": "2", "requests.cpu": "1"});
    quota(&h, hard.clone(), json!({"pods": "0", "requests.cpu": "0"})).await;
    assert_eq!(
        h.try_create(&POD, HERE, pod("p")).await.unwrap_err(),
        ["pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c"]
    );
    let asking = |name: &str, cpu: &str| {
        let mut body = pod(name);
        body["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
        body
    };
    h.try_create(&POD, HERE, asking("p", "600m")).await.unwrap();
    assert_eq!(used(&h).await, json!({"pods": "1", "requests.cpu": "600m"}));
    assert_eq!(
        h.try_create(&POD, HERE, asking("q", "500m")).await.unwrap_err(),
        [
            "pods \"q\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
        ]
    );
    // A refused request leaves no trace, and neither does a rehearsal.
    assert_eq!(used(&h).await, json!({"pods": "1", "requests.cpu": "600m"}));
    let options = api::CreateOptions { dry_run: api::DryRun::All, ..api::CreateOptions::default() };
    h.api.create(&POD, HERE, asking("q", "100m"), &options).await.unwrap();
    assert_eq!(used(&h).await, json!({"pods": "1", "requests.cpu": "600m"}));
    h.stop().await;
}
