//! Protobuf: bodies that kubectl 1.33 really sends, every type there and back, and bytes that are nothing.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::FieldValidation;
use crate::schema;
use crate::schema::random::{Dice, random_object};

fn body(base64: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(base64).unwrap()
}

/// Recorded from `kubectl create deployment web --image=nginx --replicas=3 --port=80`.
const DEPLOYMENT: &str = "azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50ErgBCh8KA3dlYhIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEoYBCAMSDAoKCgNhcHASA3dlYhpsChwKABIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEkwSLgoFbmdpbngSBW5naW54KgAyCgoAEAAYUCIAKgBCAGoAcgCAAQCIAQCQAQCiAQAaADIAQgBKAFIAWABgAGgAggEAigEAmgEAwgEAIgIKACgAOAAaDAgAEAAYACAAKAA4ABoAIgA=";
/// Recorded from `kubectl create configmap c --from-literal=a=b`.
const CONFIG_MAP: &str = "azhzAAoPCgJ2MRIJQ29uZmlnTWFwEhsKEQoBYxIAGgAiACoAMgA4AEIAEgYKAWESAWIaACIA";
/// Recorded from `kubectl create secret generic s --from-literal=a=b`.
const SECRET: &str = "azhzAAoMCgJ2MRIGU2VjcmV0Eh0KEQoBcxIAGgAiACoAMgA4AEIAEgYKAWESAWIaABoAIgA=";
/// Recorded from `kubectl create token default --duration=10m`.
const TOKEN: &str = "azhzAAooChhhdXRoZW50aWNhdGlvbi5rOHMuaW8vdjESDFRva2VuUmVxdWVzdBIdChAKABIAGgAiACoAMgA4AEIAEgMg2AQaBAoAEgAaACIA";
/// Recorded from `kubectl create service clusterip web --tcp=80:8080`.
const SERVICE: &str = "azhzAAoNCgJ2MRIHU2VydmljZRJpCh8KA3dlYhIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEkIKGwoHODAtODA4MBIDVENQGFAiBwgAEJA/GgAoABIKCgNhcHASA3dlYhoAIglDbHVzdGVySVA6AEIAUgBaAGAAaAAaAgoAGgAiAA==";

#[test]
fn kubectls_bodies() {
    assert_eq!(
        decode(&body(DEPLOYMENT)).unwrap(),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "strategy": {},
                "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "nginx", "image": "nginx", "resources": {}, "ports": [{"containerPort": 80}]}]}}},
            "status": {}
        })
    );
    assert_eq!(
        decode(&body(CONFIG_MAP)).unwrap(),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}})
    );
    let secret = decode(&body(SECRET)).unwrap();
    assert_eq!((&secret["data"], secret["metadata"]["name"].as_str()), (&json!({"a": "Yg=="}), Some("s")));
    let token = decode(&body(TOKEN)).unwrap();
    assert_eq!(token["kind"], "TokenRequest");
    assert_eq!(token["spec"]["expirationSeconds"], 600);
    let service = decode(&body(SERVICE)).unwrap();
    assert_eq!(
        service["spec"],
        json!({"type": "ClusterIP", "selector": {"app": "web"},
            "ports": [{"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080}]})
    );
}

#[test]
fn what_is_no_body_is_refused() {
    assert!(matches!(decode(b"{}"), Err(ProtobufError::NoPrefix)));
    assert!(matches!(decode(b"k8s\0\x0a\x05ab"), Err(ProtobufError::Truncated)));
    let mut nameless = b"k8s\0".to_vec();
    nameless.extend([0x0a, 4, 0x12, 2, b'N', b'o']);
    assert!(matches!(decode(&nameless), Err(ProtobufError::UnknownKind { .. })));
    let whole = body(DEPLOYMENT);
    for length in 0..whole.len() {
        let _ = decode(&whole[..length]);
    }
}

#[test]
fn envelopes_in_envelopes_end() {
    let list = schema::for_gvk("", "v1", "List").unwrap();
    let mut inner = encode(&json!({"apiVersion": "v1", "kind": "ConfigMap"})).unwrap();
    for depth in 0..200 {
        let mut raw = vec![0x0a];
        encode_length(&mut raw, inner.len());
        raw.extend(&inner);
        let mut message = vec![0x12];
        encode_length(&mut message, raw.len());
        message.extend(&raw);
        let decoded = decode_message(list, &message);
        // Each is two levels of a tree, of which JSON's decoder reads 120 again.
        assert_eq!(decoded.is_ok(), depth < 60, "{depth}");
        let mut outer = b"k8s\0\x0a\x0a\x0a\x02v1\x12\x04List\x12".to_vec();
        encode_length(&mut outer, message.len());
        outer.extend(&message);
        inner = outer;
    }
}

fn encode_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

#[test]
fn lists_events_and_negative_numbers() {
    let list = json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "5"}, "items": [
        {"metadata": {"name": "a"}, "spec": {"priority": -5}}, {"metadata": {"name": "b"}}]});
    assert_eq!(decode(&encode(&list).unwrap()).unwrap(), list);
    let frame = encode_watch_event("ADDED", b"k8s\0");
    assert_eq!(frame[..4], [0, 0, 0, 15]);
    assert_eq!(frame[4..], *b"\x0a\x05ADDED\x12\x06\x0a\x04k8s\0");
    let status = crate::ApiError::not_found(&crate::kinds::POD, "x");
    let mut tree = serde_json::to_value(status.status()).unwrap();
    tree["apiVersion"] = "v1".into();
    tree["kind"] = "Status".into();
    assert_eq!(decode(&encode(&tree).unwrap()).unwrap()["details"]["name"], "x");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// What a tree has survives protobuf, for every kind of the release.
    #[test]
    fn every_kind_goes_there_and_back(seed in any::<u64>()) {
        let mut dice = Dice(seed);
        for ty in schema::all() {
            let Some((group, version, kind)) = ty.kind() else { continue };
            let mut tree = random_object(ty, &mut dice, 0);
            let inline = ty.fields().iter().all(|f| f.number > 0 || matches!(f.name, "apiVersion" | "kind"));
            if !inline {
                continue;
            }
            schema::check_kind(group, version, kind, &mut tree, &[], FieldValidation::Strict).unwrap();
            let bytes = encode_message(ty, &tree).unwrap();
            let back = decode_message(ty, &bytes).unwrap();
            prop_assert_eq!(&back, &tree, "{:?}", ty);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in any::<usize>(), to in any::<u8>()) {
        for ty in schema::all() {
            let _ = decode_message(ty, &bytes);
        }
        let mut damaged = body(DEPLOYMENT);
        let length = damaged.len();
        damaged[at % length] = to;
        let _ = decode(&damaged);
    }
}
