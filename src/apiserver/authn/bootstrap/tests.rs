//! Bootstrap tokens over a whole registry in memory.

use serde_json::json;

use super::*;
use crate::testing::{Harness, config};

const TOKEN: &str = "abcdef.0123456789abcdef";

fn secret(id: &str, data: Value) -> Value {
    let mut all = json!({"token-id": id, "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true"});
    all.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
    json!({"metadata": {"name": format!("bootstrap-token-{id}")}, "type": TYPE, "stringData": all})
}

async fn accepted(h: &Harness, token: &str) -> Option<Identity> {
    h.server.registry.authenticator.authorization(&format!("Bearer {token}")).ok()
}

#[test]
fn the_form_is_six_and_sixteen() {
    assert_eq!(halves(TOKEN), Some(("abcdef", "0123456789abcdef")));
    for other in ["abcdef", "abcdef.0123", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef.", "a.b.c"] {
        assert_eq!(halves(other), None, "{other}");
    }
}

#[tokio::test]
async fn a_token_is_good_until_its_end_and_as_long_as_its_secret_is_there() {
    let h = Harness::start().await;
    let place = Some("kube-system");
    assert!(accepted(&h, TOKEN).await.is_none());
    let groups =
        json!({"expiration": "2999-01-01T00:00:00Z", "auth-extra-groups": "system:bootstrappers:ci"});
    h.create(&SECRET, place, secret("abcdef", groups)).await;
    let who = accepted(&h, TOKEN).await.unwrap();
    assert_eq!(who.name, "system:bootstrap:abcdef");
    for group in ["system:bootstrappers", "system:bootstrappers:ci", "system:authenticated"] {
        assert!(who.groups.iter().any(|own| own == group), "{:?}", who.groups);
    }
    let pinned = format!("K10{}::{TOKEN}", "0".repeat(64));
    assert!(accepted(&h, &pinned).await.is_some());
    assert!(accepted(&h, "abcdef.0123456789abcdeX").await.is_none());
    assert!(accepted(&h, "abcdef.0123456789abcdee").await.is_none(), "another secret");

    let refused = [
        ("aaaaaa", json!({"expiration": "2020-01-01T00:00:00Z"})),
        ("bbbbbb", json!({"expiration": "some day"})),
        ("cccccc", json!({"usage-bootstrap-authentication": "false"})),
        ("dddddd", json!({"auth-extra-groups": "system:masters"})),
        ("eeeeee", json!({"token-id": "abcdef"})),
        ("ffffff", json!({"token-secret": ""})),
    ];
    for (id, data) in refused {
        h.create(&SECRET, place, secret(id, data)).await;
        assert!(accepted(&h, &format!("{id}.0123456789abcdef")).await.is_none(), "{id}");
    }
    let mut opaque = secret("gggggg", json!({}));
    opaque["type"] = json!("Opaque");
    h.create(&SECRET, place, opaque).await;
    assert!(accepted(&h, "gggggg.0123456789abcdef").await.is_none());
    h.create(&SECRET, Some("default"), secret("hhhhhh", json!({}))).await;
    assert!(accepted(&h, "hhhhhh.0123456789abcdef").await.is_none(), "another namespace");

    h.delete(&SECRET, place, "bootstrap-token-abcdef").await.unwrap();
    assert!(accepted(&h, TOKEN).await.is_none());
    h.stop().await;
}

#[tokio::test]
async fn the_agents_token_is_good_until_it_is_rotated() {
    let (sender, receiver) = tokio::sync::watch::channel("first".to_string());
    let h = Harness::with(crate::Config { join_token: Some(receiver), ..config() }).await;
    assert_eq!(accepted(&h, "first").await.unwrap().name, "system:bootstrap:minik8s");
    sender.send_replace("second".to_string());
    assert!(accepted(&h, "first").await.is_none());
    assert!(accepted(&h, "second").await.is_some());
    sender.send_replace(String::new());
    assert!(accepted(&h, "K10x::node:").await.is_none(), "no token is no secret");
    h.stop().await;
}
