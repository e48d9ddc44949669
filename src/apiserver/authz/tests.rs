//! Rules, refusals and the bootstrap policy.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::json;

use super::*;

fn rule(value: serde_json::Value) -> PolicyRule {
    serde_json::from_value(value).unwrap()
}

fn request<'a>(user: &'a Identity, verb: &'a str, resource: &'a str) -> Attributes<'a> {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub)),
        None => (resource, None),
    };
    Attributes {
        user,
        verb,
        group: "",
        resource,
        subresource,
        namespace: Some("default"),
        name: None,
        fields: None,
        path: "",
    }
}

#[test]
fn rules_match_as_upstreams() {
    let user = Identity::user("u", []);
    let of = |resources: &[&str], verbs: &[&str]| {
        rule(json!({"apiGroups": [""], "resources": resources, "verbs": verbs}))
    };
    let cases = [
        (of(&["pods"], &["get"]), "get", "pods", true),
        (of(&["pods"], &["get"]), "list", "pods", false),
        (of(&["pods"], &["*"]), "list", "pods", true),
        (of(&["pods"], &["get"]), "get", "pods/log", false),
        (of(&["pods/log"], &["get"]), "get", "pods/log", true),
        (of(&["*/log"], &["get"]), "get", "pods/log", true),
        (of(&["*/log"], &["get"]), "get", "pods", false),
        (of(&["*"], &["get"]), "get", "pods/log", true),
    ];
    for (rule, verb, resource, want) in cases {
        assert_eq!(rbac::allows(&rule, &request(&user, verb, resource)), want, "{rule:?} {verb} {resource}");
    }
    let other_group = Attributes { group: "apps", ..request(&user, "get", "pods") };
    assert!(!rbac::allows(&of(&["pods"], &["get"]), &other_group));

    let named =
        rule(json!({"apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"], "verbs": ["get"]}));
    assert!(!rbac::allows(&named, &request(&user, "get", "pods")));
    assert!(rbac::allows(&named, &Attributes { name: Some("a"), ..request(&user, "get", "pods") }));
    assert!(!rbac::allows(&named, &Attributes { name: Some("b"), ..request(&user, "get", "pods") }));

    let urls = rule(json!({"nonResourceURLs": ["/healthz", "/api/*"], "verbs": ["get"]}));
    for (path, want) in [("/healthz", true), ("/healthz/x", false), ("/api/v1", true), ("/apis", false)] {
        let attributes = Attributes { path, resource: "", ..request(&user, "get", "") };
        assert_eq!(rbac::allows(&urls, &attributes), want, "{path}");
    }
}

#[test]
fn refusals_have_upstreams_words() {
    let user = Identity::user("x", []);
    let cases = [
        (
            request(&user, "list", "pods"),
            "",
            "pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
        ),
        (
            Attributes { namespace: None, name: Some("n"), ..request(&user, "get", "nodes/proxy") },
            "because",
            "nodes \"n\" is forbidden: User \"x\" cannot get resource \"nodes/proxy\" in API group \"\" at the cluster scope: because",
        ),
        (
            Attributes { group: "apps", namespace: None, ..request(&user, "list", "deployments") },
            "",
            "deployments.apps is forbidden: User \"x\" cannot list resource \"deployments\" in API group \"apps\" at the cluster scope",
        ),
        (
            Attributes { path: "/metrics", resource: "", ..request(&user, "get", "") },
            "",
            "forbidden: User \"x\" cannot get path \"/metrics\"",
        ),
    ];
    for (attributes, reason, want) in cases {
        let error = forbidden(&attributes, reason);
        assert_eq!((error.code(), error.reason(), error.message()), (403, "Forbidden", want));
    }
}

