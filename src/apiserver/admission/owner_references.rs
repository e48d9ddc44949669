//! OwnerReferencesPermissionEnforcement: who changes an object's owners must be allowed to delete it, and who
//! has it block an owner's deletion must be allowed to set finalizers on that owner. Off by default.

use std::collections::{BTreeSet, HashSet};

use api::json::{items, text};
use api::kinds::{self, CUSTOM_RESOURCE_DEFINITION};
use api::{ApiError, Scope};
use serde_json::Value;

use super::request::{Operation, Request};
use crate::authz::{Attributes, Authorizer, Decision};

pub(super) fn validate(
    authorizer: &Authorizer,
    request: &Request<'_>,
    object: &Value,
) -> Result<(), ApiError> {
    // The status of a pod cannot change its owners.
    if request.operation == Operation::Delete || request.is("", "pods", Some("status")) {
        return Ok(());
    }
    let old = request.old_tree();
    let (new, before) = (items(object, "metadata.ownerReferences"), items(&old, "metadata.ownerReferences"));
    if new == before {
        return Ok(());
    }
    if request.operation == Operation::Update {
        let row = request.ctx.row;
        let deletes = Attributes {
            subresource: request.ctx.subresource,
            ..asked(request, "delete", &row.group, &row.plural, request.ctx.namespace, request.name)
        };
        if let Some(why) = refused(authorizer, &deletes) {
            let why = format!("cannot set an ownerRef on a resource you can't delete: {why}, <nil>");
            return Err(request.forbidden(&why));
        }
    }
    let blocks = |reference: &Value| reference["blockOwnerDeletion"] == true;
    let did: HashSet<&str> = before.iter().filter(|one| blocks(one)).map(|one| text(one, "uid")).collect();
    let blocking = new.iter().filter(|one| blocks(one) && !did.contains(text(one, "uid")));
    let part = |owner: &Value, part: &str| text(owner, part).to_string();
    let owners: BTreeSet<_> =
        blocking.map(|one| (part(one, "apiVersion"), part(one, "kind"), part(one, "name"))).collect();
    if owners.is_empty() {
        return Ok(());
    }
    let anything =
        Attributes { subresource: Some("finalizers"), ..asked(request, "update", "*", "*", None, "*") };
    if refused(authorizer, &anything).is_none() {
        return Ok(());
    }
    // Sorted, so a kind is looked up once.
    let mut known: Option<(&str, &str, Option<Resource>)> = None;
    for (version, kind, name) in &owners {
        if known.as_ref().is_none_or(|(of, own, _)| (of, own) != (&version.as_str(), &kind.as_str())) {
            known = Some((version, kind, resource(request, version, kind)));
        }
        let resource = known.as_ref().and_then(|(_, _, found)| found.clone());
        check(authorizer, request, (version.as_str(), kind.as_str(), name.as_str()), resource)?;
    }
    Ok(())
}

fn check(
    authorizer: &Authorizer,
    request: &Request<'_>,
    (version, kind, name): (&str, &str, &str),
    resource: Option<Resource>,
) -> Result<(), ApiError> {
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let Some((plural, namespaced)) = resource else {
        return Err(request.forbidden(&format!(
            "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {version} \
             Kind {kind}: no matches for kind {kind:?} in version {version:?}"
        )));
    };
    // An owner is in the namespace of what it owns, if it is in one.
    let namespace = request.ctx.namespace.filter(|_| namespaced);
    let finalizes = Attributes {
        subresource: Some("finalizers"),
        ..asked(request, "update", group, &plural, namespace, name)
    };
    match refused(authorizer, &finalizes) {
        None => Ok(()),
        Some(why) => Err(request.forbidden(&format!(
            "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: \
             {why}, <nil>"
        ))),
    }
}

/// The plural of a kind, and whether it is in namespaces.
type Resource = (String, bool);

/// Of what is built in, or of a definition.
fn resource(request: &Request<'_>, version: &str, kind: &str) -> Option<Resource> {
    if let Some(row) = kinds::by_kind(version, kind) {
        return Some((row.plural.to_string(), row.scope == Scope::Namespaced));
    }
    let group = version.split_once('/')?.0;
    let definitions = request.ctx.caches.list(&CUSTOM_RESOURCE_DEFINITION, None);
    // Named `plural.group`.
    let mut own =
        definitions.iter().filter(|one| one.name().split_once('.').is_some_and(|(_, of)| of == group));
    own.find_map(|definition| {
        let tree = definition.tree().ok()?;
        let is_it = text(&tree, "spec.names.kind") == kind;
        is_it.then(|| {
            (text(&tree, "spec.names.plural").to_string(), text(&tree, "spec.scope") == "Namespaced")
        })
    })
}

fn asked<'a>(
    request: &Request<'a>,
    verb: &'a str,
    group: &'a str,
    resource: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
) -> Attributes<'a> {
    Attributes {
        user: request.ctx.user,
        verb,
        group,
        resource,
        subresource: None,
        namespace,
        name: Some(name),
        fields: None,
        path: "",
    }
}

/// Why something is not allowed; none if it is.
fn refused(authorizer: &Authorizer, attributes: &Attributes<'_>) -> Option<String> {
    match authorizer.authorize(attributes) {
        Decision::Allow => None,
        Decision::Deny(why) => Some(why),
    }
}
