//! The registry over a store in memory: every verb, watches, concurrency, deletion.

mod evictions;
mod workloads;

use api::kinds::{CONFIG_MAP, DEPLOYMENT, EVENT, EVENTS_EVENT, NAMESPACE, POD, SERVICE_ACCOUNT};
use api::{
    CreateOptions, DeleteOptions, DryRun, FieldSelector, LabelSelector, ListOptions, Patch, Preconditions,
    PropagationPolicy, UpdateOptions, WatchOptions,
};
use client::ObjectRef;
use embedded_store::Store;
use serde_json::{Value, json};

use crate::testing::{Harness, deployment, pod};

const HERE: Option<&str> = Some("default");

fn at(name: &str) -> ObjectRef<'_> {
    ObjectRef::new(HERE, name)
}

#[tokio::test]
async fn an_object_gets_its_identity_and_keeps_it() {
    let h = Harness::start().await;
    let body = json!({
        "metadata": { "name": "a", "uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "selfLink": "/x" },
        "data": { "k": "v" },
    });
    let created = h.create(&CONFIG_MAP, HERE, body).await;
    let tree = created.tree().unwrap();
    assert_ne!(tree["metadata"]["uid"], "mine");
    assert_ne!(tree["metadata"]["creationTimestamp"], "2001-01-01T00:00:00Z");
    assert_eq!(tree["metadata"]["namespace"], "default");
    assert_eq!(tree["apiVersion"], "v1");
    assert_eq!(tree["kind"], "ConfigMap");
    assert!(tree["metadata"].get("selfLink").is_none());

    let mut changed = tree.clone();
    changed["data"]["k"] = json!("w");
    changed["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    let options = UpdateOptions::default();
    let updated = h.api.update(&CONFIG_MAP, at("a"), changed, &options).await.unwrap().tree().unwrap();
    assert_eq!(updated["metadata"]["creationTimestamp"], tree["metadata"]["creationTimestamp"]);
    assert_eq!(updated["data"]["k"], "w");

    let again =
        h.api.create(&CONFIG_MAP, HERE, json!({"metadata": {"name": "a"}}), &CreateOptions::default()).await;
    assert_eq!(again.unwrap_err().message(), "configmaps \"a\" already exists");
    h.stop().await;
}

#[tokio::test]
async fn generated_names_have_upstreams_form() {
    let h = Harness::start().await;
    let object = h.create(&CONFIG_MAP, HERE, json!({ "metadata": { "generateName": "web-" } })).await;
    let suffix = object.name().strip_prefix("web-").unwrap();
    assert_eq!(suffix.len(), 5);
    assert!(suffix.chars().all(|one| "bcdfghjklmnpqrstvwxz2456789".contains(one)), "{suffix}");
    assert_eq!(super::names::generate(&"x".repeat(80)).len(), 63);
    let nameless = h.api.create(&CONFIG_MAP, HERE, json!({}), &CreateOptions::default()).await.unwrap_err();
    assert_eq!(nameless.code(), 422);
    h.stop().await;
}

#[tokio::test]
async fn a_write_of_an_old_version_is_a_conflict_and_a_write_of_nothing_is_none() {
    let h = Harness::start().await;
    let first = h.config_map("a").await;
    let mut tree = first.tree().unwrap();
    tree["data"]["k"] = json!("2");
    let second = h.api.update(&CONFIG_MAP, at("a"), tree.clone(), &UpdateOptions::default()).await.unwrap();
    assert!(second.resource_version() > first.resource_version());
    let stale =
        h.api.update(&CONFIG_MAP, at("a"), tree.clone(), &UpdateOptions::default()).await.unwrap_err();
    assert!(stale.is_conflict());
    assert_eq!(
        stale.message(),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes \
         to the latest version and try again"
    );
    let revision = h.store.revision();
    let same =
        h.api.update(&CONFIG_MAP, at("a"), second.tree().unwrap(), &UpdateOptions::default()).await.unwrap();
    assert_eq!(same.resource_version(), second.resource_version());
    assert_eq!(h.store.revision(), revision, "an update that changes nothing is not written");

    tree["metadata"]["resourceVersion"] = json!("");
    tree["metadata"]["uid"] = json!("other");
    let other = h.api.update(&CONFIG_MAP, at("a"), tree, &UpdateOptions::default()).await.unwrap_err();
    assert!(other.is_conflict(), "{other}");
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_without_a_version_lose_nothing() {
    let h = Harness::start().await;
    h.config_map("a").await;
    let writes = (0..20).map(|n| {
        let api = h.api.clone();
        async move {
            let patch = Patch::merge(json!({ "data": { format!("k{n}"): "v" } }));
            api.patch(&CONFIG_MAP, at("a"), patch, &UpdateOptions::default()).await.unwrap();
        }
    });
    futures::future::join_all(writes).await;
    let tree = h.get(&CONFIG_MAP, HERE, "a").await.unwrap();
    assert_eq!(tree["data"].as_object().unwrap().len(), 21);
    h.stop().await;
}

#[tokio::test]
async fn patches_of_every_kind() {
    let h = Harness::start().await;
    h.create(&DEPLOYMENT, HERE, deployment("web")).await;
    let options = UpdateOptions::default();
    let strategic =
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "d", "image": "other" }] } } } });
    let patched = h.api.patch(&DEPLOYMENT, at("web"), Patch::strategic(strategic), &options).await.unwrap();
    let containers = patched.tree().unwrap()["spec"]["template"]["spec"]["containers"].clone();
    assert_eq!(containers.as_array().unwrap().len(), 2, "{containers}");
    let json_patch = json!([{ "op": "test", "path": "/spec/replicas", "value": 2 },
                            { "op": "replace", "path": "/spec/replicas", "value": 5 }]);
    let patched =
        h.api.patch(&DEPLOYMENT, at("web"), Patch::json(json_patch.clone()), &options).await.unwrap();
    assert_eq!(patched.tree().unwrap()["spec"]["replicas"], 5);
    let failed = h.api.patch(&DEPLOYMENT, at("web"), Patch::json(json_patch), &options).await.unwrap_err();
    assert_eq!(failed.code(), 422);
    let pinned = Patch::merge(json!({ "metadata": { "resourceVersion": "1", "labels": { "a": "b" } } }));
    let conflict = h.api.patch(&DEPLOYMENT, at("web"), pinned, &options).await.unwrap_err();
    assert!(conflict.is_conflict());
    let missing = h.api.patch(&DEPLOYMENT, at("no"), Patch::merge(json!({})), &options).await.unwrap_err();
    assert_eq!(missing.message(), "deployments.apps \"no\" not found");
    h.stop().await;
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let h = Harness::start().await;
    let mut body = deployment("web");
    body["status"] = json!({ "replicas": 7 });
    let created = h.create(&DEPLOYMENT, HERE, body).await.tree().unwrap();
    assert!(created["status"].get("replicas").is_none(), "{}", created["status"]);

    let mut status = created.clone();
    status["status"] = json!({ "replicas": 2 });
    status["spec"]["replicas"] = json!(9);
    let after = h
        .api
        .update(&DEPLOYMENT, at("web").sub("status"), status, &UpdateOptions::default())
        .await
        .unwrap()
        .tree()
        .unwrap();
    assert_eq!(after["status"]["replicas"], 2);
    assert_eq!(after["spec"]["replicas"], 2);

    let mut spec = after.clone();
    spec["spec"]["replicas"] = json!(4);
    spec["status"]["replicas"] = json!(100);
    let after =
        h.api.update(&DEPLOYMENT, at("web"), spec, &UpdateOptions::default()).await.unwrap().tree().unwrap();
    assert_eq!(after["status"]["replicas"], 2);
    assert_eq!(after["spec"]["replicas"], 4);
    h.stop().await;
}

