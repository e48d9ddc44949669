//! Evicts pods from nodes with NoExecute taints: at once if they do not tolerate one, after
//! `tolerationSeconds` if they tolerate it for a while.

use std::sync::Arc;
use std::time::Duration;

use api::taints::{NO_EXECUTE, tolerates};
use api::{DeleteOptions, Patch, Preconditions};
use client::events::{EventType, Recorder, reference_to};
use client::{Api, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, Taint, Toleration};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::context::{ControllerContext, Key, ReconcileResult, key_of, text, unless_gone};

const ACCOUNT: &str = "node-controller";

struct Controller {
    api: Arc<dyn ObjectApi>,
    recorder: Recorder,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("taint eviction");
    let controller = Arc::new(Controller {
        api: context.act_as(ACCOUNT),
        recorder: context.recorder(ACCOUNT, "taint-eviction-controller"),
        nodes: context.informers.of(),
        pods: context.informers.of(),
    });
    let (keys, pods) = (queue.clone(), controller.pods.clone());
    controller.nodes.on_change(move |change| {
        let taints =
            |node: &Option<Arc<Node>>| node.as_ref().map(|node| no_execute(node)).unwrap_or_default();
        let (old, new) = (taints(&change.old), taints(&change.new));
        if new.is_empty() || old == new {
            return;
        }
        let node = text(&change.latest().metadata.name);
        for pod in pods.list(None).iter().filter(|pod| api::pod::node_name(pod) == Some(node)) {
            keys.add(key_of(&pod.metadata));
        }
    });
    let (keys, nodes) = (queue.clone(), controller.nodes.clone());
    controller.pods.on_change(move |change| {
        let Some(pod) = &change.new else { return };
        let tainted = |node: &str| nodes.get(None, node).is_some_and(|node| !no_execute(&node).is_empty());
        if api::pod::node_name(pod).is_some_and(tainted) {
            keys.add(key_of(&pod.metadata));
        }
    });
    let synced = controller.clone();
    let ready = async move {
        synced.nodes.synced().await;
        synced.pods.synced().await;
    };
    context.run(&queue, 8, ready, move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == NO_EXECUTE).cloned().collect()
}

/// When a pod has to go: none if it may stay for ever.
fn due(taints: &[Taint], tolerations: &[Toleration], now: Timestamp) -> Option<Timestamp> {
    let mut due: Option<Timestamp> = None;
    for taint in taints {
        let mut bearing = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
        if bearing.peek().is_none() {
            return Some(now);
        }
        // The shortest of several tolerations of one taint counts. One without an end counts only if it is
        // alone.
        let Some(seconds) = bearing.filter_map(|toleration| toleration.toleration_seconds).min() else {
            continue;
        };
        let since = taint.time_added.as_ref().map_or(now, |added| added.0);
        let end = api::time::plus_seconds(since, seconds.max(0));
        due = Some(due.map_or(end, |due| due.min(end)));
    }
    due
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> ReconcileResult {
        let Some(pod) = self.pods.get(Some(&key.0), &key.1) else { return Ok(None) };
        if api::pod::is_terminating(&pod) {
            return Ok(None);
        }
        let node = api::pod::node_name(&pod).and_then(|node| self.nodes.get(None, node));
        let taints = node.map(|node| no_execute(&node)).unwrap_or_default();
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.clone()).unwrap_or_default();
        let now = Timestamp::now();
        let Some(due) = due(&taints, &tolerations, now) else { return Ok(None) };
        if due > now {
            let left = api::time::seconds_between(now, due);
            return Ok(Some(Duration::from_secs_f64(left)));
        }
        self.evict(&pod).await
    }

    async fn evict(&self, pod: &Pod) -> ReconcileResult {
        let (namespace, name) = (text(&pod.metadata.namespace), text(&pod.metadata.name));
        let message = format!("Marking for deletion Pod {namespace}/{name}");
        self.recorder.event(&reference_to(pod), EventType::Normal, "TaintManagerEviction", message);
        let pods = Api::<Pod>::namespaced(self.api.clone(), namespace);
        let told = disrupted(pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
        unless_gone(pods.patch_status(name, told).await)?;
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), ..Preconditions::default() };
        let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
        unless_gone(pods.delete(name, &options).await)?;
        Ok(None)
    }
}

/// The patch of a pod's status that tells that a disruption, not its own fault, ends it.
pub(crate) fn disrupted(pod: &Pod, reason: &str, message: &str) -> Patch {
    let mut conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let condition = PodCondition {
        type_: api::pod::DISRUPTION_TARGET.to_string(),
        status: "True".to_string(),
        reason: Some(reason.to_string()),
        message: Some(message.to_string()),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    };
    api::pod::set_condition(&mut conditions, condition, Timestamp::now());
    Patch::merge(json!({
        "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
        "status": {"conditions": conditions},
    }))
}

#[cfg(test)]
mod tests;
