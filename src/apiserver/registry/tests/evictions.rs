//! Evictions and the budgets that they ask.

use api::kinds::{POD, POD_DISRUPTION_BUDGET, SERVICE_ACCOUNT};
use api::{ApiError, CreateOptions, DryRun, Patch, UpdateOptions};
use serde_json::{Value, json};

use super::{HERE, at};
use crate::testing::{Harness, pod};

/// A server with pods of a name each, which run and are ready or not.
async fn with_pods(pods: &[(&str, bool)]) -> Harness {
    let h = Harness::start().await;
    h.create(&SERVICE_ACCOUNT, HERE, json!({"metadata": {"name": "default"}})).await;
    for (name, ready) in pods {
        let mut body = pod(name);
        body["metadata"]["labels"] = json!({"app": "a"});
        h.create(&POD, HERE, body).await;
        let status = json!({"phase": "Running",
            "conditions": [{"type": "Ready", "status": if *ready { "True" } else { "False" }}]});
        set(&h, &POD, name, json!({"status": status})).await;
    }
    h
}

async fn set(h: &Harness, row: &api::KindRow, name: &str, patch: Value) {
    let target = at(name).sub("status");
    h.api.patch(row, target, Patch::merge(patch), &UpdateOptions::default()).await.unwrap();
}

async fn budget(h: &Harness, name: &str, spec: Value, status: Value) {
    let mut own = json!({"selector": {"matchLabels": {"app": "a"}}});
    own.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    h.create(&POD_DISRUPTION_BUDGET, HERE, json!({"metadata": {"name": name}, "spec": own})).await;
    set(h, &POD_DISRUPTION_BUDGET, name, json!({"status": status})).await;
}

async fn evict(h: &Harness, name: &str, more: Value) -> Result<Value, ApiError> {
    let mut body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    h.api.create_sub(&POD, at(name).sub("eviction"), body, &CreateOptions::default()).await
}

fn cause(error: &ApiError) -> (String, String) {
    let details = error.status().details.clone().unwrap();
    let cause = details.causes.unwrap().remove(0);
    (cause.reason.unwrap(), cause.message.unwrap())
}

const VIOLATION: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

#[tokio::test]
async fn an_eviction_takes_one_of_the_disruptions_that_are_left() {
    let h = with_pods(&[("p", true), ("q", true)]).await;
    budget(&h, "b", json!({"minAvailable": 1}), json!({"disruptionsAllowed": 0})).await;
    // Its controller has not looked yet.
    let error = evict(&h, "p", json!({})).await.unwrap_err();
    assert_eq!((error.code(), error.reason(), error.message()), (429, "TooManyRequests", VIOLATION));
    assert_eq!(
        cause(&error),
        ("DisruptionBudget".into(), "The disruption budget b is still being processed by the server.".into())
    );
    assert_eq!(error.status().details.as_ref().unwrap().retry_after_seconds, Some(10));

    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2,
        "desiredHealthy": 1, "expectedPods": 2}});
    set(&h, &POD_DISRUPTION_BUDGET, "b", status).await;
    // A rehearsal takes nothing.
    let rehearsal = CreateOptions { dry_run: DryRun::All, ..CreateOptions::default() };
    let body = json!({"metadata": {"name": "p"}});
    h.api.create_sub(&POD, at("p").sub("eviction"), body, &rehearsal).await.unwrap();
    assert_eq!(h.get(&POD_DISRUPTION_BUDGET, HERE, "b").await.unwrap()["status"]["disruptionsAllowed"], 1);
    h.get(&POD, HERE, "p").await.unwrap();

    let done = evict(&h, "p", json!({})).await.unwrap();
    assert_eq!((&done["status"], &done["code"]), (&json!("Success"), &json!(201)));
    assert!(h.get(&POD, HERE, "p").await.unwrap_err().is_not_found());
    let after = h.get(&POD_DISRUPTION_BUDGET, HERE, "b").await.unwrap();
    assert_eq!(after["status"]["disruptionsAllowed"].as_i64().unwrap_or(0), 0);
    assert!(after["status"]["disruptedPods"]["p"].is_string(), "{after}");
    let condition = &after["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["status"], &condition["reason"]),
        (&json!("DisruptionAllowed"), &json!("False"), &json!("InsufficientPods"))
    );

    let status = json!({"status": {"currentHealthy": 1}});
    set(&h, &POD_DISRUPTION_BUDGET, "b", status).await;
    let error = evict(&h, "q", json!({})).await.unwrap_err();
    assert_eq!(error.code(), 429);
    assert_eq!(cause(&error).1, "The disruption budget b needs 1 healthy pods and has 1 currently");
    h.get(&POD, HERE, "q").await.unwrap();
    h.stop().await;
}