#[tokio::test]
async fn scale_is_a_view_of_replicas() {
    let h = Harness::start().await;
    h.create(&DEPLOYMENT, HERE, deployment("web")).await;
    let scale = h.api.get(&DEPLOYMENT, at("web").sub("scale")).await.unwrap().tree().unwrap();
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["spec"]["replicas"], 2);
    assert_eq!(scale["status"]["selector"], "app=web");
    let mut wanted = scale.clone();
    wanted["spec"]["replicas"] = json!(6);
    let options = UpdateOptions::default();
    let after = h.api.update(&DEPLOYMENT, at("web").sub("scale"), wanted.clone(), &options).await.unwrap();
    assert_eq!(after.tree().unwrap()["spec"]["replicas"], 6);
    assert_eq!(h.get(&DEPLOYMENT, HERE, "web").await.unwrap()["spec"]["replicas"], 6);
    let stale = h.api.update(&DEPLOYMENT, at("web").sub("scale"), wanted, &options).await.unwrap_err();
    assert!(stale.is_conflict());
    let patch = Patch::merge(json!({ "spec": { "replicas": 0 } }));
    h.api.patch(&DEPLOYMENT, at("web").sub("scale"), patch, &options).await.unwrap();
    assert_eq!(h.get(&DEPLOYMENT, HERE, "web").await.unwrap()["spec"]["replicas"], 0);
    let negative = Patch::merge(json!({ "spec": { "replicas": -1 } }));
    let refused = h.api.patch(&DEPLOYMENT, at("web").sub("scale"), negative, &options).await.unwrap_err();
    assert_eq!(refused.code(), 422);
    for body in [json!({"spec": {"replicas": "7"}}), json!({"kind": "Deployment", "apiVersion": "apps/v1"})] {
        let scale = at("web").sub("scale");
        let refused = h.api.update(&DEPLOYMENT, scale, body.clone(), &options).await.unwrap_err();
        assert_eq!(refused.code(), 400, "{body}: {refused}");
    }
    h.stop().await;
}

