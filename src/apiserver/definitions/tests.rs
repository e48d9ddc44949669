//! Custom resources from their definition to their end, through the API in process.

mod conversion;
mod rules;
mod trust;

use api::kinds::{CUSTOM_RESOURCE_DEFINITION as DEFINITION, NAMESPACE};
use api::{CreateOptions, ListOptions, UpdateOptions, WatchEvent, WatchOptions};
use client::{ApiFor, ServedKinds};
use futures::StreamExt;

use super::conditions::condition;
use super::*;
use crate::testing::Harness;

fn definition(plural: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.example.com") },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": plural, "kind": kind, "shortNames": [&plural[..2]] },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": { "type": "object", "properties": {
                            "replicas": { "type": "integer", "default": 1 }, "selector": { "type": "string" } } },
                        "status": { "type": "object", "properties": {
                            "replicas": { "type": "integer" }, "selector": { "type": "string" } } },
                    },
                } },
                "subresources": { "status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector" } },
                "additionalPrinterColumns": [
                    { "name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas" },
                    { "name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status" },
                    { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" }],
            }],
        },
    })
}

impl Harness {
    async fn define(&self, body: Value) {
        self.create(&DEFINITION, None, body).await;
    }

    /// Waits until a definition's condition has a status.
    async fn condition(&self, name: &str, kind: &str, status: &str) -> Value {
        let options = WatchOptions {
            fields: api::FieldSelector::equals("metadata.name", name),
            ..WatchOptions::default()
        };
        let mut events = self.api.watch(&DEFINITION, None, &options).await.unwrap();
        let reached = async {
            while let Some(event) = events.next().await {
                let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else { continue };
                let tree = object.tree().unwrap();
                if condition(&tree, kind).is_some_and(|one| one["status"] == status) {
                    return tree;
                }
            }
            panic!("the watch ended");
        };
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("the condition in time")
    }

    async fn served(&self, kind: &str, wanted: bool) -> Option<Arc<KindRow>> {
        let mut served: ServedKinds = self.server.served();
        let reached = served.wait_for(|set| set.by_kind("example.com/v1", kind).is_some() == wanted);
        let set = tokio::time::timeout(Duration::from_secs(20), reached).await.expect("in time").unwrap();
        set.by_kind("example.com/v1", kind).cloned()
    }

    async fn widgets(&self) -> Arc<KindRow> {
        self.define(definition("widgets", "Widget")).await;
        self.condition("widgets.example.com", "Established", "True").await;
        self.served("Widget", true).await.unwrap()
    }
}

