//! Policies against what upstream's validation says of the same objects.

use api::kinds::NETWORK_POLICY;
use client::ObjectRef;
use serde_json::{Value, json};

use super::warning;
use crate::testing::Harness;

fn policy(spec: Value) -> Value {
    json!({"metadata": {"name": "a"}, "spec": spec})
}

#[tokio::test]
async fn faults_of_policies_are_upstreams() {
    let h = Harness::start().await;
    let from = |peer: Value| policy(json!({"podSelector": {}, "ingress": [{"from": [peer]}]}));
    let ports = |port: Value| policy(json!({"podSelector": {}, "egress": [{"ports": [port]}]}));
    let cases: Vec<(Value, &[&str])> = vec![
        (from(json!({})), &["spec.ingress[0].from[0]: Required value: must specify a peer"]),
        (
            from(json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})),
            &["spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer"],
        ),
        (from(json!({"ipBlock": {"cidr": ""}})), &["spec.ingress[0].from[0].ipBlock.cidr: Required value"]),
        (
            from(json!({"ipBlock": {"cidr": "10.0.0.1/8"}})),
            &[
                "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
            ],
        ),
        (
            from(json!({"ipBlock": {"cidr": "10.1.0.0/16", "except": ["10.2.0.0/24", "10.1.0.0/16"]}})),
            &[
                "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"10.2.0.0/24\": must be a strict subset of `cidr`",
                "spec.ingress[0].from[0].ipBlock.except[1]: Invalid value: \"10.1.0.0/16\": must be a strict subset of `cidr`",
            ],
        ),
        (
            ports(json!({"protocol": "ICMP", "port": 0})),
            &[
                "spec.egress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
                "spec.egress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            ports(json!({"port": 80, "endPort": 79})),
            &["spec.egress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`"],
        ),
        (
            ports(json!({"port": "http", "endPort": 79})),
            &[
                "spec.egress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is non-numeric",
            ],
        ),
        (
            policy(json!({"podSelector": {}, "policyTypes": ["Ingress", "Up"]})),
            &["spec.policyTypes[1]: Unsupported value: \"Up\": supported values: \"Ingress\", \"Egress\""],
        ),
    ];
    for (body, want) in cases {
        assert_eq!(h.try_create(&NETWORK_POLICY, Some("default"), body).await.unwrap_err(), want);
    }
    let body =
        policy(json!({"podSelector": {"matchLabels": {"app": "a"}}, "egress": [{"ports": [{"port": 80}]}]}));
    let made = h.try_create(&NETWORK_POLICY, Some("default"), body).await.unwrap();
    assert_eq!(made["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(made["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
    assert_eq!(made["metadata"]["generation"], 1);
    let at = ObjectRef::new(Some("default"), "a");
    let changed = h.try_patch(&NETWORK_POLICY, at, json!({"spec": {"egress": null}})).await.unwrap();
    assert_eq!(changed["metadata"]["generation"], 2);
    h.stop().await;
}

#[test]
fn ranges_in_another_form_are_warned_of() {
    assert_eq!(warning("at", "10.0.0.0/8"), None);
    assert_eq!(
        warning("at", "FD00::/64").as_deref(),
        Some("at: IPv6 CIDR value \"FD00::/64\" should be in RFC 5952 canonical format (\"fd00::/64\")")
    );
}
