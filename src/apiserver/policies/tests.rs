//! Policies through the whole write path.

use api::kinds::{
    CONFIG_MAP, DEPLOYMENT, MUTATING_ADMISSION_POLICY, MUTATING_ADMISSION_POLICY_BINDING, SECRET,
    VALIDATING_ADMISSION_POLICY, VALIDATING_ADMISSION_POLICY_BINDING, VALIDATING_WEBHOOK_CONFIGURATION,
};
use api::{CreateOptions, KindRow};
use serde_json::{Value, json};

use crate::testing::{Harness, deployment};

fn policy(kind: &str, resources: &[&str], more: Value) -> Value {
    let mut policy = json!({
        "metadata": { "name": "p" },
        "spec": { "matchConstraints": { "resourceRules": [{
            "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": resources,
        }] } },
    });
    policy["kind"] = json!(kind);
    for (member, value) in more.as_object().into_iter().flatten() {
        policy["spec"][member] = value.clone();
    }
    policy
}

async fn bind(h: &Harness, policy: Value, binding: Value) {
    let rows: (&KindRow, &KindRow) = match policy["kind"].as_str() {
        Some("MutatingAdmissionPolicy") => (&MUTATING_ADMISSION_POLICY, &MUTATING_ADMISSION_POLICY_BINDING),
        _ => (&VALIDATING_ADMISSION_POLICY, &VALIDATING_ADMISSION_POLICY_BINDING),
    };
    h.create(rows.0, None, policy).await;
    let mut spec = json!({ "policyName": "p" });
    for (member, value) in binding.as_object().into_iter().flatten() {
        spec[member] = value.clone();
    }
    h.create(rows.1, None, json!({ "metadata": { "name": "b" }, "spec": spec })).await;
}

fn deny() -> Value {
    json!({ "validationActions": ["Deny"] })
}

