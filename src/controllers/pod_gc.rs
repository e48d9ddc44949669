//! Deletes pods that no kubelet will ever finish: those of nodes that are gone, those being deleted before
//! they had a node, and the oldest of too many that have ended.

use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, DeleteOptions, Preconditions};
use client::{Api, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use crate::context::{ControllerContext, Key, ReconcileResult, key_of, text, unless_gone};
use crate::taint_eviction::disrupted;

const ACCOUNT: &str = "pod-garbage-collector";
/// How long a node must be gone before its pods are.
const QUARANTINE: Duration = Duration::from_secs(40);
/// How many ended pods are kept.
const ENDED_KEPT: usize = 12_500;
/// How often, at most, ended pods are counted.
const SWEEP: Duration = Duration::from_secs(20);

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// Pods of a node that may be gone.
    Node(String),
    Pod(Key),
    Ended,
}

struct Controller {
    api: Arc<dyn ObjectApi>,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("pod garbage collector");
    let controller = Arc::new(Controller {
        api: context.act_as(ACCOUNT),
        nodes: context.informers.of(),
        pods: context.informers.of(),
    });
    let work = queue.clone();
    controller.nodes.on_object_change(move |change| {
        if change.new.is_none() {
            work.add_after(Work::Node(change.latest().name().to_string()), QUARANTINE);
        }
    });
    let (work, nodes) = (queue.clone(), controller.nodes.clone());
    controller.pods.on_change(move |change| {
        let Some(pod) = &change.new else { return };
        if api::pod::is_terminal(pod) {
            work.add_after(Work::Ended, SWEEP);
        }
        match api::pod::node_name(pod) {
            Some(node) if nodes.object(None, node).is_none() => {
                work.add_after(Work::Node(node.to_string()), QUARANTINE);
            }
            None if api::pod::is_terminating(pod) => work.add(Work::Pod(key_of(&pod.metadata))),
            _ => {}
        }
    });
    let synced = controller.clone();
    let ready = async move {
        synced.nodes.synced().await;
        synced.pods.synced().await;
    };
    context.run(&queue, 1, ready, move |work| {
        let controller = controller.clone();
        async move { controller.reconcile(&work).await }
    });
}

/// The oldest of the ended pods that are too many.
fn surplus(mut ended: Vec<Arc<Pod>>, kept: usize) -> Vec<Arc<Pod>> {
    let surplus = ended.len().saturating_sub(kept);
    ended.sort_by_key(|pod| (pod.metadata.creation_timestamp.clone(), pod.metadata.name.clone()));
    ended.truncate(surplus);
    ended
}

impl Controller {
    async fn reconcile(&self, work: &Work) -> ReconcileResult {
        match work {
            Work::Node(node) => self.collect_of_node(node).await?,
            Work::Pod(key) => {
                let pod = self.pods.get(Some(&key.0), &key.1);
                let stray =
                    |pod: &Arc<Pod>| api::pod::is_terminating(pod) && api::pod::node_name(pod).is_none();
                if let Some(pod) = pod.filter(stray) {
                    self.delete(&pod).await?;
                }
            }
            Work::Ended => {
                let ended =
                    self.pods.list(None).into_iter().filter(|pod| api::pod::is_terminal(pod)).collect();
                for pod in surplus(ended, ENDED_KEPT) {
                    self.delete(&pod).await?;
                }
            }
        }
        Ok(None)
    }

    async fn collect_of_node(&self, node: &str) -> Result<(), ApiError> {
        // The informer may lag: the API has the last word.
        if self.nodes.object(None, node).is_some()
            || Api::<Node>::all(self.api.clone()).find(node).await?.is_some()
        {
            return Ok(());
        }
        for pod in self.pods.list(None) {
            if api::pod::node_name(&pod) != Some(node) {
                continue;
            }
            if !api::pod::is_terminal(&pod) {
                let mut told = disrupted(&pod, "DeletionByPodGC", "PodGC: node no longer exists");
                told.body["status"]["phase"] = json!("Failed");
                let pods = Api::<Pod>::namespaced(self.api.clone(), text(&pod.metadata.namespace));
                unless_gone(pods.patch_status(text(&pod.metadata.name), told).await)?;
            }
            self.delete(&pod).await?;
        }
        Ok(())
    }

    async fn delete(&self, pod: &Pod) -> Result<(), ApiError> {
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), ..Preconditions::default() };
        let options =
            DeleteOptions { grace_period_seconds: Some(0), preconditions, ..DeleteOptions::default() };
        let pods = Api::<Pod>::namespaced(self.api.clone(), text(&pod.metadata.namespace));
        unless_gone(pods.delete(text(&pod.metadata.name), &options).await)
    }
}

#[cfg(test)]
mod tests;
