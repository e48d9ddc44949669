//! NamespaceLifecycle: nothing lives in a namespace that is not there, nothing new comes into one that is
//! going, and the system's namespaces stay.

use api::ApiError;
use api::kinds::NAMESPACE;

use super::request::{Operation, Request};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) fn admit(request: &Request<'_>) -> Result<(), ApiError> {
    let row = request.ctx.row;
    if request.operation == Operation::Delete {
        if request.is("", "namespaces", None) && IMMORTAL.contains(&request.name) {
            return Err(request.forbidden("this namespace may not be deleted"));
        }
        return Ok(());
    }
    let Some(name) = request.ctx.namespace.filter(|_| row.namespaced()) else { return Ok(()) };
    // Permissions may be asked about in any namespace, even one that is not there.
    if row.group == "authorization.k8s.io" {
        return Ok(());
    }
    let Some(namespace) = request.ctx.caches.get(&NAMESPACE, None, name) else {
        return Err(ApiError::not_found(&NAMESPACE, name));
    };
    let going = namespace.metadata().deletion_timestamp.is_some();
    if request.operation == Operation::Create && going && request.ctx.subresource.is_none() {
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        let message = format!("namespace {name} is being terminated");
        let error = request.forbidden(&why);
        return Err(error.with_cause("NamespaceTerminating", Some("metadata.namespace"), &message));
    }
    Ok(())
}
