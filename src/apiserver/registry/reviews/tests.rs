//! Questions and their answers, and tokens through their whole life.

use api::kinds::{
    LOCAL_SUBJECT_ACCESS_REVIEW, POD, SELF_SUBJECT_ACCESS_REVIEW, SELF_SUBJECT_REVIEW,
    SELF_SUBJECT_RULES_REVIEW, SERVICE_ACCOUNT, SUBJECT_ACCESS_REVIEW, TOKEN_REVIEW,
};
use api::{ApiError, CreateOptions, DeleteOptions, Identity, KindRow};
use client::{ApiFor, ObjectRef};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::testing::{Harness, master, pod};

const HERE: Option<&str> = Some("default");

async fn ask(
    h: &Harness,
    user: &Identity,
    row: &KindRow,
    namespace: Option<&str>,
    spec: Value,
) -> Result<Value, ApiError> {
    let api = h.server.as_user(user.clone());
    let answer = api.create(row, namespace, json!({"spec": spec}), &CreateOptions::default()).await?;
    Ok(answer.tree().unwrap()["status"].clone())
}

async fn token(h: &Harness, spec: Value) -> Result<Value, ApiError> {
    let at = ObjectRef::new(HERE, "builder").sub("token");
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    h.api.create_sub(&SERVICE_ACCOUNT, at, body, &CreateOptions::default()).await
}

#[tokio::test]
async fn users_may_ask_what_they_may_do() {
    let h = Harness::start().await;
    let joe = Identity::user("joe", []);
    let pods = json!({"resourceAttributes": {"namespace": "default", "verb": "list", "resource": "pods"}});
    let asked = |user: Identity, spec: Value| {
        let h = &h;
        async move { ask(h, &user, &SELF_SUBJECT_ACCESS_REVIEW, None, spec).await }
    };
    assert_eq!(asked(joe.clone(), pods.clone()).await.unwrap(), json!({"allowed": false}));
    assert_eq!(asked(master(), pods.clone()).await.unwrap(), json!({"allowed": true}));
    let path = json!({"nonResourceAttributes": {"path": "/version", "verb": "get"}});
    assert_eq!(asked(joe.clone(), path).await.unwrap(), json!({"allowed": true}));
    let nothing = asked(joe.clone(), json!({})).await.unwrap_err();
    assert_eq!(nothing.code(), 422);

    let mut about = pods.clone();
    about["user"] = json!("joe");
    about["groups"] = json!(["system:masters"]);
    let other = ask(&h, &master(), &SUBJECT_ACCESS_REVIEW, None, about.clone()).await.unwrap();
    assert_eq!(other, json!({"allowed": true}));
    assert_eq!(ask(&h, &joe, &SUBJECT_ACCESS_REVIEW, None, about.clone()).await.unwrap_err().code(), 403);
    let local =
        ask(&h, &master(), &LOCAL_SUBJECT_ACCESS_REVIEW, Some("kube-system"), about).await.unwrap_err();
    assert!(local.message().contains("must match metadata.namespace: kube-system"), "{local}");

    let rules =
        ask(&h, &joe, &SELF_SUBJECT_RULES_REVIEW, None, json!({"namespace": "default"})).await.unwrap();
    assert_eq!(rules["incomplete"], false);
    assert!(
        rules["resourceRules"]
            .as_array()
            .unwrap()
            .iter()
            .any(|rule| rule["apiGroups"] == json!(["authorization.k8s.io"]))
    );
    let own = ask(&h, &joe, &SELF_SUBJECT_REVIEW, None, json!({})).await.unwrap();
    assert_eq!(own["userInfo"], json!({"username": "joe", "groups": ["system:authenticated"]}));
    h.stop().await;
}