#[tokio::test]
async fn many_evictions_at_once_take_no_more_than_is_allowed() {
    let names = ["p0", "p1", "p2", "p3", "p4", "p5"];
    let h = with_pods(&names.map(|name| (name, true))).await;
    let status =
        json!({"observedGeneration": 1, "disruptionsAllowed": 2, "currentHealthy": 6, "desiredHealthy": 4});
    budget(&h, "b", json!({"minAvailable": 4}), status).await;
    let evictions = futures::future::join_all(names.map(|name| evict(&h, name, json!({})))).await;
    assert_eq!(evictions.iter().filter(|done| done.is_ok()).count(), 2);
    assert_eq!(h.names(&POD, &api::ListOptions::default()).await.len(), 4);
    h.stop().await;
}

#[tokio::test]
async fn pods_that_are_not_ready_go_as_the_budget_says() {
    let h = with_pods(&[("p", false), ("q", false), ("r", false)]).await;
    let short = json!({"observedGeneration": 1, "currentHealthy": 1, "desiredHealthy": 2});
    budget(&h, "b", json!({"minAvailable": 2}), short).await;
    assert_eq!(evict(&h, "p", json!({})).await.unwrap_err().code(), 429);
    // Enough are healthy without it.
    set(&h, &POD_DISRUPTION_BUDGET, "b", json!({"status": {"currentHealthy": 2}})).await;
    evict(&h, "p", json!({})).await.unwrap();
    set(&h, &POD_DISRUPTION_BUDGET, "b", json!({"status": {"currentHealthy": 0}})).await;
    assert_eq!(evict(&h, "q", json!({})).await.unwrap_err().code(), 429);
    let always = Patch::merge(json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}}));
    h.api.patch(&POD_DISRUPTION_BUDGET, at("b"), always, &UpdateOptions::default()).await.unwrap();
    evict(&h, "q", json!({})).await.unwrap();
    assert!(h.get(&POD_DISRUPTION_BUDGET, HERE, "b").await.unwrap()["status"].get("disruptedPods").is_none());
    // One that has not begun is nobody's loss.
    set(&h, &POD, "r", json!({"status": {"phase": "Pending"}})).await;
    let never = json!({"spec": {"unhealthyPodEvictionPolicy": "IfHealthyBudget"}});
    h.api
        .patch(&POD_DISRUPTION_BUDGET, at("b"), Patch::merge(never), &UpdateOptions::default())
        .await
        .unwrap();
    evict(&h, "r", json!({})).await.unwrap();
    h.stop().await;
}

#[tokio::test]
async fn what_speaks_against_an_eviction_beside_budgets() {
    let h = with_pods(&[("p", true)]).await;
    let wrong = json!({"metadata": {"name": "other"}});
    let error = evict(&h, "p", wrong).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (400, "name in URL does not match name in Eviction object"));
    let stale = json!({"deleteOptions": {"preconditions": {"resourceVersion": "1"}}});
    let error = evict(&h, "p", stale).await.unwrap_err();
    assert!(
        error.is_conflict() && error.message().contains("on Pod \"p\": the ResourceVersion in the"),
        "{error}"
    );
    let other = json!({"deleteOptions": {"preconditions": {"uid": "x"}}});
    assert!(evict(&h, "p", other).await.unwrap_err().is_conflict());
    for name in ["b", "c"] {
        budget(
            &h,
            name,
            json!({"minAvailable": 0}),
            json!({"observedGeneration": 1, "disruptionsAllowed": 1}),
        )
        .await;
    }
    let error = evict(&h, "p", json!({})).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (
            500,
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
    );
    h.delete(&POD_DISRUPTION_BUDGET, HERE, "b").await.unwrap();
    let status = json!({"status": {"conditions": [{"type": "DisruptionAllowed", "status": "False",
        "reason": "SyncFailed", "message": "no scale", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "disruptionsAllowed": 0}});
    set(&h, &POD_DISRUPTION_BUDGET, "c", status).await;
    assert_eq!(
        cause(&evict(&h, "p", json!({})).await.unwrap_err()).1,
        "The disruption budget c does not allow evicting pods currently because it failed sync: no scale"
    );
    // Bodies of the version before are taken, too.
    h.delete(&POD_DISRUPTION_BUDGET, HERE, "c").await.unwrap();
    evict(&h, "p", json!({"apiVersion": "policy/v1beta1"})).await.unwrap();
    h.stop().await;
}
