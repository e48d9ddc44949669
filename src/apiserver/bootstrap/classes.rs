//! The two priority classes that every cluster has.

use std::sync::Arc;

use api::kinds::PRIORITY_CLASS;
use client::ObjectApi;
use serde_json::json;

use super::ensure;
use crate::error::StartError;
use crate::registry::strategies::priority_class::SYSTEM;

pub(super) async fn run(api: &Arc<dyn ObjectApi>) -> Result<(), StartError> {
    for (name, value, description) in SYSTEM {
        let body = json!({
            "apiVersion": PRIORITY_CLASS.api_version(), "kind": PRIORITY_CLASS.kind,
            "metadata": {"name": name}, "value": value, "description": description,
        });
        ensure(api, &PRIORITY_CLASS, None, name, body).await?;
    }
    Ok(())
}
