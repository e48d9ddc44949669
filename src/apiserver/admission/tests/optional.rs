//! The plugins that are off by default, and the file that says how plugins behave.

use api::kinds::{CONFIG_MAP, EVENT, NAMESPACE, NODE, POD, SERVICE, SERVICE_ACCOUNT};
use api::{CreateOptions, Identity};
use client::{ApiFor, ObjectRef};
use serde_json::{Value, json};

use super::grant;
use crate::admission::Plugins;
use crate::testing::{Harness, config, pod};

const HERE: Option<&str> = Some("default");

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", cause.unwrap_or_default())
}

fn written(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// A server with one plugin more, and a configuration.
async fn with(plugin: Option<&str>, configuration: Option<&str>) -> Harness {
    let file = configuration.map(|text| {
        written(&format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n{text}"
        ))
    });
    let admission = Plugins::choose(plugin, []).unwrap();
    let admission = admission.configured(file.as_ref().map(|file| file.path())).unwrap();
    let h = Harness::with(crate::Config { admission, ..config() }).await;
    h.create(&SERVICE_ACCOUNT, HERE, json!({"metadata": {"name": "default"}})).await;
    h
}

#[tokio::test]
async fn images_are_always_pulled() {
    let h = with(Some("AlwaysPullImages"), None).await;
    let mut body = pod("p");
    body["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    body["spec"]["initContainers"] = json!([{"name": "i", "image": "image:1"}]);
    body["spec"]["volumes"] = json!([{"name": "v", "image": {"reference": "r", "pullPolicy": "Never"}}]);
    let made = h.try_create(&POD, HERE, body).await.unwrap();
    assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(made["spec"]["initContainers"][0]["imagePullPolicy"], "Always");
    assert_eq!(made["spec"]["volumes"][0]["image"]["pullPolicy"], "Always");
    h.stop().await;
}

#[tokio::test]
async fn services_get_no_new_external_addresses() {
    let h = with(Some("DenyServiceExternalIPs"), None).await;
    let service = |addresses: Value| json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "externalIPs": addresses}});
    let refused = h.try_create(&SERVICE, HERE, service(json!(["192.0.2.1"]))).await.unwrap_err();
    assert_eq!(refused, ["services \"s\" is forbidden: Use of external IPs is denied by admission control"]);
    h.try_create(&SERVICE, HERE, service(json!([]))).await.unwrap();
    let more = json!({"spec": {"externalIPs": ["192.0.2.1"]}});
    assert!(h.try_patch(&SERVICE, ObjectRef::new(HERE, "s"), more).await.is_err());
    h.stop().await;
}

#[tokio::test]
async fn who_asks_for_a_device_tolerates_its_taint() {
    let h = with(Some("ExtendedResourceToleration"), None).await;
    let mut body = pod("p");
    let list = json!({"example.com/gpu": "1", "cpu": "1"});
    body["spec"]["containers"][0]["resources"] = json!({"requests": list, "limits": list});
    let made = h.try_create(&POD, HERE, body).await.unwrap();
    let own: Vec<&Value> = made["spec"]["tolerations"].as_array().unwrap().iter().collect();
    let gpu = json!({"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"});
    assert_eq!(own.iter().filter(|one| ***one == gpu).count(), 1, "{own:?}");
    assert!(!own.iter().any(|one| one["key"] == "cpu"));
    h.stop().await;
}

#[tokio::test]
async fn pods_go_where_their_namespace_says() {
    let selectors = "- name: PodNodeSelector\n  configuration:\n    podNodeSelectorPluginConfig:\n      clusterDefaultNodeSelector: zone=a\n      default: zone=a,disk=ssd\n";
    let h = with(Some("PodNodeSelector"), Some(selectors)).await;
    let made = h.try_create(&POD, HERE, pod("p")).await.unwrap();
    assert_eq!(made["spec"]["nodeSelector"], json!({"zone": "a"}));
    let mut body = pod("q");
    body["spec"]["nodeSelector"] = json!({"zone": "b"});
    let refused = h.try_create(&POD, HERE, body.clone()).await.unwrap_err();
    assert_eq!(
        refused,
        ["pods \"q\" is forbidden: pod node label selector conflicts with its namespace node label selector"]
    );
    body["spec"]["nodeSelector"] = json!({"rack": "1"});
    let refused = h.try_create(&POD, HERE, body).await.unwrap_err();
    assert_eq!(
        refused,
        ["pods \"q\" is forbidden: pod node label selector labels conflict with its namespace whitelist"]
    );
    let annotation =
        json!({"metadata": {"annotations": {"scheduler.alpha.kubernetes.io/node-selector": "disk=ssd"}}});
    h.try_patch(&NAMESPACE, ObjectRef::new(None, "default"), annotation).await.unwrap();
    let made = h.try_create(&POD, HERE, pod("r")).await.unwrap();
    assert_eq!(made["spec"]["nodeSelector"], json!({"disk": "ssd"}));
    h.stop().await;
}

