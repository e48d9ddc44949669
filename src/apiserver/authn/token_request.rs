//! The `token` subresource of service accounts (TokenRequest API, KEP-1205).
//!
//! A token of 3607 seconds is what admission mounts into pods. Clients from before token rotation read it
//! only once, so it is good for a year while it says an hour (unless that is switched off), and using it
//! later is counted.

use api::kinds::{NODE, POD, SECRET};
use api::{ApiError, FieldError, KindRow, Object};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequestSpec};
use serde_json::{Value, json};

use super::Authenticator;
use super::jwt::{Claims, Private, Reference};

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// The life that marks tokens mounted by admission; see `admission::service_account`.
const MOUNTED_SECONDS: i64 = 60 * 60 + 7;
const EXTENDED_SECONDS: i64 = 365 * 24 * 60 * 60;

pub(super) fn issue(
    authenticator: &Authenticator,
    account: &Object,
    mut request: Value,
    now: Timestamp,
) -> Result<Value, ApiError> {
    let namespace = account.namespace().unwrap_or("");
    check_place(&request, namespace, account.name())?;
    let mut spec: TokenRequestSpec = serde_json::from_value(match request["spec"].take() {
        Value::Null => json!({"audiences": []}),
        Value::Object(mut given) => {
            given.entry("audiences").or_insert_with(|| json!([]));
            Value::Object(given)
        }
        other => other,
    })
    .map_err(|error| {
        ApiError::bad_request(format!(
            "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: {error}"
        ))
    })?;
    let audiences = spec.audiences.get_or_insert_default();
    if audiences.is_empty() {
        audiences.clone_from(&authenticator.audiences);
    }
    let audiences = audiences.clone();
    let seconds = *spec.expiration_seconds.get_or_insert(DEFAULT_SECONDS);
    check_duration(seconds, account.name())?;

    let mut private = Private {
        namespace: namespace.to_string(),
        serviceaccount: Reference { name: account.name().to_string(), uid: account.uid().to_string() },
        ..Private::default()
    };
    if let Some(bound) = &spec.bound_object_ref {
        bind(authenticator, account, bound, &mut private)?;
    }
    let issued = now.as_second();
    let own_audience = audiences.iter().all(|one| authenticator.audiences.contains(one));
    let extended = authenticator.extend_expiration
        && private.pod.is_some()
        && seconds == MOUNTED_SECONDS
        && own_audience;
    private.warnafter = extended.then_some(issued + seconds);
    let claims = Claims {
        aud: audiences,
        exp: issued + if extended { EXTENDED_SECONDS } else { seconds },
        iat: issued,
        iss: authenticator.issuer.clone(),
        jti: uuid::Uuid::new_v4().to_string(),
        nbf: issued,
        sub: format!("system:serviceaccount:{namespace}:{}", account.name()),
        kubernetes: private,
    };
    let token = authenticator
        .keys
        .sign(&claims)
        .map_err(|error| ApiError::internal(format!("failed to generate token: {error}")))?;
    let time = |second: i64| Timestamp::from_second(second).map(|at| at.to_string()).unwrap_or_default();
    Ok(json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "metadata": {"name": account.name(), "namespace": namespace, "creationTimestamp": time(issued)},
        "spec": spec,
        "status": {"token": token, "expirationTimestamp": time(issued + seconds)},
    }))
}

/// The body may repeat the path, not contradict it.
fn check_place(request: &Value, namespace: &str, name: &str) -> Result<(), ApiError> {
    for (field, want) in [("name", name), ("namespace", namespace)] {
        let given = request["metadata"][field].as_str().unwrap_or("");
        if !given.is_empty() && given != want {
            let what = if field == "name" { "service account name" } else { "namespace" };
            return Err(ApiError::bad_request(format!(
                "the {what} in the token request ({given}) does not match the {what} of the URL ({want})"
            )));
        }
    }
    Ok(())
}

fn check_duration(seconds: i64, name: &str) -> Result<(), ApiError> {
    let fault = match seconds {
        ..MIN_SECONDS => "may not specify a duration less than 10 minutes",
        MAX_SECONDS.. if seconds > MAX_SECONDS => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let mut status = ApiError::invalid(
        &api::kinds::SERVICE_ACCOUNT,
        name,
        vec![FieldError::invalid("spec.expirationSeconds", seconds, fault)],
    )
    .status()
    .clone();
    // The kind at fault is the request, which has no row of its own.
    let qualified = "TokenRequest.authentication.k8s.io";
    status.message = status.message.map(|text| text.replacen("ServiceAccount", qualified, 1));
    if let Some(details) = &mut status.details {
        details.group = Some("authentication.k8s.io".into());
        details.kind = Some("TokenRequest".into());
    }
    Err(ApiError::from_status(status))
}

/// Ties the token to an object: it must exist, have the UID that is asked for, and, a pod, run as this
/// account.
fn bind(
    authenticator: &Authenticator,
    account: &Object,
    bound: &BoundObjectReference,
    private: &mut Private,
) -> Result<(), ApiError> {
    let (api_version, kind) =
        (bound.api_version.as_deref().unwrap_or(""), bound.kind.as_deref().unwrap_or(""));
    let row: &'static KindRow = match (api_version, kind) {
        ("v1", "Pod") => &POD,
        ("v1", "Secret") => &SECRET,
        ("v1", "Node") => &NODE,
        _ => {
            let message =
                format!("cannot bind token to object of type {}, Kind={kind}", gvk_prefix(api_version));
            return Err(ApiError::bad_request(message));
        }
    };
    let name = bound.name.as_deref().unwrap_or("");
    let namespace = account.namespace().filter(|_| row.namespaced());
    let object =
        authenticator.caches.get(row, namespace, name).ok_or_else(|| ApiError::not_found(row, name))?;
    let uid = bound.uid.as_deref().unwrap_or("");
    if !uid.is_empty() && uid != object.uid() {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict(row, name, &why));
    }
    let reference = Reference { name: name.to_string(), uid: object.uid().to_string() };
    match kind {
        "Pod" => {
            private.node = pod_node(authenticator, account, &object)?;
            private.pod = Some(reference);
        }
        "Secret" => private.secret = Some(reference),
        _ => private.node = Some(reference),
    }
    Ok(())
}

fn pod_node(
    authenticator: &Authenticator,
    account: &Object,
    pod: &Object,
) -> Result<Option<Reference>, ApiError> {
    let tree = pod.tree().map_err(ApiError::internal)?;
    if tree["spec"]["serviceAccountName"].as_str() != Some(account.name()) {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            account.name()
        )));
    }
    let node = tree["spec"]["nodeName"].as_str().filter(|node| !node.is_empty());
    Ok(node.map(|node| Reference {
        name: node.to_string(),
        uid: authenticator
            .caches
            .get(&NODE, None, node)
            .map_or(String::new(), |object| object.uid().to_string()),
    }))
}

/// `/v1` for the core group's version, as Go prints a kind's group and version.
fn gvk_prefix(api_version: &str) -> String {
    if api_version.contains('/') { api_version.to_string() } else { format!("/{api_version}") }
}
