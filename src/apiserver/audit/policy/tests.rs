//! Which rule decides, and what is no policy.

use super::*;

fn policy(rules: &str) -> Policy {
    Policy::parse(format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}").as_bytes()).unwrap()
}

fn on(resource: &str, verb: &str, namespace: &str, name: &str) -> Attributes {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let (group, resource) = resource.split_once(':').unwrap_or(("", resource));
    Attributes {
        verb: verb.into(),
        path: format!("/api/v1/{resource}"),
        is_resource: true,
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: name.into(),
    }
}

fn path(path: &str) -> Attributes {
    Attributes { verb: "get".into(), path: path.into(), ..Attributes::default() }
}

#[test]
fn the_first_rule_that_is_about_a_request_decides() {
    let policy = policy(
        "omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, users: ['system:kube-proxy'], verbs: [watch], resources: [{group: '', resources: [endpoints]}]}
- {level: None, userGroups: ['system:authenticated'], nonResourceURLs: ['/api*', /version]}
- {level: Request, resources: [{group: '', resources: [configmaps], resourceNames: [own]}], namespaces: [kube-system]}
- {level: RequestResponse, resources: [{group: '*', resources: [pods/log, '*/status', 'deployments/*']}], omitManagedFields: false}
- {level: None, resources: [{group: apps}]}
- {level: Metadata, omitStages: [ResponseStarted]}
",
    );
    let proxy = Identity::user("system:kube-proxy", []);
    let user = Identity::user("u", ["system:authenticated"]);
    let level = |user: &Identity, what: Attributes| policy.judge(user, &what).level;
    assert_eq!(level(&proxy, on("endpoints", "watch", "", "")), Level::None);
    assert_eq!(level(&proxy, on("endpoints", "list", "", "")), Level::Metadata);
    assert_eq!(level(&user, on("endpoints", "watch", "", "")), Level::Metadata);
    assert_eq!(level(&user, path("/apis/apps")), Level::None);
    assert_eq!(level(&user, path("/version")), Level::None);
    assert_eq!(level(&user, path("/healthz")), Level::Metadata);
    assert_eq!(level(&Identity::anonymous(), path("/version")), Level::Metadata);
    assert_eq!(level(&user, on("configmaps", "get", "kube-system", "own")), Level::Request);
    assert_eq!(level(&user, on("configmaps", "get", "kube-system", "other")), Level::Metadata);
    assert_eq!(level(&user, on("configmaps", "get", "default", "own")), Level::Metadata);
    assert_eq!(level(&user, on("pods/log", "get", "default", "p")), Level::RequestResponse);
    assert_eq!(level(&user, on("pods", "get", "default", "p")), Level::Metadata);
    assert_eq!(level(&user, on("pods/status", "update", "default", "p")), Level::RequestResponse);
    assert_eq!(level(&user, on("apps:deployments/scale", "update", "default", "d")), Level::RequestResponse);
    assert_eq!(level(&user, on("apps:daemonsets", "update", "default", "d")), Level::None);

    let last = policy.judge(&user, &on("pods", "get", "default", "p"));
    let omitted = Stage::ALL.map(|(stage, _)| last.omit_stages.has(stage));
    assert_eq!(omitted, [true, true, false, false]);
    assert!(last.omit_managed_fields);
    assert!(!policy.judge(&user, &on("pods/log", "get", "default", "p")).omit_managed_fields);
}

#[test]
fn what_is_wrong_is_said() {
    for (rules, expected) in [
        ("rules: []", "loaded illegal policy with 0 rules"),
        (
            "rules: [{level: Some}]",
            "rules[0].level: Unsupported value: \"Some\": supported values: \"Metadata\", \"None\", \"Request\", \"RequestResponse\"",
        ),
        ("rules: [{}]", "rules[0].level: Required value"),
        (
            "omitStages: [Never]\nrules: [{level: None}]",
            "omitStages[0]: Invalid value: \"Never\": allowed stages are \
             RequestReceived,ResponseStarted,ResponseComplete,Panic",
        ),
        (
            "rules: [{level: None, nonResourceURLs: [healthz]}]",
            "rules[0].nonResourceURLs[0]: Invalid value: \"healthz\": non-resource URL rules must begin with a '/' character",
        ),
        ("rules: [{level: None, nonResourceURLs: ['/a*b']}]", "must be the final character of the rule"),
        (
            "rules: [{level: None, nonResourceURLs: [/a], namespaces: [a]}]",
            "rules cannot apply to both regular resources and non-resource URLs",
        ),
        (
            "rules: [{level: None, resources: [{resourceNames: [a]}]}]",
            "using resourceNames requires at least one resource",
        ),
        (
            "rules: [{level: None, resources: [{group: a/v1}]}]",
            "rules[0].resources.group: Invalid value: \"a/v1\"",
        ),
        ("rules: 5", "failed decoding"),
    ] {
        let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}\n");
        let said = Policy::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(said.contains(expected), "{rules}: {said}");
    }
    let said = Policy::parse(b"apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: []\n").unwrap_err();
    assert!(said.to_string().contains("no kind \"Policy\" is registered for version"), "{said}");
}

#[test]
fn what_is_unknown_is_passed_over_as_upstream_does() {
    let policy = policy("other: 1\nrules: [{level: Metadata, what: 1, resources: [{group: '', kind: x}]}]");
    let user = Identity::default();
    assert_eq!(policy.judge(&user, &on("pods", "get", "a", "b")).level, Level::Metadata);
    let (mut faults, tree) =
        (Vec::new(), serde_json::json!({ "a": 1, "rules": [{ "b": 1, "resources": [{ "c": 1 }] }] }));
    unknown(&tree, &mut faults);
    assert_eq!(
        faults,
        ["unknown field \"a\"", "unknown field \"rules[0].b\"", "unknown field \"rules[0].resources[0].c\""]
    );
}