#[test]
fn pods_name_what_they_need() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p"},
        "spec": {
            "serviceAccountName": "builder",
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "from"}}]}],
            "containers": [{"name": "c", "env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
            ]}],
            "volumes": [
                {"name": "v", "secret": {"secretName": "vol"}},
                {"name": "p", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}, {"secret": {"name": "proj"}}]}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
            ],
        },
    }))
    .unwrap();
    use node::Referent::{Claim, ConfigMap, Secret, ServiceAccount};
    for (referent, name, want) in [
        (Secret, "pull", true),
        (Secret, "from", true),
        (Secret, "env", true),
        (Secret, "vol", true),
        (Secret, "proj", true),
        (Secret, "cm", false),
        (ConfigMap, "cm", true),
        (ConfigMap, "kube-root-ca.crt", true),
        (ConfigMap, "env", false),
        (ServiceAccount, "builder", true),
        (ServiceAccount, "default", false),
        (Claim, "data", true),
    ] {
        assert_eq!(node::refers_to(&pod, referent, name), want, "{referent:?} {name}");
    }
    let mut mirror = pod;
    mirror.metadata.annotations = Some([("kubernetes.io/config.mirror".to_string(), "x".to_string())].into());
    assert!(!node::refers_to(&mirror, Secret, "pull"));
}

#[test]
fn what_is_held_covers_what_is_granted() {
    let held = [rule(json!({"apiGroups": [""], "resources": ["pods", "*/scale"], "verbs": ["get", "list"]}))];
    let wanted =
        [rule(json!({"apiGroups": [""], "resources": ["pods", "pods/scale"], "verbs": ["get", "delete"]}))];
    let not_covered =
        |held: &[PolicyRule], wanted: &[PolicyRule]| cover::not_covered(held, wanted, usize::MAX).unwrap();
    let missing = not_covered(&held, &wanted);
    let texts: Vec<String> = missing
        .iter()
        .map(|one| format!("{} {}", one.verbs[0], one.resources.as_ref().unwrap()[0]))
        .collect();
    assert_eq!(texts, ["delete pods", "delete pods/scale"]);
    let all = [rule(json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}))];
    assert!(not_covered(&all, &wanted).is_empty());
    let urls = [rule(json!({"nonResourceURLs": ["*"], "verbs": ["*"]}))];
    assert_eq!(not_covered(&all, &urls).len(), 1, "resources do not cover paths");
}

#[test]
fn the_bootstrap_policy_is_whole() {
    let wanted = bootstrap::wanted();
    let has = |kind: &str, namespace: Option<&str>, name: &str| {
        wanted.iter().any(|one| {
            one.row.kind == kind
                && one.namespace.as_deref() == namespace
                && one.tree["metadata"]["name"] == name
        })
    };
    assert!(has("ClusterRoleBinding", None, "cluster-admin"));
    assert!(has("ClusterRole", None, "system:controller:replicaset-controller"));
    assert!(has("Role", Some("kube-system"), "extension-apiserver-authentication-reader"));
    assert!(has("RoleBinding", Some("kube-system"), "system::extension-apiserver-authentication-reader"));
    assert!(has("RoleBinding", Some("kube-system"), "minik8s:local-path-config"), "kubelets read it");
    for one in &wanted {
        if let Some(role) = bootstrap::role_ref(&one.tree) {
            let namespace = one.namespace.as_deref().filter(|_| role.kind == "Role");
            assert!(
                has(&role.kind, namespace, &role.name),
                "{} binds {role:?}",
                one.tree["metadata"]["name"]
            );
        }
        assert_eq!(bootstrap::needs_update(one.tree.clone(), &one.tree), None, "{}", one.tree);
    }
    let user = Identity::user("u", []);
    let admin = bootstrap::rules_of("admin");
    let reads_pods = request(&user, "get", "pods");
    assert!(admin.iter().any(|rule| rbac::allows(rule, &reads_pods)), "view reaches admin through edit");
}

#[test]
fn what_an_administrator_took_is_given_back_and_what_was_added_stays() {
    let wanted = bootstrap::wanted();
    let viewer = wanted
        .iter()
        .find(|one| one.row.kind == "ClusterRole" && one.tree["metadata"]["name"] == "system:basic-user")
        .unwrap();
    let mut have = viewer.tree.clone();
    let extra = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
    have["rules"] = json!([extra]);
    let new = bootstrap::needs_update(have.clone(), &viewer.tree).unwrap();
    assert_eq!(new["rules"][0], extra);
    assert!(new["rules"].as_array().unwrap().len() > 1);
    have["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = json!("false");
    assert_eq!(bootstrap::needs_update(have, &viewer.tree), None);
}
