//! `componentstatuses`: how the parts of the control plane are, looked at when somebody asks.
//!
//! The kind is deprecated, and every answer says so. Upstream asks scheduler and controller manager at their
//! ports; here they are alive while somebody holds the Lease that they stand for election with. The store
//! answers or does not.

use std::sync::Arc;

use api::kinds::LEASE;
use api::{ApiError, ListOptions, Object};
use client::ObjectList;
use embedded_store::Store;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Call, Registry};

/// Components that are elected, by the names of upstream's and of their Leases.
const ELECTED: [(&str, &str); 2] =
    [("controller-manager", "kube-controller-manager"), ("scheduler", "kube-scheduler")];
const STORE: &str = "etcd-0";

impl Registry {
    pub(super) fn component(&self, call: &Call<'_>, name: &str) -> Result<Arc<Object>, ApiError> {
        let found = self.health().into_iter().find(|(own, _)| *own == name);
        let (_, fault) = found.ok_or_else(|| ApiError::not_found(call.row(), name))?;
        status(name, fault)
    }

    pub(super) fn components(&self, options: &ListOptions) -> Result<ObjectList, ApiError> {
        for term in &options.fields.terms {
            if !matches!(term.path.as_str(), "metadata.name" | "metadata.namespace") {
                return Err(ApiError::bad_request(format!("field label not supported: {}", term.path)));
            }
        }
        let nothing = std::collections::BTreeMap::new();
        let named = |name: &str| {
            options.fields.matches(|path| if path == "metadata.name" { name } else { "" })
                && options.labels.matches(&nothing)
        };
        let wanted = self.health().into_iter().filter(|(name, _)| named(name));
        let items: Result<Vec<_>, _> = wanted.map(|(name, fault)| status(name, fault)).collect();
        Ok(ObjectList { items: items?, ..ObjectList::default() })
    }

    /// Each component, and what is wrong with it.
    fn health(&self) -> Vec<(&'static str, Option<String>)> {
        let now = Timestamp::now();
        let elected = ELECTED.into_iter().map(|(name, lease)| (name, self.vacancy(lease, now)));
        let answers = self.store.revision() >= self.store.compacted_revision();
        let store = (!answers).then(|| "the store does not answer".to_string());
        elected.chain([(STORE, store)]).collect()
    }

    /// What is wrong if nobody leads with a Lease that has not run out.
    fn vacancy(&self, name: &str, now: Timestamp) -> Option<String> {
        let lease = self.caches.get(&LEASE, Some("kube-system"), name);
        let tree = lease.and_then(|lease| lease.tree().ok()).unwrap_or(Value::Null);
        let spec = &tree["spec"];
        let renewed = spec["renewTime"].as_str().and_then(api::time::parse);
        let seconds = spec["leaseDurationSeconds"].as_i64().unwrap_or(0);
        let held = renewed.is_some_and(|at| api::time::plus_seconds(at, seconds) >= now);
        let led = held && spec["holderIdentity"].as_str().is_some_and(|holder| !holder.is_empty());
        (!led).then(|| format!("nobody holds the lease kube-system/{name}"))
    }
}

fn status(name: &str, fault: Option<String>) -> Result<Arc<Object>, ApiError> {
    let condition = match fault {
        None => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Some(why) => json!({"type": "Healthy", "status": "False", "message": "", "error": why}),
    };
    let tree = json!({
        "apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [condition],
    });
    Object::from_tree(tree, 0).map(Arc::new).map_err(ApiError::internal)
}