#[tokio::test]
async fn pods_have_the_tolerations_that_their_namespace_allows() {
    let h = with(Some("PodTolerationRestriction"), None).await;
    let annotations = json!({"metadata": {"annotations": {
        "scheduler.alpha.kubernetes.io/defaultTolerations": r#"[{"key":"team","operator":"Exists"}]"#,
        "scheduler.alpha.kubernetes.io/tolerationsWhitelist":
            r#"[{"key":"team","operator":"Exists"},{"operator":"Exists","effect":"NoExecute"},{"key":"node.kubernetes.io/memory-pressure","operator":"Exists"}]"#,
    }}});
    h.try_patch(&NAMESPACE, ObjectRef::new(None, "default"), annotations).await.unwrap();
    let mut body = pod("p");
    body["spec"]["tolerations"] = json!([{"key": "team", "operator": "Equal", "value": "a"}]);
    let made = h.try_create(&POD, HERE, body).await.unwrap();
    let own = made["spec"]["tolerations"].as_array().unwrap();
    let team: Vec<&Value> = own.iter().filter(|one| one["key"] == "team").collect();
    assert_eq!(team, [&json!({"key": "team", "operator": "Exists"})], "what covers the other stays");
    let mut body = pod("q");
    body["spec"]["tolerations"] = json!([{"key": "gpu", "operator": "Exists"}]);
    let refused = h.try_create(&POD, HERE, body.clone()).await.unwrap_err();
    assert!(refused[0].contains("conflict with its namespace whitelist"), "{refused:?}");
    let many = (0..1001).map(|at| json!({"key": format!("k{at}"), "operator": "Exists"}));
    body["spec"]["tolerations"] = many.collect();
    let refused = h.try_create(&POD, HERE, body).await.unwrap_err();
    assert!(refused[0].contains("compares at most 1000 tolerations"), "{refused:?}");
    h.stop().await;
}

#[tokio::test]
async fn owners_are_set_by_who_may() {
    let h = with(Some("OwnerReferencesPermissionEnforcement"), None).await;
    let edits = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "update", "patch", "get"]}]);
    grant(&h, "eve", edits).await;
    let node = h.create(&NODE, None, json!({"metadata": {"name": "n"}})).await;
    let api = h.server.as_user(Identity::user("eve", ["system:authenticated"]));
    let owned = |name: &str, blocks: bool| {
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": node.uid(), "blockOwnerDeletion": blocks});
        json!({"metadata": {"name": name, "ownerReferences": [owner]}})
    };
    let options = CreateOptions::default();
    api.create(&CONFIG_MAP, HERE, owned("a", false), &options).await.unwrap();
    let refused = api.create(&CONFIG_MAP, HERE, owned("b", true), &options).await.unwrap_err();
    assert!(
        refused.message().starts_with(
            "configmaps \"b\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: "
        ),
        "{refused}"
    );
    let patch = api::Patch::merge(json!({"metadata": {"ownerReferences": []}}));
    let at = ObjectRef::new(HERE, "a");
    let refused = api.patch(&CONFIG_MAP, at, patch, &api::UpdateOptions::default()).await.unwrap_err();
    assert!(refused.message().contains("cannot set an ownerRef on a resource you can't delete"), "{refused}");
    let patch = api::Patch::merge(json!({"data": {"k": "v"}}));
    api.patch(&CONFIG_MAP, at, patch, &api::UpdateOptions::default()).await.unwrap();
    let more = json!([{"apiGroups": [""], "resources": ["nodes/finalizers"], "verbs": ["update"]}]);
    grant(&h, "mallory", more.clone()).await;
    let mut rules = more;
    rules
        .as_array_mut()
        .unwrap()
        .push(json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}));
    grant(&h, "bob", rules).await;
    let bob = h.server.as_user(Identity::user("bob", ["system:authenticated"]));
    bob.create(&CONFIG_MAP, HERE, owned("c", true), &options).await.unwrap();
    h.stop().await;
}

