//! The flow schemas and priority levels that every cluster has: upstream's mandatory and suggested ones.
//!
//! They are served as objects and kept as upstream keeps them: what carries the annotation says what this
//! version says, what an administrator has taken the annotation's `true` from stays. The server's own
//! fairness has these levels built in and does not read the objects yet.

use std::sync::Arc;

use api::kinds::{FLOW_SCHEMA, PRIORITY_LEVEL_CONFIGURATION};
use api::{KindRow, Patch, UpdateOptions};
use client::{ObjectApi, ObjectRef};
use serde_json::{Value, json};

use super::ensure;
use crate::error::StartError;
use crate::registry::strategies::flow_control::objects::{levels, schemas};

const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// Makes the objects, and brings those that follow the server's version to it.
pub(super) async fn run(api: &Arc<dyn ObjectApi>) -> Result<(), StartError> {
    let levels = levels().into_iter().map(|(name, spec)| (&PRIORITY_LEVEL_CONFIGURATION, name, spec));
    let schemas = schemas().into_iter().map(|(name, spec)| (&FLOW_SCHEMA, name, spec));
    let all = levels.chain(schemas).map(|(row, name, spec)| bring(api, row, name, spec));
    for done in futures::future::join_all(all).await {
        done?;
    }
    Ok(())
}

async fn bring(
    api: &Arc<dyn ObjectApi>,
    row: &'static KindRow,
    name: &str,
    spec: Value,
) -> Result<(), StartError> {
    let fail = |source| StartError::Bootstrap { what: format!("{} {name}", row.singular), source };
    let at = ObjectRef::new(None, name);
    let present = match api.get(row, at).await {
        Ok(object) => object.tree().map_err(|error| fail(api::ApiError::internal(error)))?,
        Err(error) if error.is_not_found() => {
            let metadata = json!({"name": name, "annotations": {AUTO_UPDATE: "true"}});
            let body = json!({
                "apiVersion": row.api_version(), "kind": row.kind, "metadata": metadata, "spec": spec,
            });
            return ensure(api, row, None, name, body).await;
        }
        Err(error) => return Err(fail(error)),
    };
    let follows = present["metadata"]["annotations"][AUTO_UPDATE] == "true";
    if !follows || present["spec"] == spec {
        return Ok(());
    }
    // A JSON patch, because what is no longer there must go.
    let change = json!([{"op": "replace", "path": "/spec", "value": spec}]);
    api.patch(row, at, Patch::json(change), &UpdateOptions::default()).await.map(drop).map_err(fail)
}
