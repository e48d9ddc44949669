//! Watches over nodes: notices when a kubelet falls silent, says so in the node's conditions, taints nodes by
//! their conditions, and marks the pods of a node that is not ready as not ready.
//!
//! A node is heard of when its Lease or its status changes. Each node has one deadline; renewals move it
//! without waking anyone. Taints with NoExecute, which evict pods (`taint_eviction`), are held back while
//! most of a zone is not ready: that is more likely a fault of the network, or ours, than of so many nodes.
//! Absent: the per-zone rate limit of tainting.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Patch};
use client::events::{EventType, Recorder, reference_to};
use client::{Api, Change, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use crate::context::{ControllerContext, ReconcileResult, text, unless_gone};
use plan::{Readiness, Zone};

mod plan;

const ACCOUNT: &str = "node-controller";
const LEASES: &str = "kube-node-lease";
/// Silence after which a node counts as unreachable.
const GRACE: Duration = Duration::from_secs(50);
/// The same for a node that never posted a status.
const STARTUP_GRACE: Duration = Duration::from_secs(60);

struct Controller {
    api: Arc<dyn ObjectApi>,
    nodes_api: Api<Node>,
    recorder: Recorder,
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<Pod>,
    heard: Mutex<HashMap<String, Instant>>,
    queue: WorkQueue<String>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("node lifecycle");
    let api = context.act_as(ACCOUNT);
    let controller = Arc::new(Controller {
        nodes_api: Api::all(api.clone()),
        api,
        recorder: context.recorder(ACCOUNT, ACCOUNT),
        nodes: context.informers.of(),
        leases: context.informers.of(),
        pods: context.informers.of(),
        heard: Mutex::default(),
        queue: queue.clone(),
    });
    let this = controller.clone();
    controller.nodes.on_change(move |change| this.node_changed(change));
    let this = controller.clone();
    controller.leases.on_object_change(move |change| {
        // Every change of a lease is a renewal; its content does not matter, nor do clocks.
        if let Some(lease) = change.new.as_ref().filter(|lease| lease.namespace() == Some(LEASES)) {
            this.heard.lock().insert(lease.name().to_string(), Instant::now());
        }
    });
    let synced = controller.clone();
    let ready = async move {
        synced.nodes.synced().await;
        synced.leases.synced().await;
        synced.pods.synced().await;
    };
    context.run(&queue, 4, ready, move |name| {
        let controller = controller.clone();
        async move { controller.reconcile(&name).await }
    });
}

impl Controller {
    fn node_changed(&self, change: &Change<Node>) {
        let node = change.latest();
        let name = text(&node.metadata.name).to_string();
        if change.new.is_none() {
            self.heard.lock().remove(&name);
            let message = format!("Node {name} event: Removing Node {name} from Controller");
            self.recorder.event(&reference_to(&**node), EventType::Normal, "RemovingNode", message);
            self.reconsider_others(&name);
            return;
        }
        let heartbeat =
            |node: &Node| plan::condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.clone());
        match &change.old {
            None => {
                // What it was before we started is not known: it has a full grace period from now.
                self.heard.lock().insert(name.clone(), Instant::now());
                let message = format!("Node {name} event: Registered Node {name} in Controller");
                self.recorder.event(&reference_to(&**node), EventType::Normal, "RegisteredNode", message);
            }
            Some(old) if heartbeat(old) != heartbeat(node) => {
                self.heard.lock().insert(name.clone(), Instant::now());
            }
            Some(_) => {}
        }
        let readiness_changed =
            change.old.as_ref().is_none_or(|old| plan::readiness(old) != plan::readiness(node));
        if readiness_changed {
            // Whether evictions are held back depends on all nodes.
            self.reconsider_others(&name);
        }
        self.queue.add(name);
    }

    fn reconsider_others(&self, name: &str) {
        for node in self.nodes.objects(None) {
            if node.name() != name {
                self.queue.add(node.name().to_string());
            }
        }
    }

    async fn reconcile(&self, name: &str) -> ReconcileResult {
        let Some(mut node) = self.nodes.get(None, name) else { return Ok(None) };
        let grace = if plan::condition(&node, "Ready").is_some() { GRACE } else { STARTUP_GRACE };
        let silent = self.heard.lock().get(name).map_or(grace, Instant::elapsed);
        let mut again = Some(grace.saturating_sub(silent));
        if silent >= grace {
            again = None;
            if let Some(told) = plan::fallen_silent(&node, Timestamp::now()) {
                let was_ready = plan::readiness(&node) == Readiness::Ready;
                node = self.nodes_api.update_status(&told).await?;
                if was_ready {
                    let message = format!("Node {name} status is now: NodeNotReady");
                    self.recorder.event(&reference_to(&*node), EventType::Normal, "NodeNotReady", message);
                }
            }
        }
        self.taint(&node).await?;
        if plan::readiness(&node) != Readiness::Ready {
            self.mark_pods_not_ready(name).await?;
        }
        // A silent node is looked at again when it is heard of: that changes the node. Its lease alone does
        // not, so look then, too.
        Ok(again.or(Some(GRACE)))
    }

    async fn taint(&self, node: &Node) -> Result<(), ApiError> {
        let zones = self.zones();
        let evict = plan::may_evict(&zones, &plan::zone_of(node));
        let Some(taints) = plan::taints(node, evict, Timestamp::now()) else { return Ok(()) };
        let body = json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": taints},
        });
        unless_gone(self.nodes_api.patch(text(&node.metadata.name), Patch::merge(body)).await)
    }

    fn zones(&self) -> HashMap<String, Zone> {
        let mut zones: HashMap<String, Zone> = HashMap::new();
        for node in self.nodes.list(None) {
            let zone = zones.entry(plan::zone_of(&node)).or_default();
            if plan::readiness(&node) == Readiness::Ready { zone.ready += 1 } else { zone.not_ready += 1 }
        }
        zones
    }

    /// Services must not send traffic to pods that nobody watches over.
    async fn mark_pods_not_ready(&self, node: &str) -> Result<(), ApiError> {
        for pod in self.pods.list(None) {
            if api::pod::node_name(&pod) != Some(node) || !api::pod::is_ready(&pod) {
                continue;
            }
            let mut conditions =
                pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
            let old = conditions.iter().find(|condition| condition.type_ == api::pod::READY).cloned();
            let not_ready = PodCondition { status: "False".to_string(), ..old.unwrap_or_default() };
            api::pod::set_condition(&mut conditions, not_ready, Timestamp::now());
            let body = json!({
                "metadata": {"resourceVersion": pod.metadata.resource_version, "uid": pod.metadata.uid},
                "status": {"conditions": conditions},
            });
            let pods = Api::<Pod>::namespaced(self.api.clone(), text(&pod.metadata.namespace));
            unless_gone(pods.patch_status(text(&pod.metadata.name), Patch::merge(body)).await)?;
            self.recorder.event(
                &reference_to(&*pod),
                EventType::Warning,
                "NodeNotReady",
                "Node is not ready",
            );
        }
        Ok(())
    }
}