fn widget(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": name }, "spec": spec })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_accepted_and_served() {
    let h = Harness::start().await;
    let row = h.widgets().await;
    let tree = h.get(&DEFINITION, None, "widgets.example.com").await.unwrap();
    let accepted = condition(&tree, "NamesAccepted").unwrap();
    assert_eq!((&accepted["status"], &accepted["reason"]), (&json!("True"), &json!("NoConflicts")));
    assert_eq!(condition(&tree, "Established").unwrap()["reason"], "InitialNamesAccepted");
    assert_eq!(tree["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(tree["status"]["acceptedNames"]["listKind"], "WidgetList");
    assert_eq!((&*row.plural, &*row.singular, &*row.short_names[0]), ("widgets", "widget", "wi"));

    let created = h.create(&row, Some("default"), widget("w", json!({ "odd": 1 }))).await.tree().unwrap();
    assert_eq!(created["spec"], json!({ "replicas": 1 }), "pruned and defaulted");
    assert_eq!(created["metadata"]["generation"], 1);
    let mut events = h.watch(&row, &WatchOptions::default()).await;
    assert_eq!(events.next().await, "ADDED w");
    let at = ObjectRef::new(Some("default"), "w");
    let patch = Patch::merge(json!({ "spec": { "replicas": 5 }, "status": { "replicas": 9 } }));
    let patched = h.api.patch(&row, at, patch, &UpdateOptions::default()).await.unwrap().tree().unwrap();
    assert_eq!((&patched["metadata"]["generation"], patched.get("status")), (&json!(2), None));
    assert_eq!(events.next().await, "MODIFIED w");
    let wrong = Patch::merge(json!({ "spec": { "replicas": "five" } }));
    let error = h.api.patch(&row, at, wrong, &UpdateOptions::default()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (
            422,
            r#"Widget.example.com "w" is invalid: spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string""#
        )
    );
    let strategic = Patch::strategic(json!({}));
    assert_eq!(h.api.patch(&row, at, strategic, &UpdateOptions::default()).await.unwrap_err().code(), 415);
    h.delete(&row, Some("default"), "w").await.unwrap();
    assert_eq!(events.next().await, "DELETED w");
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_scale_are_parts_of_their_own() {
    let h = Harness::start().await;
    let row = h.widgets().await;
    h.create(&row, Some("default"), widget("w", json!({ "replicas": 2 }))).await;
    let at = ObjectRef::new(Some("default"), "w");
    let status = json!({ "spec": { "replicas": 9 }, "status": { "replicas": 2, "selector": "a=b" } });
    let patched =
        h.api.patch(&row, at.sub("status"), Patch::merge(status), &UpdateOptions::default()).await.unwrap();
    let tree = patched.tree().unwrap();
    assert_eq!((&tree["spec"]["replicas"], &tree["status"]["replicas"]), (&json!(2), &json!(2)));
    assert_eq!(tree["metadata"]["generation"], 1);
    let scale = h.api.get(&row, at.sub("scale")).await.unwrap().tree().unwrap();
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({ "replicas": 2 }), &json!({ "replicas": 2, "selector": "a=b" }))
    );
    let change = Patch::merge(json!({ "spec": { "replicas": 7 } }));
    h.api.patch(&row, at.sub("scale"), change, &UpdateOptions::default()).await.unwrap();
    let tree = h.get(&row, Some("default"), "w").await.unwrap();
    assert_eq!((&tree["spec"]["replicas"], &tree["metadata"]["generation"]), (&json!(7), &json!(2)));
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_taken_are_refused_until_they_are_free() {
    let h = Harness::start().await;
    h.widgets().await;
    let mut second = definition("wisps", "Widget");
    second["spec"]["names"]["listKind"] = json!("WispList");
    h.define(second).await;
    let tree = h.condition("wisps.example.com", "NamesAccepted", "False").await;
    let refused = condition(&tree, "NamesAccepted").unwrap();
    // The last of several conflicts is told: kinds are looked at after short names upstream, too.
    assert!(
        ["KindConflict", "ShortNamesConflict"].contains(&refused["reason"].as_str().unwrap()),
        "{refused}"
    );
    assert!(!is_true(&tree, "Established"));
    h.delete(&DEFINITION, None, "widgets.example.com").await.unwrap();
    h.condition("wisps.example.com", "Established", "True").await;
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_are_wrong_are_told_why() {
    let h = Harness::start().await;
    let mut body = definition("widgets", "Widget");
    body["metadata"]["name"] = json!("others.example.com");
    body["spec"]["scope"] = json!("Everywhere");
    body["spec"]["versions"][0]["storage"] = json!(false);
    body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["type"] = json!("thing");
    let error = h.api.create(&DEFINITION, None, body, &CreateOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), 422);
    for part in [
        r#"spec.scope: Unsupported value: "Everywhere": supported values: "Cluster", "Namespaced""#,
        "must have exactly one version marked as storage version",
        r#"spec.validation.openAPIV3Schema.properties[spec].type: Unsupported value: "thing""#,
        r#"metadata.name: Invalid value: "others.example.com": must be spec.names.plural+"."+spec.group"#,
    ] {
        assert!(error.message().contains(part), "{part} is not in {error}");
    }
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_go_with_their_definition() {
    let h = Harness::start().await;
    let row = h.widgets().await;
    h.create(&NAMESPACE, None, json!({ "metadata": { "name": "other" } })).await;
    h.create(&row, Some("other"), widget("free", json!({}))).await;
    let mut held = widget("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    h.create(&row, Some("default"), held).await;
    let mut events = h.watch(&row, &WatchOptions::default()).await;
    assert_eq!(events.next().await, "ADDED held");
    let marked = h.delete(&DEFINITION, None, "widgets.example.com").await.unwrap();
    assert_eq!(marked["metadata"]["finalizers"], json!([CLEANUP]));
    assert_eq!(condition(&marked, "Terminating").unwrap()["reason"], "InstanceDeletionPending");
    assert_eq!(events.next().await, "MODIFIED held");
    let refused =
        h.api.create(&row, Some("default"), widget("late", json!({})), &CreateOptions::default()).await;
    assert_eq!(refused.unwrap_err().code(), 405, "nothing new while it ends");
    assert!(h.get(&DEFINITION, None, "widgets.example.com").await.is_ok(), "it waits for the instance");
    let release = Patch::merge(json!({ "metadata": { "finalizers": null } }));
    let at = ObjectRef::new(Some("default"), "held");
    h.api.patch(&row, at, release, &UpdateOptions::default()).await.unwrap();
    assert_eq!(events.next().await, "DELETED held");
    assert_eq!(events.next().await, "the end", "the watch ends with its kind");
    h.served("Widget", false).await;
    assert!(h.get(&DEFINITION, None, "widgets.example.com").await.unwrap_err().is_not_found());
    let error = h.api.list(&row, None, &ListOptions::default()).await.unwrap_err();
    assert_eq!(error.message(), "the server could not find the requested resource");
    // The same definition again begins with nothing.
    let row = h.widgets().await;
    assert!(h.api.list(&row, None, &ListOptions::default()).await.unwrap().items.is_empty());
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_and_instances_survive_a_restart() {
    let h = Harness::start().await;
    let row = h.widgets().await;
    h.create(&row, Some("default"), widget("w", json!({ "replicas": 4 }))).await;
    let supervisor = supervisor::Supervisor::new();
    let stage = supervisor.stage("second");
    let second = crate::ApiServer::start(crate::testing::config(), h.store.clone(), &stage).await.unwrap();
    let api = second.as_user(crate::testing::master());
    let again =
        second.served().borrow().by_kind("example.com/v1", "Widget").cloned().expect("served at once");
    let object = api.get(&again, ObjectRef::new(Some("default"), "w")).await.unwrap();
    assert_eq!(object.tree().unwrap()["spec"]["replicas"], 4);
    supervisor.shutdown(Duration::from_secs(10)).await;
    h.stop().await;
}

/// What comes and goes leaves nothing: neither kinds nor caches nor objects.
#[tokio::test(flavor = "multi_thread")]
async fn kinds_that_come_and_go_leave_nothing_behind() {
    let h = Harness::start().await;
    let registry = &h.server.registry;
    let count = || (registry.resources.load().all().count(), registry.resources.load().groups().len());
    let (before, caches) = (count(), registry.caches.kinds());
    for round in 0..20 {
        let row = h.widgets().await;
        h.create(&row, Some("default"), widget(&format!("w{round}"), json!({}))).await;
        h.delete(&DEFINITION, None, "widgets.example.com").await.unwrap();
        h.served("Widget", false).await;
    }
    // The cache goes right after the kind: the next definition's turn proves that it has.
    h.widgets().await;
    assert_eq!((count().0, count().1), (before.0 + 1, before.1 + 1));
    assert_eq!(registry.caches.kinds(), caches + 1);
    h.stop().await;
}

/// Requests are counted by the kind's names: a changed definition goes on counting, a kind that has gone is
/// forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_a_kind_go_with_it() {
    let h = Harness::start().await;
    let row = h.widgets().await;
    let metrics = async || -> String {
        let request = http::Request::builder().uri("/metrics").body(axum::body::Body::empty()).unwrap();
        let response = h.server.answer(crate::testing::master(), request).await;
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    };
    let list = async || {
        let path = row.collection_path(Some("default"));
        let request = http::Request::builder().uri(path).body(axum::body::Body::empty()).unwrap();
        assert_eq!(h.server.answer(crate::testing::master(), request).await.status(), 200);
    };
    list().await;
    let patch = Patch::merge(json!({ "spec": { "names": { "shortNames": ["wdg"] } } }));
    let at = ObjectRef::new(None, "widgets.example.com");
    h.api.patch(&DEFINITION, at, patch, &UpdateOptions::default()).await.unwrap();
    let mut served = h.server.served();
    let renamed = |set: &Arc<client::Served>| {
        set.by_kind("example.com/v1", "Widget").is_some_and(|row| row.short_names[0] == "wdg")
    };
    tokio::time::timeout(Duration::from_secs(20), served.wait_for(renamed)).await.expect("in time").unwrap();
    list().await;
    let counted = r#"apiserver_request_total{code="200",component="apiserver",dry_run="",group="example.com",resource="widgets",scope="namespace",subresource="",verb="LIST",version="v1"} 2"#;
    assert!(metrics().await.contains(counted), "{}", metrics().await);
    h.delete(&DEFINITION, None, "widgets.example.com").await.unwrap();
    h.served("Widget", false).await;
    let forgotten = async {
        while metrics().await.contains("example.com") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), forgotten).await.expect("forgotten in time");
    h.stop().await;
}

fn protected(plural: &str, group: &str, kind: &str, approval: Option<&str>) -> Value {
    let mut body = definition(plural, kind);
    body["metadata"]["name"] = json!(format!("{plural}.{group}"));
    body["spec"]["group"] = json!(group);
    body["spec"]["names"]["shortNames"] = json!([]);
    if let Some(approval) = approval {
        body["metadata"]["annotations"] = json!({ "api-approved.kubernetes.io": approval });
    }
    body
}

/// What the server brings along is neither replaced nor removed by definitions, whatever their status says.
#[tokio::test(flavor = "multi_thread")]
async fn built_in_kinds_are_out_of_reach_of_definitions() {
    let h = Harness::start().await;
    let rows = || {
        let resources = h.server.registry.resources.load();
        resources.all().map(Arc::as_ptr).collect::<Vec<_>>()
    };
    let (before, caches) = (rows(), h.server.registry.caches.kinds());
    for (plural, group, kind, reason, message) in [
        (
            "clusterrolebindings",
            "rbac.authorization.k8s.io",
            "Other",
            "PluralConflict",
            "clusterrolebindings",
        ),
        ("leases", "coordination.k8s.io", "Fake", "PluralConflict", "leases"),
        ("loans", "coordination.k8s.io", "Lease", "KindConflict", "Lease"),
        ("loans", "certificates.k8s.io", "Loan", "GroupConflict", "certificates.k8s.io"),
    ] {
        let name = format!("{plural}.{group}");
        let mut body = protected(plural, group, kind, Some("unapproved, a test"));
        body["spec"]["names"]["singular"] = json!(format!("{plural}-one"));
        body["spec"]["names"]["listKind"] = json!(format!("{kind}s"));
        h.define(body).await;
        let mut tree = h.condition(&name, "NamesAccepted", "False").await;
        let refused = condition(&tree, "NamesAccepted").unwrap();
        assert_eq!(refused["reason"], reason, "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(&format!("{message:?}")), "{refused}");
        assert!(!is_true(&tree, "Established"));
        // A status that claims to have been accepted before.
        tree["status"]["acceptedNames"] = tree["spec"]["names"].clone();
        set_condition(&mut tree, &Condition { kind: "Established", holds: true, reason: "X", message: "x" });
        tree["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        let at = ObjectRef::new(None, &name).sub("status");
        let patch = Patch::merge(json!({ "status": tree["status"] }));
        h.api.patch(&DEFINITION, at, patch, &UpdateOptions::default()).await.unwrap();
        let tree = h.condition(&name, "Established", "False").await;
        assert_eq!(condition(&tree, "NamesAccepted").unwrap()["reason"], reason);
        assert_eq!((rows(), h.server.registry.caches.kinds()), (before.clone(), caches));
    }
    // As it may have been stored by an earlier program: at the start, and at its end.
    let supervisor = supervisor::Supervisor::new();
    let stage = supervisor.stage("second");
    let second = crate::ApiServer::start(crate::testing::config(), h.store.clone(), &stage).await.unwrap();
    assert_eq!(second.served().borrow().rows().len(), before.len());
    supervisor.shutdown(Duration::from_secs(10)).await;
    h.delete(&DEFINITION, None, "leases.coordination.k8s.io").await.unwrap();
    let gone = async {
        while h.get(&DEFINITION, None, "leases.coordination.k8s.io").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("gone in time");
    assert_eq!((rows(), h.server.registry.caches.kinds()), (before, caches));
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_the_community_need_an_approval() {
    let h = Harness::start().await;
    let create = async |approval: Option<&str>| {
        let body = protected("widgets", "example.k8s.io", "Widget", approval);
        h.api.create(&DEFINITION, None, body, &CreateOptions::default()).await
    };
    let path = "metadata.annotations[api-approved.kubernetes.io]";
    let missing = create(None).await.unwrap_err();
    assert_eq!(missing.code(), 422);
    assert!(
        missing.message().contains(&format!("{path}: Required value: protected groups must")),
        "{missing}"
    );
    let wrong = create(Some("yes")).await.unwrap_err();
    assert!(wrong.message().contains(&format!("{path}: Invalid value: \"yes\": protected")), "{wrong}");
    create(Some("https://github.com/kubernetes/enhancements/pull/1")).await.unwrap();
    let kind = "KubernetesAPIApprovalPolicyConformant";
    let tree = h.condition("widgets.example.k8s.io", kind, "True").await;
    assert_eq!(condition(&tree, kind).unwrap()["reason"], "ApprovedAnnotation");
    let at = ObjectRef::new(None, "widgets.example.k8s.io");
    let patch =
        Patch::merge(json!({ "metadata": { "annotations": { "api-approved.kubernetes.io": null } } }));
    let error = h.api.patch(&DEFINITION, at, patch, &UpdateOptions::default()).await.unwrap_err();
    assert!(error.message().contains("Required value"), "{error}");
    h.condition("widgets.example.k8s.io", "Established", "True").await;
    h.stop().await;
}
