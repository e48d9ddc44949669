//! Which secret opens which registry.

use serde_json::json;

use super::*;

fn secret(auths: serde_json::Value) -> Secret {
    let bytes = base64::engine::general_purpose::STANDARD.encode(json!({"auths": auths}).to_string());
    serde_json::from_value(
        json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": bytes}}),
    )
    .unwrap()
}

#[test]
fn keys_match_registries() {
    let basic = base64::engine::general_purpose::STANDARD.encode("bob:pa:ss");
    let secret = secret(json!({
        "https://index.docker.io/v1/": {"auth": basic},
        "127.0.0.1:5000": {"username": "u", "password": "p"},
        "127.0.0.1:5000/team": {"username": "t", "password": "p"},
        "*.example.com": {"username": "w", "password": "p"},
    }));
    let users = |image: &str| -> Vec<String> {
        let name = ImageName::parse(image).unwrap();
        matching(&[&secret], &name).into_iter().map(|one| one.auth.username).collect()
    };
    assert_eq!(users("busybox"), ["bob"]);
    assert_eq!(users("127.0.0.1:5000/x"), ["u"]);
    assert_eq!(users("127.0.0.1:5000/team/x"), ["t", "u"]);
    assert_eq!(users("a.example.com/x"), ["w"]);
    assert!(users("127.0.0.1:5001/x").is_empty() && users("a.b.example.com/x").is_empty());
    let name = ImageName::parse("busybox").unwrap();
    assert_eq!(matching(&[&secret], &name)[0].auth.password, "pa:ss");
}
