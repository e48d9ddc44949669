//! Pods against what upstream's checks say of the same pods.

use api::kinds::{DEPLOYMENT, NAMESPACE, POD};
use client::ObjectRef;
use serde_json::{Value, json};

use super::checks::evaluate;
use super::policy::{Level, Policy};
use super::settings::Settings;
use crate::testing::{Harness, deployment, pod};

fn reasons(level: Level, minor: u32, spec: &Value) -> Vec<&'static str> {
    evaluate(level, minor, &json!({}), spec).into_iter().map(|(reason, _)| reason).collect()
}

fn detail(level: Level, minor: u32, spec: &Value) -> String {
    evaluate(level, minor, &json!({}), spec)
        .into_iter()
        .map(|(_, detail)| detail)
        .collect::<Vec<_>>()
        .join(" | ")
}

#[test]
fn each_level_has_its_checks() {
    let plain = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    assert!(reasons(Level::Privileged, 36, &plain).is_empty());
    assert!(reasons(Level::Baseline, 36, &plain).is_empty());
    assert_eq!(
        reasons(Level::Restricted, 36, &plain),
        [
            "allowPrivilegeEscalation != false",
            "unrestricted capabilities",
            "runAsNonRoot != true",
            "seccompProfile"
        ]
    );
    assert_eq!(reasons(Level::Restricted, 7, &plain), ["runAsNonRoot != true"]);
    assert_eq!(
        detail(Level::Restricted, 36, &plain),
        "containers \"a\", \"b\" must set securityContext.allowPrivilegeEscalation=false | containers \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"] | pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true | pod or containers \"a\", \"b\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
    );
    let hardened = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        }}],
    });
    assert!(reasons(Level::Restricted, 36, &hardened).is_empty());
}

#[test]
fn each_check_has_upstreams_words() {
    let with = |context: Value| json!({"containers": [{"name": "a", "securityContext": context}]});
    let of_pod = |context: Value| json!({"containers": [{"name": "a"}], "securityContext": context});
    for (spec, want) in [
        (json!({"hostNetwork": true, "hostIPC": true}), "hostNetwork=true, hostIPC=true"),
        (json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}), "volume \"v\""),
        (
            json!({"containers": [{"name": "a", "ports": [{"hostPort": 9}, {"hostPort": 80}]}]}),
            "container \"a\" uses hostPorts 80, 9",
        ),
        (
            json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "h"}}}]}),
            "container \"a\" uses probe or lifecycle host \"h\"",
        ),
        (with(json!({"privileged": true})), "container \"a\" must not set securityContext.privileged=true"),
        (
            with(json!({"capabilities": {"add": ["SYS_ADMIN", "KILL", "NET_RAW"]}})),
            "container \"a\" must not include \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add",
        ),
        (
            with(json!({"procMount": "Unmasked"})),
            "container \"a\" must not set securityContext.procMount to \"Unmasked\"",
        ),
        (
            of_pod(json!({"seLinuxOptions": {"type": "spc_t", "user": "u"}})),
            "pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set",
        ),
        (
            of_pod(json!({"seccompProfile": {"type": "Unconfined"}})),
            "pod must not set securityContext.seccompProfile.type to \"Unconfined\"",
        ),
        (of_pod(json!({"sysctls": [{"name": "kernel.msgmax"}]})), "kernel.msgmax"),
        (
            with(json!({"windowsOptions": {"hostProcess": true}})),
            "container \"a\" must not set securityContext.windowsOptions.hostProcess=true",
        ),
        (
            of_pod(json!({"appArmorProfile": {"type": "Unconfined"}})),
            "pod must not set AppArmor profile type to \"Unconfined\"",
        ),
    ] {
        assert_eq!(detail(Level::Baseline, 36, &spec), want);
    }
    let rmem = of_pod(json!({"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}));
    assert!(reasons(Level::Baseline, 32, &rmem).is_empty());
    assert_eq!(reasons(Level::Baseline, 31, &rmem), ["forbidden sysctls"]);
    let nfs = json!({"volumes": [{"name": "v", "nfs": {}}, {"name": "w", "hostPath": {}}]});
    assert_eq!(
        detail(Level::Restricted, 0, &nfs),
        "volumes \"v\", \"w\" use restricted volume types \"hostPath\", \"nfs\""
    );
    let own_users = json!({"hostUsers": false, "containers": [{"name": "a", "securityContext": {"procMount": "Unmasked", "runAsUser": 0}}]});
    assert!(reasons(Level::Baseline, 35, &own_users).is_empty());
    assert!(reasons(Level::Restricted, 35, &own_users).contains(&"procMount"));
    assert!(!reasons(Level::Restricted, 35, &own_users).contains(&"runAsUser=0"));
    assert!(reasons(Level::Restricted, 34, &own_users).contains(&"runAsUser=0"));
}

#[test]
fn labels_say_what_is_demanded() {
    let policy = |labels: Value| Policy::of(&json!({"metadata": {"labels": labels}}), &Settings::default());
    let enforced = policy(json!({"pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/enforce-version": "v1.24"}));
    assert_eq!(
        (enforced.enforce.to_string(), enforced.warn.to_string()),
        ("baseline:v1.24".into(), "baseline:v1.24".into())
    );
    let wrong = policy(
        json!({"pod-security.kubernetes.io/enforce": "none", "pod-security.kubernetes.io/warn-version": "1.2"}),
    );
    assert_eq!(wrong.enforce.level, Level::Restricted);
    assert_eq!(
        wrong.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"none\": must be one of privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.2\": must be \"latest\" or \"v1.x\"",
        ]
    );
}

#[tokio::test]
async fn pods_are_refused_where_it_is_enforced() {
    let h = Harness::start().await;
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    let at = ObjectRef::new(None, "default");
    h.create(&api::kinds::SERVICE_ACCOUNT, Some("default"), json!({"metadata": {"name": "default"}})).await;
    h.try_patch(&NAMESPACE, at, json!({"metadata": {"labels": labels}})).await.unwrap();
    let mut body = pod("p");
    body["spec"]["hostNetwork"] = json!(true);
    assert_eq!(
        h.try_create(&POD, Some("default"), body).await.unwrap_err(),
        [
            "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
        ]
    );
    h.try_create(&POD, Some("default"), pod("p")).await.unwrap();
    // A template is only warned of: its pods are refused.
    let mut body = deployment("d");
    body["spec"]["template"]["spec"]["hostPID"] = json!(true);
    h.try_create(&DEPLOYMENT, Some("default"), body).await.unwrap();
    let wrong = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "none"}}});
    let refused = h.try_patch(&NAMESPACE, at, wrong).await.unwrap_err();
    assert_eq!(
        refused,
        [
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"none\": must be one of privileged, baseline, restricted"
        ]
    );
    h.stop().await;
}
