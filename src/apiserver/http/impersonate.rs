//! Impersonation: `Impersonate-*` headers let those who may act as somebody else (`kubectl --as`).

use std::sync::Arc;

use api::identity::{GROUP_AUTHENTICATED, GROUP_UNAUTHENTICATED, USER_ANONYMOUS};
use api::{ApiError, Identity};
use http::HeaderMap;

use super::query::percent_decoded;
use crate::authz::{self, Attributes, Authorizer, Decision};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const ACCOUNT: &str = "system:serviceaccount:";

/// The identity that a request is made as: the caller's own without such headers.
pub(super) fn identity(
    authorizer: &Authorizer,
    caller: Arc<Identity>,
    headers: &HeaderMap,
) -> Result<Arc<Identity>, ApiError> {
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(caller);
    }
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_string).collect()
    };
    let user = all(USER).into_iter().next().unwrap_or_default();
    let (mut groups, uid) = (all(GROUP), all(UID).into_iter().next().unwrap_or_default());
    let extras: Vec<&str> = headers.keys().filter_map(|name| name.as_str().strip_prefix(EXTRA)).collect();
    if user.is_empty() {
        return Err(ApiError::bad_request("requested impersonation without a user"));
    }
    // Each part needs leave of its own: to act as a user is not to act as any group.
    let may = |resource: &str, group: &str, sub: Option<&str>, namespace: Option<&str>, name: &str| {
        let attributes = Attributes {
            user: &caller,
            verb: "impersonate",
            group,
            resource,
            subresource: sub,
            namespace,
            name: Some(name),
            fields: None,
            path: "",
        };
        match authorizer.authorize(&attributes) {
            Decision::Allow => Ok(()),
            Decision::Deny(reason) => Err(authz::forbidden(&attributes, &reason)),
        }
    };
    let account = user.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, name)) => may("serviceaccounts", "", None, Some(namespace), name)?,
        None => may("users", "", None, None, &user)?,
    }
    for group in &groups {
        may("groups", "", None, None, group)?;
    }
    if !uid.is_empty() {
        may("uids", "authentication.k8s.io", None, None, &uid)?;
    }
    let mut extra = std::collections::BTreeMap::new();
    for key in extras {
        let values = all(&format!("{EXTRA}{key}"));
        // Keys may have signs that no name of a header can have, so they come encoded.
        let key = percent_decoded(key)?;
        for value in &values {
            may("userextras", "authentication.k8s.io", Some(&key), None, value)?;
        }
        extra.insert(key, values);
    }
    // A service account has the groups that its token would give it, unless others are named.
    if let Some((namespace, name)) = account.filter(|_| groups.is_empty()) {
        groups = Identity::service_account(namespace, name).groups;
    }
    let implied = if user == USER_ANONYMOUS { GROUP_UNAUTHENTICATED } else { GROUP_AUTHENTICATED };
    if !groups.iter().any(|group| group == implied) {
        groups.push(implied.to_string());
    }
    Ok(Arc::new(Identity { name: user, uid, groups, extra }))
}