#[tokio::test]
async fn a_token_is_as_good_as_what_it_is_bound_to() {
    let h = Harness::start().await;
    h.create(&SERVICE_ACCOUNT, HERE, json!({"metadata": {"name": "builder"}})).await;
    let mut body = pod("p");
    body["spec"]["serviceAccountName"] = json!("builder");
    body["spec"]["nodeName"] = json!("n");
    h.create(&POD, HERE, body).await;
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "p"});
    let made = token(&h, json!({"boundObjectRef": bound})).await.unwrap();
    assert_eq!(made["spec"]["expirationSeconds"], 3600);
    assert_eq!(made["spec"]["audiences"], json!(["https://kubernetes.default.svc.cluster.local"]));
    let text = made["status"]["token"].as_str().unwrap().to_string();
    let authenticator = &h.server.registry.authenticator;
    let identity = authenticator.authorization(&format!("Bearer {text}")).unwrap();
    assert_eq!(identity.name, "system:serviceaccount:default:builder");
    assert_eq!(
        identity.groups,
        ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
    );
    assert_eq!(identity.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(identity.extra["authentication.kubernetes.io/node-name"], ["n"]);
    let review = ask(&h, &master(), &TOKEN_REVIEW, None, json!({"token": text})).await.unwrap();
    assert_eq!(
        (&review["authenticated"], &review["user"]["username"]),
        (&json!(true), &json!(identity.name))
    );

    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    h.api.delete(&POD, ObjectRef::new(HERE, "p"), &now).await.unwrap();
    assert_eq!(authenticator.authorization(&format!("Bearer {text}")).unwrap_err().code(), 401);
    let review = ask(&h, &master(), &TOKEN_REVIEW, None, json!({"token": text})).await.unwrap();
    assert_eq!(review["error"], "invalid bearer token, pod \"p\" is gone");

    let free = token(&h, json!({})).await.unwrap();
    let free = format!("Bearer {}", free["status"]["token"].as_str().unwrap());
    authenticator.authorization(&free).unwrap();
    h.api.delete(&SERVICE_ACCOUNT, ObjectRef::new(HERE, "builder"), &now).await.unwrap();
    h.create(&SERVICE_ACCOUNT, HERE, json!({"metadata": {"name": "builder"}})).await;
    assert!(authenticator.authorization(&free).is_err(), "another account of the same name");
    let other = token(&h, json!({"audiences": ["vault"]})).await.unwrap();
    let other = other["status"]["token"].as_str().unwrap();
    assert!(authenticator.authorization(&format!("Bearer {other}")).is_err(), "meant for somebody else");
    let vault = ask(&h, &master(), &TOKEN_REVIEW, None, json!({"token": other, "audiences": ["vault", "x"]}))
        .await
        .unwrap();
    assert_eq!(vault["audiences"], json!(["vault"]));
    h.stop().await;
}

/// What a token says of itself.
fn claims(token: &Value) -> Value {
    use base64::Engine as _;
    let text = token["status"]["token"].as_str().unwrap().split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn mounted_tokens_are_good_for_a_year_and_say_an_hour() {
    let h = Harness::start().await;
    h.create(&SERVICE_ACCOUNT, HERE, json!({"metadata": {"name": "builder"}})).await;
    let mut body = pod("p");
    body["spec"]["serviceAccountName"] = json!("builder");
    h.create(&POD, HERE, body).await;
    let ask = async |seconds: i64, audiences: Value, bound: Value| {
        let spec = json!({"expirationSeconds": seconds, "audiences": audiences, "boundObjectRef": bound});
        let made = token(&h, spec).await.unwrap();
        let claims = claims(&made);
        let number = |name: &str| claims[name].as_i64().unwrap();
        let told: Timestamp = made["status"]["expirationTimestamp"].as_str().unwrap().parse().unwrap();
        let warn = claims["kubernetes.io"]["warnafter"].as_i64().map(|after| after - number("iat"));
        assert_eq!(told.as_second() - number("iat"), seconds, "the kubelet must renew it in time");
        (number("exp") - number("iat"), warn)
    };
    let in_pod = || json!({"apiVersion": "v1", "kind": "Pod", "name": "p"});
    let own = || json!([]);
    assert_eq!(ask(3607, own(), in_pod()).await, (365 * 24 * 3600, Some(3607)));
    assert_eq!(ask(3600, own(), in_pod()).await, (3600, None), "another life was asked for");
    assert_eq!(ask(3607, json!(["vault"]), in_pod()).await, (3607, None), "for somebody else");
    assert_eq!(ask(3607, own(), Value::Null).await, (3607, None), "in no pod");
    h.stop().await;
}

#[tokio::test]
async fn token_requests_are_checked() {
    let h = Harness::start().await;
    h.create(&SERVICE_ACCOUNT, HERE, json!({"metadata": {"name": "builder"}})).await;
    h.create(&SERVICE_ACCOUNT, HERE, json!({"metadata": {"name": "default"}})).await;
    h.create(&POD, HERE, pod("p")).await;
    let short = token(&h, json!({"expirationSeconds": 599})).await.unwrap_err();
    assert_eq!(
        short.message(),
        "TokenRequest.authentication.k8s.io \"builder\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"
    );
    let reference = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}});
    let cases = [
        (
            reference("Pod", "p", ""),
            400,
            "cannot bind token for serviceaccount \"builder\" to pod running with different serviceaccount name.",
        ),
        (reference("Pod", "q", ""), 404, "pods \"q\" not found"),
        (reference("ConfigMap", "p", ""), 400, "cannot bind token to object of type /v1, Kind=ConfigMap"),
    ];
    for (spec, code, message) in cases {
        let error = token(&h, spec).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (code, message));
    }
    let stale = token(&h, reference("Pod", "p", "other")).await.unwrap_err();
    assert_eq!(stale.code(), 409);
    h.stop().await;
}
