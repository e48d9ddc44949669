//! DenyServiceExternalIPs: services get no new external addresses, with which a user could draw traffic to
//! himself that is meant for others. Off by default.

use std::collections::BTreeSet;

use api::ApiError;
use api::json::items;
use serde_json::Value;

use super::request::{Operation, Request};

pub(super) fn validate(request: &Request<'_>, service: &Value) -> Result<(), ApiError> {
    if !request.is("", "services", None) || request.operation == Operation::Delete {
        return Ok(());
    }
    fn addresses(service: &Value) -> BTreeSet<&str> {
        items(service, "spec.externalIPs").iter().filter_map(Value::as_str).collect()
    }
    let old = request.old_tree();
    if addresses(service).is_subset(&addresses(&old)) {
        return Ok(());
    }
    Err(request.forbidden("Use of external IPs is denied by admission control"))
}
