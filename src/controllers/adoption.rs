//! Adopting and releasing: a controller owns what its selector matches, and nobody else's.
//!
//! Patches carry the uid and resource version of the object they were planned on, so that a namesake made
//! meanwhile is never touched.

use std::sync::Arc;

use api::{ApiError, Kinded, LabelMatcher, Patch, UpdateOptions};
use client::{ObjectApi, ObjectRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use crate::context::text;

/// What to do with one object that might be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is ours and stays so.
    Keep,
    /// It has no owner and our selector matches.
    Adopt,
    /// It is ours but our selector does not match any more.
    Release,
    /// It is not ours.
    Ignore,
}

/// `owner_terminating`: a controller that is being deleted neither adopts nor releases.
pub(crate) fn claim(
    object: &ObjectMeta,
    owner_uid: &str,
    selector: &LabelMatcher,
    owner_terminating: bool,
) -> Claim {
    let matches = match &object.labels {
        Some(labels) => selector.matches(labels),
        None => selector.matches(&Default::default()),
    };
    match api::owner::controller_of(object) {
        Some(controller) if controller.uid != owner_uid => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if owner_terminating => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner_terminating || !matches || object.deletion_timestamp.is_some() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// Keeps, adopts and releases; answers with the objects that are ours now. `owner_lives` is asked once,
/// before the first adoption: it reads the owner past all caches.
pub(crate) async fn claim_all<K: Kinded, Fut>(
    api: &dyn ObjectApi,
    candidates: Vec<Arc<K>>,
    owner: &OwnerReference,
    selector: &LabelMatcher,
    owner_terminating: bool,
    owner_lives: impl Fn() -> Fut,
) -> Result<Vec<Arc<K>>, ApiError>
where
    Fut: Future<Output = Result<(), ApiError>>,
{
    claim_all_with(api, candidates, owner, selector, owner_terminating, None, owner_lives).await
}

/// The same; what is adopted gets a finalizer as well.
pub(crate) async fn claim_all_with<K: Kinded, Fut>(
    api: &dyn ObjectApi,
    candidates: Vec<Arc<K>>,
    owner: &OwnerReference,
    selector: &LabelMatcher,
    owner_terminating: bool,
    finalizer: Option<&str>,
    owner_lives: impl Fn() -> Fut,
) -> Result<Vec<Arc<K>>, ApiError>
where
    Fut: Future<Output = Result<(), ApiError>>,
{
    let mut ours = Vec::with_capacity(candidates.len());
    let mut asked = false;
    for candidate in candidates {
        match claim(candidate.metadata(), &owner.uid, selector, owner_terminating) {
            Claim::Keep => ours.push(candidate),
            Claim::Ignore => {}
            Claim::Release => release(api, &*candidate, &owner.uid).await?,
            Claim::Adopt => {
                if !asked {
                    owner_lives().await?;
                    asked = true;
                }
                if let Some(adopted) = adopt(api, &*candidate, owner, finalizer).await? {
                    ours.push(adopted);
                }
            }
        }
    }
    Ok(ours)
}

async fn adopt<K: Kinded>(
    api: &dyn ObjectApi,
    object: &K,
    owner: &OwnerReference,
    finalizer: Option<&str>,
) -> Result<Option<Arc<K>>, ApiError> {
    let metadata = object.metadata();
    let old = metadata.finalizers.clone().unwrap_or_default();
    let missing = finalizer.filter(|new| !old.iter().any(|one| one == new));
    let finalizers = missing.map(|new| old.iter().cloned().chain([new.to_string()]).collect());
    let mut owners = metadata.owner_references.clone().unwrap_or_default();
    owners.retain(|one| one.uid != owner.uid);
    owners.push(owner.clone());
    match set_owners(api, object, &owners, finalizers).await {
        Ok(object) => {
            let typed = object.typed::<K>().map_err(ApiError::internal)?;
            Ok(Some(typed))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn release<K: Kinded>(api: &dyn ObjectApi, object: &K, uid: &str) -> Result<(), ApiError> {
    let mut owners = object.metadata().owner_references.clone().unwrap_or_default();
    owners.retain(|one| one.uid != uid);
    match set_owners(api, object, &owners, None).await {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

async fn set_owners<K: Kinded>(
    api: &dyn ObjectApi,
    object: &K,
    owners: &[OwnerReference],
    finalizers: Option<Vec<String>>,
) -> Result<Arc<api::Object>, ApiError> {
    let metadata = object.metadata();
    let mut body = json!({"metadata": {
        "uid": metadata.uid,
        "resourceVersion": metadata.resource_version,
        "ownerReferences": owners,
    }});
    if let Some(finalizers) = finalizers {
        body["metadata"]["finalizers"] = json!(finalizers);
    }
    let at = ObjectRef::new(metadata.namespace.as_deref(), text(&metadata.name));
    api.patch(K::row(), at, Patch::merge(body), &UpdateOptions::default()).await
}

/// Refuses adoption if the owner is gone, replaced or being deleted.
pub(crate) fn may_adopt(kind: &str, live: Option<&ObjectMeta>, owner: &ObjectMeta) -> Result<(), ApiError> {
    let (namespace, name, uid) = (text(&owner.namespace), text(&owner.name), text(&owner.uid));
    match live {
        Some(live) if live.uid == owner.uid && live.deletion_timestamp.is_none() => Ok(()),
        Some(live) if live.uid == owner.uid => {
            let since = live.deletion_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
            Err(ApiError::internal(format!("{namespace}/{name} has just been deleted at {since}")))
        }
        Some(live) => Err(ApiError::internal(format!(
            "original {kind} {namespace}/{name} is gone: got uid {}, wanted {uid}",
            text(&live.uid)
        ))),
        None => Err(ApiError::internal(format!("original {kind} {namespace}/{name} is gone"))),
    }
}
