//! What webhooks are shown of a request and say about it reaches clients, whatever the verb.

use api::kinds::VALIDATING_WEBHOOK_CONFIGURATION;

use super::*;
use crate::outbound::tests::Scripted;

/// A server whose webhook lets what is done to ConfigMaps pass, but for data named `refuse`, and warns of it
/// by the operation and the kind of the options.
async fn warned() -> (Scripted, Harness) {
    let server = Scripted::start(|_, review| {
        let request = &review["request"];
        let warning = format!("{} {}", request["operation"], request["options"]["kind"]).replace('"', "");
        let allowed = request["object"]["data"]["refuse"].is_null();
        let response = json!({ "uid": request["uid"], "allowed": allowed, "warnings": [warning] });
        let answer =
            json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response });
        Some((200, answer))
    })
    .await;
    let h = Harness::start().await;
    let rule =
        json!({ "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"] });
    let hook = json!({
        "name": "w.example.com", "clientConfig": server.config("/"), "rules": [rule],
        "sideEffects": "None", "admissionReviewVersions": ["v1"],
    });
    let configuration = json!({ "metadata": { "name": "w" }, "webhooks": [hook] });
    h.create(&VALIDATING_WEBHOOK_CONFIGURATION, None, configuration).await;
    (server, h)
}

fn warnings(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all("warning").iter().map(|text| text.to_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_and_options_are_those_of_the_operation() {
    let (_server, h) = warned().await;
    let body = |name: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
    let created = post(&h, CONFIG_MAPS, body("a")).await;
    assert_eq!(warnings(&created), [r#"299 - "CREATE CreateOptions""#]);
    let apply = [("content-type", "application/apply-patch+yaml")];
    let at = |name: &str| format!("{CONFIG_MAPS}/{name}?fieldManager=m");
    let applied = send(&h, "PATCH", &at("b"), &apply, body("b").to_string()).await;
    assert_eq!((applied.code, warnings(&applied)), (201, vec![r#"299 - "CREATE CreateOptions""#]));
    let mut changed = body("b");
    changed["data"] = json!({ "k": "v" });
    let applied = send(&h, "PATCH", &at("b"), &apply, changed.to_string()).await;
    assert_eq!((applied.code, warnings(&applied)), (200, vec![r#"299 - "UPDATE PatchOptions""#]));
    changed["data"] = json!({ "refuse": "v" });
    let refused = send(&h, "PATCH", &at("b"), &apply, changed.to_string()).await;
    assert_eq!((refused.code, warnings(&refused)), (400, vec![r#"299 - "UPDATE PatchOptions""#]));
    let deleted = send(&h, "DELETE", &at("a"), &[], Body::empty()).await;
    assert_eq!(warnings(&deleted), [r#"299 - "DELETE DeleteOptions""#]);
    post(&h, CONFIG_MAPS, body("c")).await;
    let deleted = send(&h, "DELETE", CONFIG_MAPS, &[], Body::empty()).await;
    assert_eq!((deleted.code, warnings(&deleted)), (200, vec![r#"299 - "DELETE DeleteOptions""#; 1]));
    h.stop().await;
}