#[tokio::test]
async fn events_are_limited() {
    let limits = "- name: EventRateLimit\n  configuration:\n    apiVersion: eventratelimit.admission.k8s.io/v1alpha1\n    kind: Configuration\n    limits:\n    - {type: Namespace, qps: 1, burst: 2}\n";
    let h = with(Some("EventRateLimit"), Some(limits)).await;
    let event = |name: &str| json!({"metadata": {"name": name}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}});
    let mut outcomes = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        outcomes.push(h.api.create(&EVENT, HERE, event(name), &CreateOptions::default()).await);
    }
    let refused = outcomes.into_iter().find_map(Result::err).unwrap();
    assert_eq!(refused.code(), 429);
    assert_eq!(refused.message(), "limit reached on type Namespace for key default");
    h.create(&CONFIG_MAP, HERE, json!({"metadata": {"name": "c"}})).await;
    h.stop().await;
}

#[tokio::test]
async fn pod_security_has_defaults_and_exemptions() {
    let settings = "- name: PodSecurity\n  configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n    defaults: {enforce: baseline, enforce-version: latest}\n    exemptions: {namespaces: [free], usernames: [robot], runtimeClasses: [kata]}\n";
    let h = with(None, Some(settings)).await;
    h.create(&NAMESPACE, None, json!({"metadata": {"name": "free"}})).await;
    h.create(&SERVICE_ACCOUNT, Some("free"), json!({"metadata": {"name": "default"}})).await;
    let mut body = pod("p");
    body["spec"]["hostNetwork"] = json!(true);
    let refused = h.try_create(&POD, HERE, body.clone()).await.unwrap_err();
    assert!(refused[0].contains("violates PodSecurity \"baseline:latest\""), "{refused:?}");
    h.try_create(&POD, Some("free"), body.clone()).await.unwrap();
    let robot = Identity::user("robot", [api::identity::GROUP_MASTERS]);
    let robot = h.server.as_user(robot);
    robot.create(&POD, HERE, body, &CreateOptions::default()).await.unwrap();
    h.stop().await;
}

#[test]
fn a_configuration_that_cannot_be_heeded_is_refused() {
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n";
    let of = |plugin: &str| format!("{head}plugins:\n- {plugin}\n");
    let limits = |limit: &str| {
        of(&format!(
            "{{name: EventRateLimit, configuration: {{apiVersion: eventratelimit.admission.k8s.io/v1alpha1, kind: Configuration, limits: [{limit}]}}}}"
        ))
    };
    let security = |rest: &str| {
        of(&format!(
            "{{name: PodSecurity, configuration: {{apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration, {rest}}}}}"
        ))
    };
    for (text, want) in [
        ("kind: [".to_string(), "error"),
        (format!("{head}plugin: []\n"), "unknown field `plugin`"),
        (head.replace("Admission", "Audit"), "no kind \"AuditConfiguration\""),
        (of("{name: PodSecurty}"), "there is no admission plugin \"PodSecurty\""),
        (of("{name: ResourceQuota, configuration: {limitedResources: []}}"), "takes no configuration"),
        (of("{name: PodSecurity, path: not-there.yaml}"), "not-there.yaml"),
        (limits("{type: Server, qps: 0, burst: 1}"), "limits[0].qps: Invalid value: 0: must be positive"),
        (limits("{type: All, qps: 1, burst: 1}"), "All"),
        (limits(""), "limits: Invalid value: null: must not be empty"),
        (security("defaults: {enforce: some}"), "defaults.enforce: Invalid value: \"some\": must be one of"),
        (security("exemptions: {usernames: [a, a]}"), "exemptions.usernames[1]: Duplicate value: \"a\""),
        (security("exemptions: {namespaces: [A]}"), "exemptions.namespaces[0]: Invalid value: \"A\""),
    ] {
        let file = written(&text);
        let error = Plugins::default().configured(Some(file.path())).unwrap_err();
        let told = chain(&error);
        assert!(told.contains(want), "{text}: {told}");
    }
    assert!(Plugins::default().configured(Some("/nowhere".as_ref())).is_err());
    let limited = Plugins::choose(["EventRateLimit"], []).unwrap();
    assert!(chain(&limited.configured(None).unwrap_err()).contains("it needs limits"));
}
