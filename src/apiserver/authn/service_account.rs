//! A token of a service account is good as long as the account and what it is bound to exist, with the same
//! UIDs.

use api::kinds::{NODE, POD, SECRET, SERVICE_ACCOUNT};
use api::{Identity, KindRow};
use jiff::Timestamp;

use super::jwt::{Claims, Reference};
use crate::cache::Caches;

/// An object stays good for this long after its deletion time, so that its last requests are not lost.
const DELETION_LEEWAY_SECONDS: i64 = 60;

/// Why a token is not accepted; for the log, and for who asks with a TokenReview.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refused {
    #[error("not a token of this cluster's form")]
    Malformed,
    #[error("no known key signed it")]
    Signature,
    #[error("another issuer")]
    Issuer,
    #[error("not meant for this audience")]
    Audience,
    #[error("expired")]
    Expired,
    #[error("not valid yet")]
    NotYetValid,
    #[error("subject and account differ")]
    Subject,
    #[error("{0} {1:?} is gone")]
    Gone(&'static str, String),
}

pub(super) fn identity(claims: &Claims, caches: &Caches, now: Timestamp) -> Result<Identity, Refused> {
    let own = &claims.kubernetes;
    let account = &own.serviceaccount;
    let mut identity = Identity::service_account(&own.namespace, &account.name);
    if claims.sub != identity.name {
        return Err(Refused::Subject);
    }
    let check = |row: &'static KindRow, what, namespace: Option<&str>, one: &Reference| {
        alive(caches, row, namespace, one, now)
            .then_some(())
            .ok_or_else(|| Refused::Gone(what, one.name.clone()))
    };
    let namespace = Some(own.namespace.as_str());
    check(&SERVICE_ACCOUNT, "service account", namespace, account)?;
    let mut extra = |key: &str, value: &str| {
        identity.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_string()]);
    };
    if let Some(secret) = &own.secret {
        check(&SECRET, "secret", namespace, secret)?;
    }
    if let Some(pod) = &own.pod {
        check(&POD, "pod", namespace, pod)?;
        extra("pod-name", &pod.name);
        extra("pod-uid", &pod.uid);
    }
    if let Some(node) = &own.node {
        // The node of a pod is information only; a token bound to a node itself dies with it.
        if own.pod.is_none() {
            check(&NODE, "node", None, node)?;
        }
        extra("node-name", &node.name);
        if !node.uid.is_empty() {
            extra("node-uid", &node.uid);
        }
    }
    if !claims.jti.is_empty() {
        extra("credential-id", &format!("JTI={}", claims.jti));
    }
    identity.uid.clone_from(&account.uid);
    Ok(identity)
}

fn alive(caches: &Caches, row: &KindRow, namespace: Option<&str>, one: &Reference, now: Timestamp) -> bool {
    let Some(object) = caches.get(row, namespace, &one.name) else { return false };
    let deleted = object.metadata().deletion_timestamp.as_deref();
    let deadline = deleted.and_then(|text| text.parse::<Timestamp>().ok());
    let over = deadline.is_some_and(|at| now.as_second() > at.as_second() + DELETION_LEEWAY_SECONDS);
    object.uid() == one.uid && !over
}
