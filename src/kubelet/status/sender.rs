//! Sends pod statuses: the newest per pod, one at a time per pod, only what differs from what the API has.
//!
//! What was answered to the last patch counts as known even before the informer shows it, so a status is
//! never sent twice and never compared with an old one.

use std::collections::HashMap;
use std::sync::Arc;

use api::{ApiError, Patch};
use client::{Api, ObjectApi};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::pods::statics::NodePods;
use crate::spec::{PodExt, is_static};

/// Conditions that are taken away again.
const PASSING: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

#[derive(Clone)]
pub(crate) struct StatusSender {
    api: Arc<dyn ObjectApi>,
    known: Arc<Mutex<HashMap<String, Known>>>,
    /// Where the mirrors of static pods are found.
    pods: Option<NodePods>,
}

#[derive(Clone)]
struct Known {
    version: u64,
    status: Arc<PodStatus>,
}

fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl StatusSender {
    pub(crate) fn new(api: Arc<dyn ObjectApi>, pods: Option<NodePods>) -> Self {
        StatusSender { api, known: Arc::default(), pods }
    }

    /// The object whose status is this pod's: itself, or a static pod's mirror.
    fn shown(&self, pod: &Pod) -> Option<Arc<Pod>> {
        if !is_static(pod) {
            return Some(Arc::new(pod.clone()));
        }
        self.pods.as_ref().and_then(|pods| pods.mirror_of(pod))
    }

    /// The newest status of a pod that the API is known to have.
    pub(crate) fn latest(&self, pod: &Pod) -> Arc<PodStatus> {
        let mirror =
            if is_static(pod) { self.pods.as_ref().and_then(|pods| pods.mirror_of(pod)) } else { None };
        let shown = mirror.as_deref().unwrap_or(pod);
        if let Some(known) = self.known.lock().get(pod.uid())
            && known.version >= version(shown)
        {
            return known.status.clone();
        }
        Arc::new(shown.status.clone().unwrap_or_default())
    }

    /// Sends a status if it differs. Called by the pod's own worker only, so calls for one pod never overlap.
    /// A pod that is gone is no error.
    pub(crate) async fn send(&self, pod: &Pod, status: &PodStatus) -> Result<(), ApiError> {
        let old = self.latest(pod);
        let Some(patch) = difference(&old, status) else { return Ok(()) };
        let Some(shown) = self.shown(pod) else {
            // It is sent once the mirror is there.
            let known = Known { version: 0, status: Arc::new(status.clone()) };
            self.known.lock().insert(pod.uid().to_string(), known);
            return Ok(());
        };
        let body = json!({"metadata": {"uid": shown.uid()}, "status": patch});
        let pods: Api<Pod> = Api::namespaced(self.api.clone(), pod.namespace());
        match pods.patch_status(pod.name(), Patch::strategic(body)).await {
            Ok(updated) => {
                let known = Known {
                    version: version(&updated),
                    status: Arc::new(updated.status.clone().unwrap_or_default()),
                };
                self.known.lock().insert(pod.uid().to_string(), known);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            // A pod of the same name but another uid: ours is gone.
            Err(error) if error.is_conflict() => {
                tracing::debug!(pod = %pod.described(), %error, "status refused");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.known.lock().remove(uid);
    }
}

/// A strategic merge patch from one status to the other; `None` if nothing differs. Conditions of others
/// stay.
pub(crate) fn difference(old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (old, new) = (tree(old), tree(new));
    let mut patch = Map::new();
    for (key, value) in &new {
        match key.as_str() {
            "conditions" => {
                let had = old.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
                let changed: Vec<Value> = value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(|one| !had.contains(one))
                    .cloned()
                    .collect();
                let changed = changed.into_iter().map(|one| with_removals(one, &had));
                let changed: Vec<Value> = changed.chain(removed(&had, value)).collect();
                if !changed.is_empty() {
                    patch.insert(key.clone(), Value::Array(changed));
                }
            }
            "podIPs" if old.get(key) != Some(value) => {
                // Merged by address otherwise, which would keep the old ones.
                let mut list = vec![json!({"$patch": "replace"})];
                list.extend(value.as_array().cloned().unwrap_or_default());
                patch.insert(key.clone(), Value::Array(list));
            }
            _ if old.get(key) != Some(value) => {
                patch.insert(key.clone(), value.clone());
            }
            _ => {}
        }
    }
    for key in ["reason", "message", "podIP", "podIPs"] {
        if old.contains_key(key) && !new.contains_key(key) {
            patch.insert(key.to_string(), Value::Null);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Conditions that are there only while something goes on, and are no more.
fn removed(had: &[Value], now: &Value) -> Vec<Value> {
    let is_there = |kind: &str| now.as_array().into_iter().flatten().any(|one| one["type"] == kind);
    let is_past = |kind: &&str| had.iter().any(|one| one["type"] == *kind) && !is_there(kind);
    let delete = |kind: &str| json!({"$patch": "delete", "type": kind});
    PASSING.into_iter().filter(is_past).map(delete).collect()
}

/// A condition as a patch: fields that the old one had and the new one has not are set to null.
fn with_removals(mut condition: Value, had: &[Value]) -> Value {
    let old = had.iter().find(|one| one["type"] == condition["type"]);
    if let (Some(Value::Object(old)), Value::Object(new)) = (old, &mut condition) {
        for key in ["reason", "message"] {
            if old.contains_key(key) && !new.contains_key(key) {
                new.insert(key.to_string(), Value::Null);
            }
        }
    }
    condition
}

fn tree(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(mut tree)) => {
            // The API writes it as null or leaves it out; both mean that no probe time is known.
            for condition in tree.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(condition) = condition.as_object_mut() {
                    condition.remove("lastProbeTime");
                }
            }
            tree
        }
        _ => Map::new(),
    }
}