#[tokio::test]
async fn pages_show_one_moment() {
    let h = Harness::start().await;
    for n in 0..7 {
        h.config_map(&format!("a{n}")).await;
    }
    let mut options = ListOptions { limit: 3, ..ListOptions::default() };
    let mut names = Vec::new();
    let mut versions = Vec::new();
    loop {
        let page = h.api.list(&CONFIG_MAP, HERE, &options).await.unwrap();
        names.extend(page.items.iter().map(|one| one.name().to_string()));
        versions.push(page.resource_version);
        // Between the pages things change, but not for this list.
        let _ = h.delete(&CONFIG_MAP, HERE, "a5").await;
        match page.continue_token {
            Some(token) => options.continue_token = Some(token),
            None => break,
        }
    }
    assert_eq!(names, ["a0", "a1", "a2", "a3", "a4", "a5", "a6"]);
    assert!(versions.iter().all(|version| *version == versions[0]));

    let first =
        h.api.list(&CONFIG_MAP, HERE, &ListOptions { limit: 2, ..ListOptions::default() }).await.unwrap();
    assert_eq!(first.remaining, Some(4));
    h.config_map("b").await;
    h.store.compact(h.store.revision()).await.unwrap();
    let options = ListOptions { limit: 2, continue_token: first.continue_token, ..ListOptions::default() };
    let gone = h.api.list(&CONFIG_MAP, HERE, &options).await.unwrap_err();
    assert!(gone.is_expired());
    // The answer holds a token to go on with at the present.
    let token = gone.status().metadata.continue_.clone();
    let options = ListOptions { continue_token: token, ..ListOptions::default() };
    assert_eq!(h.names(&CONFIG_MAP, &options).await, ["a2", "a3", "a4", "a6", "b"]);
    // So does one of a kind that has not changed since.
    let first =
        h.api.list(&CONFIG_MAP, HERE, &ListOptions { limit: 2, ..ListOptions::default() }).await.unwrap();
    for name in ["x", "y"] {
        h.create(&NAMESPACE, None, json!({"metadata": {"name": name}})).await;
    }
    h.store.compact(h.store.revision()).await.unwrap();
    let options = ListOptions { limit: 2, continue_token: first.continue_token, ..ListOptions::default() };
    let gone = h.api.list(&CONFIG_MAP, HERE, &options).await.unwrap_err();
    assert!(gone.is_expired() && gone.status().metadata.continue_.is_some());
    let garbage = ListOptions { continue_token: Some("?".into()), ..ListOptions::default() };
    assert_eq!(h.api.list(&CONFIG_MAP, HERE, &garbage).await.unwrap_err().code(), 400);
    h.stop().await;
}