fn map(name: &str, data: Value) -> Value {
    json!({ "metadata": { "name": name }, "data": data })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validating_policy_judges_with_variables_and_the_namespace() {
    let h = Harness::start().await;
    let spec = json!({
        "variables": [
            { "name": "replicas", "expression": "object.spec.replicas" },
            { "name": "odd", "expression": "variables.replicas % 2 == 1" },
        ],
        "matchConditions": [{ "name": "here", "expression": "namespaceObject.metadata.name == 'default'" }],
        "validations": [
            { "expression": "variables.replicas > 1", "messageExpression": "'has ' + string(variables.replicas)" },
            { "expression": "variables.odd", "message": "must be odd", "reason": "Forbidden" },
        ],
    });
    bind(&h, policy("ValidatingAdmissionPolicy", &["deployments"], spec), deny()).await;
    let of = |replicas: i64| {
        let mut tree = deployment("d");
        tree["spec"]["replicas"] = json!(replicas);
        tree
    };
    let create = async |replicas| {
        h.api.create(&DEPLOYMENT, Some("default"), of(replicas), &CreateOptions::default()).await
    };
    let refused = create(1).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (422, "Invalid"));
    let by = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request";
    assert_eq!(refused.message(), format!(r#"deployments.apps "d" is forbidden: {by}: has 1"#));
    let refused = create(2).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (403, "Forbidden"));
    assert!(refused.message().ends_with(": must be odd"), "{refused}");
    create(3).await.unwrap();
    h.create(&CONFIG_MAP, Some("default"), map("other", json!({}))).await;
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_objects_that_the_binding_names() {
    let h = Harness::start().await;
    let spec = json!({
        "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
        "validations": [{ "expression": "object.spec.replicas <= int(params.data.most)" }],
    });
    let binding = json!({
        "validationActions": ["Deny"],
        "paramRef": { "name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny" },
    });
    bind(&h, policy("ValidatingAdmissionPolicy", &["deployments"], spec), binding).await;
    let create = async |name: &str| h.try_create(&DEPLOYMENT, Some("default"), deployment(name)).await;
    let refused = create("a").await.unwrap_err();
    assert!(refused[0].contains("no params found for policy binding with `Deny` parameterNotFoundAction"));
    h.create(&CONFIG_MAP, Some("default"), map("limits", json!({ "most": "1" }))).await;
    let refused = create("a").await.unwrap_err();
    assert!(refused[0].contains("failed expression: object.spec.replicas <= int(params.data.most)"));
    let at = client::ObjectRef::new(Some("default"), "limits");
    h.try_patch(&CONFIG_MAP, at, json!({ "data": { "most": "5" } })).await.unwrap();
    create("a").await.unwrap();
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_fails_does_what_it_says() {
    let h = Harness::start().await;
    let spec = |policy: &str| json!({ "failurePolicy": policy, "validations": [{ "expression": "object.data.absent == 'x'" }] });
    bind(&h, policy("ValidatingAdmissionPolicy", &["configmaps"], spec("Fail")), deny()).await;
    let refused = h.try_create(&CONFIG_MAP, Some("default"), map("m", json!({}))).await.unwrap_err();
    assert!(refused[0].contains("resulted in error: no such key: "), "{refused:?}");
    h.delete(&VALIDATING_ADMISSION_POLICY, None, "p").await.unwrap();
    let open = policy("ValidatingAdmissionPolicy", &["configmaps"], spec("Ignore"));
    h.create(&VALIDATING_ADMISSION_POLICY, None, open).await;
    h.create(&CONFIG_MAP, Some("default"), map("m", json!({}))).await;
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mutating_policies_apply_and_patch() {
    let h = Harness::start().await;
    let spec = json!({
        "reinvocationPolicy": "Never",
        "mutations": [
            { "patchType": "ApplyConfiguration", "applyConfiguration": { "expression":
                "Object{metadata: Object.metadata{labels: {'by': 'policy'}}, spec: Object.spec{template: \
                 Object.spec.template{spec: Object.spec.template.spec{containers: \
                 [Object.spec.template.spec.containers{name: 'c', imagePullPolicy: 'Always'}]}}}}" } },
            { "patchType": "JSONPatch", "jsonPatch": { "expression":
                "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), \
                 value: string(object.spec.replicas)}]" } },
        ],
    });
    bind(&h, policy("MutatingAdmissionPolicy", &["deployments"], spec), json!({})).await;
    let made = h.create(&DEPLOYMENT, Some("default"), deployment("d")).await.tree().unwrap();
    assert_eq!(made["metadata"]["labels"], json!({ "by": "policy", "a/b": "2" }));
    let container = &made["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&container["imagePullPolicy"], &container["image"]), (&json!("Always"), &json!("image:1")));
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_that_are_none_are_refused() {
    let h = Harness::start().await;
    let spec = json!({ "validations": [{ "expression": "object.spec.replicas >" }] });
    let wrong = policy("ValidatingAdmissionPolicy", &["deployments"], spec);
    let refused = h.try_create(&VALIDATING_ADMISSION_POLICY, None, wrong).await.unwrap_err();
    assert!(refused[0].starts_with("spec.validations[0].expression: Invalid value"), "{refused:?}");
    assert!(refused[0].contains("compilation failed: ERROR: <input>:1:23: Syntax error"), "{refused:?}");
    let unknown = json!({ "validations": [{ "expression": "params.x" }] });
    let wrong = policy("ValidatingAdmissionPolicy", &["deployments"], unknown);
    let refused = h.try_create(&VALIDATING_ADMISSION_POLICY, None, wrong).await.unwrap_err();
    assert!(refused[0].contains("undeclared reference to 'params'"), "{refused:?}");
    let webhook = json!({ "metadata": { "name": "w" }, "webhooks": [{
        "name": "w.example.com", "clientConfig": { "url": "https://127.0.0.1/" }, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "matchConditions": [{ "name": "c", "expression": "... [] bad" }],
    }] });
    let refused = h.try_create(&VALIDATING_WEBHOOK_CONFIGURATION, None, webhook).await.unwrap_err();
    assert!(
        refused[0].starts_with("webhooks[0].matchConditions[0].expression: Invalid value"),
        "{refused:?}"
    );
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_do_not_fit_are_told_in_the_status() {
    let h = Harness::start().await;
    let spec = |expression: &str| {
        json!({
            "variables": [{ "name": "size", "expression": "object.spec.replicas" }],
            "validations": [{ "expression": expression, "messageExpression": "'got ' + variables.size" }],
        })
    };
    let policy = policy("ValidatingAdmissionPolicy", &["deployments"], spec("object.spec.replicas > '1'"));
    let mut policy = policy;
    policy["spec"]["matchConstraints"]["resourceRules"][0]["apiGroups"] = json!(["apps"]);
    policy["spec"]["matchConstraints"]["resourceRules"][0]["apiVersions"] = json!(["v1"]);
    let found = super::checking::warnings(&policy, &h.server.registry.resources.load());
    let told: Vec<_> = found.iter().map(|one| one["fieldRef"].as_str().unwrap()).collect();
    assert_eq!(told, ["spec.validations[0].expression", "spec.validations[0].messageExpression"]);
    let words =
        "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to";
    let warning = found[0]["warning"].as_str().unwrap();
    assert!(warning.starts_with(words) && warning.contains("'(int, string)'"), "{warning}");
    assert!(found[1]["warning"].as_str().unwrap().contains("'(string, int)'"), "{found:?}");
    policy["spec"]["validations"] = json!([{ "expression": "object.spec.replicas > 1" }]);
    assert!(super::checking::warnings(&policy, &h.server.registry.resources.load()).is_empty());
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_says_comes_before_a_version_that_is_too_much() {
    let h = Harness::start().await;
    let spec =
        json!({ "validations": [{ "expression": "object.metadata.name != 'x'", "message": "not x" }] });
    bind(&h, policy("ValidatingAdmissionPolicy", &["configmaps"], spec), deny()).await;
    let create = async |name: &str| {
        let mut map = map(name, json!({}));
        map["metadata"]["resourceVersion"] = json!("5");
        let refused = h.api.create(&CONFIG_MAP, Some("default"), map, &CreateOptions::default()).await;
        refused.unwrap_err().message().to_string()
    };
    assert!(create("x").await.ends_with("denied request: not x"));
    assert_eq!(create("y").await, "resourceVersion should not be set on objects to be created");
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_are_too_large_are_refused() {
    let h = Harness::start().await;
    let validations = |count: usize| vec![json!({ "expression": "true" }); count];
    let variables = |count: usize| {
        let one = |at: usize| json!({ "name": format!("v{at}"), "expression": "1" });
        (0..count).map(one).collect::<Vec<_>>()
    };
    let long = format!("'{}' == ''", "x".repeat(256 << 10));
    let annotation = |at: usize| json!({ "key": format!("k{at}"), "valueExpression": "'v'" });
    let annotations: Vec<_> = (0..21).map(annotation).collect();
    for (spec, why) in [
        (
            json!({ "variables": variables(257), "validations": validations(1) }),
            "spec.variables: Too many: 257: must have at most 256 items",
        ),
        (
            json!({ "validations": validations(257) }),
            "spec.validations: Too many: 257: must have at most 256 items",
        ),
        (
            json!({ "auditAnnotations": annotations }),
            "spec.auditAnnotations: Invalid value: 21: must not have more than 20 auditAnnotations",
        ),
        (
            json!({ "validations": [{ "expression": long }] }),
            "spec: Too long: may not be more than 262144 bytes",
        ),
    ] {
        let large = policy("ValidatingAdmissionPolicy", &["configmaps"], spec);
        let refused = h.try_create(&VALIDATING_ADMISSION_POLICY, None, large).await.unwrap_err();
        assert_eq!(refused, [why]);
    }
    let spec = json!({ "variables": variables(256), "validations": validations(256) });
    let fits = policy("ValidatingAdmissionPolicy", &["configmaps"], spec);
    h.create(&VALIDATING_ADMISSION_POLICY, None, fits).await;
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_parameters_are_heavy_work() {
    for kind in ["ValidatingAdmissionPolicy", "MutatingAdmissionPolicy"] {
        let h = Harness::start().await;
        let of_kind = match kind {
            "ValidatingAdmissionPolicy" => {
                json!({ "validations": [{ "expression": "size(params.data) > 0" }] })
            }
            _ => json!({ "reinvocationPolicy": "Never", "mutations": [{
                "patchType": "ApplyConfiguration",
                "applyConfiguration": { "expression": "Object{metadata: Object.metadata{labels: {'by': 'policy'}}}" },
            }] }),
        };
        let mut spec = of_kind;
        spec["paramKind"] = json!({ "apiVersion": "v1", "kind": "ConfigMap" });
        let param_ref = json!({ "selector": {}, "namespace": "default", "parameterNotFoundAction": "Deny" });
        let binding = match kind {
            "ValidatingAdmissionPolicy" => {
                json!({ "validationActions": ["Deny"], "paramRef": param_ref })
            }
            _ => json!({ "paramRef": param_ref }),
        };
        // Each is small; together they are not.
        for name in ["a", "b"] {
            h.create(&CONFIG_MAP, Some("default"), map(name, json!({ "x": "y".repeat(40 * 1024) }))).await;
        }
        bind(&h, policy(kind, &["secrets"], spec), binding).await;
        let turns = h.server.registry.turns.clone();
        let alone = turns.all().await;
        let secret = json!({ "metadata": { "name": "s" } });
        let mut create = Box::pin(h.try_create(&SECRET, Some("default"), secret));
        while !turns.is_busy() {
            tokio::select! {
                biased;
                done = create.as_mut() => panic!("parameters are read where requests are served: {done:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        drop(alone);
        create.await.unwrap();
        drop(turns);
        h.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_read_again_when_their_specs_have_changed() {
    let h = Harness::start().await;
    let spec = json!({ "validations": [{ "expression": "object.metadata.name.matches('^m$')" }] });
    bind(&h, policy("ValidatingAdmissionPolicy", &["configmaps"], spec), deny()).await;
    let read = || h.server.registry.policies.validating()[0].clone();
    let before = read();
    let at = || client::ObjectRef::new(None, "p");
    let label = json!({ "metadata": { "labels": { "a": "b" } } });
    h.try_patch(&VALIDATING_ADMISSION_POLICY, at(), label).await.unwrap();
    let warn = json!({ "spec": { "validationActions": ["Warn"] } });
    let binding = client::ObjectRef::new(None, "b");
    h.try_patch(&VALIDATING_ADMISSION_POLICY_BINDING, binding, warn).await.unwrap();
    let after = read();
    assert!(after.1.warns, "bindings are those that are there");
    assert!(std::sync::Arc::ptr_eq(&before.0, &after.0), "the spec is the same");
    let open = json!({ "spec": { "failurePolicy": "Ignore" } });
    h.try_patch(&VALIDATING_ADMISSION_POLICY, at(), open).await.unwrap();
    assert!(read().0.fails_open);
    h.stop().await;
}
