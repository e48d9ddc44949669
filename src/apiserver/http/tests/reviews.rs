//! Reviews, which are answered and not kept.

use super::*;

#[tokio::test]
async fn a_review_is_no_table() {
    let h = Harness::start().await;
    let review = json!({ "spec": { "nonResourceAttributes": { "path": "/", "verb": "get" } } }).to_string();
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let either = format!("{table},application/json");
    for (accept, code, kind) in [(table, 406, "Status"), (&either, 201, "SelfSubjectAccessReview")] {
        let headers = [("content-type", "application/json"), ("accept", accept)];
        let answer = send(&h, "POST", path, &headers, review.clone()).await;
        assert_eq!((answer.code, answer.json()["kind"].as_str()), (code, Some(kind)), "{accept}");
    }
    h.stop().await;
}