#[tokio::test]
async fn finalizers_keep_an_object_until_the_last_is_gone() {
    let h = Harness::start().await;
    let body = json!({ "metadata": { "name": "a", "finalizers": ["example.com/one"] } });
    h.create(&CONFIG_MAP, HERE, body).await;
    let marked = h.delete(&CONFIG_MAP, HERE, "a").await.unwrap();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    let again = h.delete(&CONFIG_MAP, HERE, "a").await.unwrap();
    assert_eq!(again["metadata"]["resourceVersion"], marked["metadata"]["resourceVersion"]);
    let patch = Patch::merge(json!({ "metadata": { "finalizers": null } }));
    h.api.patch(&CONFIG_MAP, at("a"), patch, &UpdateOptions::default()).await.unwrap();
    assert!(h.get(&CONFIG_MAP, HERE, "a").await.unwrap_err().is_not_found());
    h.stop().await;
}

#[tokio::test]
async fn propagation_becomes_a_finalizer() {
    let h = Harness::start().await;
    for (policy, finalizer) in
        [(PropagationPolicy::Foreground, "foregroundDeletion"), (PropagationPolicy::Orphan, "orphan")]
    {
        h.config_map("a").await;
        let options = DeleteOptions { propagation_policy: Some(policy), ..DeleteOptions::default() };
        let marked = h.api.delete(&CONFIG_MAP, at("a"), &options).await.unwrap().unwrap().tree().unwrap();
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
        let patch = Patch::merge(json!({ "metadata": { "finalizers": [] } }));
        h.api.patch(&CONFIG_MAP, at("a"), patch, &UpdateOptions::default()).await.unwrap();
        assert!(h.get(&CONFIG_MAP, HERE, "a").await.is_err());
    }
    h.stop().await;
}

