//! An APIService for each group and version that is served, as upstream's autoregistration makes them.
//!
//! Those of built-in groups are made at start; those of definitions come and go with what is served. Objects
//! that people make are left alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::kinds::API_SERVICE;
use api::{ApiError, CreateOptions, DeleteOptions, KindRow, ListOptions};
use client::{ApiFor, ObjectApi, ObjectRef};
use serde_json::{Value, json};

use super::identity;
use crate::server::ApiServer;

const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Group, then its priority: upstream's order of groups. A version's priority follows from what it is called.
const PRIORITIES: [(&str, i64); 23] = [
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("resource.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
    ("internal.apiserver.k8s.io", 16000),
    ("storagemigration.k8s.io", 15800),
    ("apiregistration.k8s.io", 0),
];
/// Priorities of the groups that definitions make.
const DEFINED: (i64, i64) = (1000, 100);

/// Group's and version's priority, and whether the group is built in; none for the group of these objects
/// themselves.
fn priorities(group: &str, version: &str) -> Option<(i64, i64, bool)> {
    let Some((_, priority)) = PRIORITIES.iter().find(|(own, _)| *own == group) else {
        return Some((DEFINED.0, DEFINED.1, false));
    };
    let of_version = match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        ("flowcontrol.apiserver.k8s.io" | "resource.k8s.io", "v1") => 21,
        ("admissionregistration.k8s.io", "v1beta1") => 12,
        ("resource.k8s.io", "v1beta2") => 15,
        (_, "v1") => 15,
        (_, version) if version.contains("beta") => 9,
        _ => 1,
    };
    (*priority > 0).then_some((*priority, of_version, true))
}

/// What should be there, by name.
fn wanted(rows: &[Arc<KindRow>]) -> BTreeMap<String, Value> {
    let versions = rows.iter().map(|row| (row.group.to_string(), row.version.to_string()));
    let bodies = versions.filter_map(|(group, version)| {
        let (minimum, priority, built_in) = priorities(&group, &version)?;
        let name = format!("{version}.{group}");
        let managed = if built_in { "onstart" } else { "true" };
        let mut spec = json!({
            "version": version, "groupPriorityMinimum": minimum, "versionPriority": priority,
        });
        if !group.is_empty() {
            spec["group"] = json!(group);
        }
        let body = json!({
            "apiVersion": API_SERVICE.api_version(), "kind": API_SERVICE.kind,
            "metadata": {"name": name, "labels": {MANAGED: managed}}, "spec": spec,
        });
        Some((name, body))
    });
    bodies.collect()
}

/// Keeps the objects as what is served, until the server stops.
pub(crate) async fn follow(server: Arc<ApiServer>) {
    let api = server.as_user(identity());
    let mut served = server.served();
    loop {
        let now = served.borrow_and_update().clone();
        let want = wanted(now.rows());
        let mut pause = FIRST_PAUSE;
        while let Err(error) = bring(&api, &want).await {
            tracing::warn!(%error, retry = ?pause, "the APIServices do not follow what is served yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if served.changed().await.is_err() {
            return;
        }
    }
}

async fn bring(api: &Arc<dyn ObjectApi>, want: &BTreeMap<String, Value>) -> Result<(), ApiError> {
    let present = api.list(&API_SERVICE, None, &ListOptions::default()).await?.items;
    for (name, body) in want.iter().filter(|(name, _)| !present.iter().any(|one| one.name() == *name)) {
        match api.create(&API_SERVICE, None, body.clone(), &CreateOptions::default()).await {
            Err(error) if !error.is_already_exists() => return Err(error),
            _ => tracing::debug!(name, "made an APIService"),
        }
    }
    let gone =
        present.iter().filter(|one| one.labels().contains_key(MANAGED) && !want.contains_key(one.name()));
    for one in gone {
        match api.delete(&API_SERVICE, ObjectRef::new(None, one.name()), &DeleteOptions::default()).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
