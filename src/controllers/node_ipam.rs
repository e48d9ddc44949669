//! Gives each node its part of the cluster's pod addresses: `spec.podCIDR` and `spec.podCIDRs`, once and for
//! all.
//!
//! The API server decides that no two nodes get the same part: it refuses a part that overlaps
//! another node's in the transaction that writes the node; then another part is tried. What this controller
//! has given counts as taken before the informer shows it, so that this is rare. Parts are given out in a
//! circle, so that one that was just freed is not reused at once. One address family; dual-stack is absent.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use api::{Cidr, Patch};
use client::events::{EventType, Recorder, reference_to};
use client::{Api, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::json;

use crate::context::{ControllerContext, ReconcileResult, text};

const ACCOUNT: &str = "node-controller";

struct Controller {
    api: Api<Node>,
    recorder: Recorder,
    nodes: Informer<Node>,
    range: Cidr,
    mask: u8,
    given: Mutex<Given>,
}

#[derive(Default)]
struct Given {
    /// By node, not yet seen on it.
    pending: HashMap<String, u32>,
    next: u32,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("node ipam");
    let api: Arc<dyn ObjectApi> = context.act_as(ACCOUNT);
    let controller = Arc::new(Controller {
        api: Api::all(api),
        recorder: context.recorder(ACCOUNT, "cidrAllocator"),
        nodes: context.informers.of(),
        range: context.config.cluster_cidr,
        mask: context.config.node_cidr_mask,
        given: Mutex::default(),
    });
    let (keys, handler) = (queue.clone(), controller.clone());
    controller.nodes.on_change(move |change| {
        let name = text(&change.latest().metadata.name).to_string();
        match &change.new {
            Some(node) if pod_cidrs(node).next().is_none() => keys.add(name),
            _ => {
                handler.given.lock().pending.remove(&name);
            }
        }
    });
    let synced = controller.nodes.clone();
    context.run(&queue, 1, async move { synced.synced().await }, move |name| {
        let controller = controller.clone();
        async move { controller.reconcile(&name).await }
    });
}

fn pod_cidrs(node: &Node) -> impl Iterator<Item = &str> {
    let spec = node.spec.as_ref();
    let one = spec.and_then(|spec| spec.pod_cidr.as_deref()).filter(|cidr| !cidr.is_empty());
    let more = spec.into_iter().flat_map(|spec| spec.pod_cidrs.iter().flatten()).map(String::as_str);
    one.into_iter().chain(more)
}

/// The first free index from `next` on, around the circle.
fn choose(count: u32, next: u32, taken: &HashSet<u32>) -> Option<u32> {
    (0..count)
        .map(|step| (next.checked_rem(count).unwrap_or(0) + step) % count)
        .find(|index| !taken.contains(index))
}

impl Controller {
    async fn reconcile(&self, name: &str) -> ReconcileResult {
        let Some(node) = self.nodes.get(None, name) else { return Ok(None) };
        if pod_cidrs(&node).next().is_some() {
            return Ok(None);
        }
        let mut refused = HashSet::new();
        while let Some((index, part)) = self.allocate(name, &refused) {
            let body = json!({
                "metadata": {"uid": node.metadata.uid},
                "spec": {"podCIDR": part.to_string(), "podCIDRs": [part.to_string()]},
            });
            let Err(error) = self.api.patch(name, Patch::merge(body)).await else { return Ok(None) };
            self.given.lock().pending.remove(name);
            if error.is_not_found() {
                return Ok(None);
            }
            if !error.blames("spec.podCIDRs") {
                return Err(error);
            }
            refused.insert(index);
        }
        let message = format!("Node {name} status is now: CIDRNotAvailable");
        self.recorder.event(&reference_to(&*node), EventType::Warning, "CIDRNotAvailable", message);
        Err(api::ApiError::internal("all of the cluster's pod addresses are given out"))
    }

    /// A part that is free as far as is known here, and is none of those that were refused.
    fn allocate(&self, name: &str, refused: &HashSet<u32>) -> Option<(u32, Cidr)> {
        let mut given = self.given.lock();
        if let Some(index) = given.pending.get(name) {
            // Given a moment ago: the informer has not told yet.
            return Some((*index, self.range.subnet(self.mask, *index)?));
        }
        let nodes = self.nodes.list(None);
        let mut taken: HashSet<u32> = given.pending.values().chain(refused).copied().collect();
        for cidr in nodes.iter().flat_map(|node| pod_cidrs(node)) {
            let Ok(cidr) = cidr.parse() else { continue };
            taken.extend(self.range.indices_touched(self.mask, &cidr));
        }
        let index = choose(self.range.subnets(self.mask), given.next, &taken)?;
        given.next = index + 1;
        given.pending.insert(name.to_string(), index);
        Some((index, self.range.subnet(self.mask, index)?))
    }
}

#[cfg(test)]
mod tests;