#[tokio::test]
async fn deletions_have_preconditions_and_can_be_rehearsed() {
    let h = Harness::start().await;
    let object = h.config_map("a").await;
    let with = |uid: Option<&str>, version: Option<&str>| DeleteOptions {
        preconditions: Preconditions {
            uid: uid.map(str::to_string),
            resource_version: version.map(str::to_string),
        },
        ..DeleteOptions::default()
    };
    assert!(h.api.delete(&CONFIG_MAP, at("a"), &with(Some("no"), None)).await.unwrap_err().is_conflict());
    assert!(h.api.delete(&CONFIG_MAP, at("a"), &with(None, Some("1"))).await.unwrap_err().is_conflict());
    let rehearsal = DeleteOptions { dry_run: DryRun::All, ..DeleteOptions::default() };
    h.api.delete(&CONFIG_MAP, at("a"), &rehearsal).await.unwrap();
    assert!(h.get(&CONFIG_MAP, HERE, "a").await.is_ok());
    let version = object.resource_version().to_string();
    h.api.delete(&CONFIG_MAP, at("a"), &with(Some(object.uid()), Some(&version))).await.unwrap();
    assert!(h.get(&CONFIG_MAP, HERE, "a").await.unwrap_err().is_not_found());

    let dry = CreateOptions { dry_run: DryRun::All, ..CreateOptions::default() };
    h.api.create(&CONFIG_MAP, HERE, json!({"metadata": {"name": "b"}}), &dry).await.unwrap();
    assert!(h.get(&CONFIG_MAP, HERE, "b").await.unwrap_err().is_not_found());
    h.stop().await;
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let h = Harness::start().await;
    for name in ["a", "b", "c"] {
        h.config_map(name).await;
    }
    let list =
        ListOptions { labels: LabelSelector::parse("app in (a,c)").unwrap(), ..ListOptions::default() };
    h.api.delete_collection(&CONFIG_MAP, HERE, &list, &DeleteOptions::default()).await.unwrap();
    assert_eq!(h.names(&CONFIG_MAP, &ListOptions::default()).await, ["b"]);
    h.stop().await;
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let h = Harness::start().await;
    h.create(&SERVICE_ACCOUNT, HERE, json!({ "metadata": { "name": "default" } })).await;
    h.create(&POD, HERE, pod("p")).await;
    let nominated = Patch::merge(json!({ "status": { "nominatedNodeName": "n1" } }));
    h.api.patch(&POD, at("p").sub("status"), nominated, &UpdateOptions::default()).await.unwrap();
    let binding =
        |node: &str| json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": node } });
    let bind = async |node: &str| {
        let options = CreateOptions::default();
        h.api.create_sub(&POD, at("p").sub("binding"), binding(node), &options).await
    };
    assert_eq!(bind("n1").await.unwrap()["status"], "Success");
    let bound = h.get(&POD, HERE, "p").await.unwrap();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert!(bound["status"]["nominatedNodeName"].is_null(), "it has come true");
    let conditions = bound["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|one| one["type"] == "PodScheduled" && one["status"] == "True"));
    let twice = bind("n2").await.unwrap_err();
    assert!(twice.is_conflict());
    assert!(twice.message().contains("pod p is already assigned to node \"n1\""), "{twice}");
    assert_eq!(bind("").await.unwrap_err().code(), 422);
    h.stop().await;
}

#[tokio::test]
async fn events_are_one_kind_in_two_versions() {
    let h = Harness::start().await;
    let body = json!({
        "metadata": { "name": "e" }, "type": "Normal", "reason": "Started", "message": "hello",
        "involvedObject": { "kind": "Pod", "name": "p", "namespace": "default" },
        "source": { "component": "kubelet" }, "count": 3,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
    });
    h.create(&EVENT, HERE, body).await;
    let new = h.get(&EVENTS_EVENT, HERE, "e").await.unwrap();
    assert_eq!(new["apiVersion"], "events.k8s.io/v1");
    assert_eq!(new["note"], "hello");
    assert_eq!(new["regarding"]["name"], "p");
    assert_eq!(new["deprecatedCount"], 3);
    assert!(new.get("message").is_none());
    let mut events =
        crate::testing::Events(h.api.watch(&EVENTS_EVENT, HERE, &WatchOptions::default()).await.unwrap());
    assert_eq!(events.next().await, "ADDED e");
    let options =
        ListOptions { fields: FieldSelector::equals("metadata.name", "e"), ..ListOptions::default() };
    assert_eq!(h.names(&EVENTS_EVENT, &options).await, ["e"]);
    // They expire: the stored key hangs on a lease.
    let stored = h.store.range(&embedded_store::RangeRequest {
        key: "/registry/events/default/e".into(),
        ..Default::default()
    });
    assert_ne!(stored.unwrap().kvs[0].lease, 0);
    h.stop().await;
}

/// Events of a minute share a lease. If that is gone early, an event gets another one rather than being lost.
#[tokio::test]
async fn an_event_outlives_the_lease_of_those_before_it() {
    let h = Harness::start().await;
    let event = |name: &str| {
        json!({
            "metadata": { "name": name }, "type": "Normal", "reason": "R", "message": "hello",
            "involvedObject": { "kind": "Pod", "name": "p", "namespace": "default" },
        })
    };
    let lease = |name: &str| {
        let key = format!("/registry/events/default/{name}").into();
        let stored = h.store.range(&embedded_store::RangeRequest { key, ..Default::default() }).unwrap();
        stored.kvs.first().map(|kv| kv.lease)
    };
    h.create(&EVENT, HERE, event("a")).await;
    let shared = lease("a").unwrap();
    embedded_store::Leases::revoke(&*h.store, shared).await.unwrap();
    assert_eq!(lease("a"), None);
    h.create(&EVENT, HERE, event("b")).await;
    let again = lease("b").unwrap();
    assert!(again != 0 && again != shared, "{again}");
    h.create(&EVENT, HERE, event("c")).await;
    assert_eq!(lease("c"), Some(again), "the new lease is shared again");
    h.stop().await;
}

/// A machine without a route advertises what no endpoint may be: it serves all the same.
#[tokio::test]
async fn an_address_that_nobody_reaches_gets_no_endpoints() {
    let loopback = tokio::sync::watch::channel([127, 0, 0, 1].into()).1;
    let config = crate::Config { advertise_address: loopback, ..crate::testing::config() };
    let h = Harness::with(config).await;
    assert!(h.get(&api::kinds::SERVICE, HERE, "kubernetes").await.is_ok());
    assert!(h.get(&api::kinds::ENDPOINTS, HERE, "kubernetes").await.unwrap_err().is_not_found());
    assert!(h.get(&api::kinds::ENDPOINT_SLICE, HERE, "kubernetes").await.unwrap_err().is_not_found());
    h.stop().await;
}

#[tokio::test]
async fn every_cluster_has_its_namespaces_and_service() {
    let h = Harness::start().await;
    let list = h.api.list(&NAMESPACE, None, &ListOptions::default()).await.unwrap();
    let names: Vec<&str> = list.items.iter().map(|one| one.name()).collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let service = h.get(&api::kinds::SERVICE, HERE, "kubernetes").await.unwrap();
    assert_eq!(service["spec"]["clusterIP"], "10.43.0.1");
    let slice: Value = h.get(&api::kinds::ENDPOINT_SLICE, HERE, "kubernetes").await.unwrap();
    assert_eq!(slice["endpoints"][0]["addresses"][0], "192.0.2.1");
    h.stop().await;
}

#[test]
fn only_a_renewal_need_not_wait_for_the_disk() {
    let lease = |holder: &str, time: &str, version: &str| {
        json!({
            "metadata": { "name": "n", "resourceVersion": version },
            "spec": { "holderIdentity": holder, "renewTime": time, "leaseDurationSeconds": 40 },
        })
    };
    let old = lease("n", "1", "5");
    let renewal = |new: &Value| super::update::same_but(&new["spec"], &old["spec"], "renewTime");
    assert!(renewal(&lease("n", "2", "6")));
    assert!(!renewal(&lease("m", "2", "6")));
    let mut released = lease("n", "2", "6");
    released["spec"].as_object_mut().unwrap().remove("leaseDurationSeconds");
    assert!(!renewal(&released));
    let mut longer = lease("n", "1", "5");
    longer["spec"]["leaseTransitions"] = json!(1);
    assert!(!renewal(&longer));
}

#[tokio::test]
async fn who_may_not_is_told_so() {
    let h = Harness::start().await;
    let api = client::ApiFor::as_user(h.server.as_ref(), api::Identity::user("eve", []));
    let refused = api.get(&CONFIG_MAP, at("a")).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "configmaps \"a\" is forbidden: User \"eve\" cannot get resource \"configmaps\" in API group \"\" in the \
         namespace \"default\""
    );
    h.stop().await;
}
