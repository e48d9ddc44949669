//! Tokens, what a path needs, and how long an answer holds.

use serde_json::json;

use super::*;
use crate::testing::TestNode;

fn bearer(token: &str) -> HeaderMap {
    [(http::header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())].into_iter().collect()
}

/// An API that knows `good`, whose user may read `granted` parts of nodes.
fn access(granted: &'static [&'static str]) -> (TestNode, Access) {
    let node = TestNode::new();
    node.api.answer("TokenReview", |review| {
        let is_good = review["spec"]["token"] == "good";
        review["status"] = json!({"authenticated": is_good, "user": {"username": "jane", "groups": ["ops"]}});
    });
    node.api.answer("SubjectAccessReview", move |review| {
        let asked = &review["spec"]["resourceAttributes"];
        let part = asked["subresource"].as_str().unwrap_or_default();
        let is_right =
            asked["resource"] == "nodes" && asked["name"] == "n" && review["spec"]["groups"][0] == "ops";
        review["status"] = json!({"allowed": is_right && granted.contains(&part)});
    });
    let access = Access::new(node.api.clone(), "n");
    (node, access)
}

#[tokio::test]
async fn a_token_needs_a_user_who_may() {
    let (_node, access) = access(&["metrics", "proxy"]);
    let code = async |path: &str, headers: &HeaderMap| {
        access.check(&Method::GET, path, headers).await.map_err(|Denied(code, _)| code.as_u16())
    };
    assert_eq!(code("/metrics/resource", &HeaderMap::new()).await, Err(401));
    assert_eq!(code("/metrics/resource", &bearer("bad")).await, Err(401));
    assert_eq!(code("/metrics/resource", &bearer("good")).await, Ok("jane".to_string()));
    assert_eq!(code("/pods", &bearer("good")).await, Ok("jane".to_string()), "who may do all may do this");
    assert_eq!(code("/stats/summary", &bearer("good")).await, Err(403), "which is not of the proxy");
    let basic = [(http::header::AUTHORIZATION, "Basic Z29vZA==".parse().unwrap())].into_iter().collect();
    assert_eq!(code("/metrics", &basic).await, Err(401));
}

#[tokio::test(start_paused = true)]
async fn answers_are_kept_for_a_while() {
    let (node, access) = access(&["metrics"]);
    for _ in 0..3 {
        access.check(&Method::GET, "/metrics", &bearer("good")).await.unwrap();
    }
    assert_eq!(node.journal.count("create TokenReview"), 1);
    assert_eq!(node.journal.count("create SubjectAccessReview"), 1);
    tokio::time::advance(HOLDS).await;
    access.check(&Method::GET, "/metrics", &bearer("good")).await.unwrap();
    assert_eq!(node.journal.count("create TokenReview"), 2);
    let denied = access.check(&Method::GET, "/exec/ns/p/c", &bearer("good")).await.unwrap_err();
    let message = "Forbidden (user=jane, verb=create, resource=nodes, subresource(s)=[proxy])\n";
    assert_eq!(denied, Denied(StatusCode::FORBIDDEN, message.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_nobody_knows_is_asked_about_once() {
    let (node, access) = access(&["metrics"]);
    let bad = bearer("bad");
    let asked =
        futures::future::join_all((0..20).map(|_| access.check(&Method::GET, "/metrics", &bad))).await;
    assert!(asked.into_iter().all(|answer| answer == Err(unauthorized())));
    assert!(node.journal.count("create TokenReview") <= REVIEWS_AT_ONCE);
    // However many there are, who is known stays known.
    access.check(&Method::GET, "/metrics", &bearer("good")).await.unwrap();
    for at in 0..2 * MOST {
        access.check(&Method::GET, "/metrics", &bearer(&format!("bad {at}"))).await.unwrap_err();
    }
    let before = node.journal.count("create TokenReview");
    access.check(&Method::GET, "/metrics", &bearer("good")).await.unwrap();
    assert_eq!(node.journal.count("create TokenReview"), before);
}
