//! ServiceCIDRs: each gets a finalizer and is said to be ready; one that is being deleted stays until no
//! address of a service depends on it.
//!
//! Upstream waits ten seconds before it lets a range go, so that no allocator takes an address from it that
//! does not know yet. That is not needed here: the API server takes an address only while the range is as it
//! was (a compare in the same transaction), so once a range is marked no address comes to it, and a list that
//! is read afterwards has them all.

use std::net::IpAddr;
use std::sync::Arc;

use api::kinds::{IP_ADDRESS, SERVICE_CIDR};
use api::{ApiError, Cidr, ListOptions, Object, Patch};
use client::events::{EventType, Recorder, reference_to};
use client::{Api, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::context::{ControllerContext, ReconcileResult, text, unless_gone};

const ACCOUNT: &str = "service-cidrs-controller";
const COMPONENT: &str = "service-cidr-controller";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// The writer of the addresses of services.
const ALLOCATOR: &str = "ipallocator.k8s.io";

struct Controller {
    live: Arc<dyn ObjectApi>,
    api: Api<ServiceCIDR>,
    recorder: Recorder,
    ranges: Informer<ServiceCIDR>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("service-cidr");
    let live = context.act_as(ACCOUNT);
    let addresses: Informer<IPAddress> = context.informers.of();
    let controller = Arc::new(Controller {
        api: Api::all(live.clone()),
        live,
        recorder: context.recorder(ACCOUNT, COMPONENT),
        ranges: context.informers.of(),
    });
    let (keys, all) = (queue.clone(), controller.clone());
    controller.ranges.on_change(move |change| {
        let changed = change.latest();
        keys.add(text(&changed.metadata.name).to_string());
        // One that comes or goes may hold others back, or let them go.
        for other in all.ranges.list(None).iter().filter(|other| is_going(other)) {
            keys.add(text(&other.metadata.name).to_string());
        }
    });
    let (keys, all) = (queue.clone(), controller.clone());
    addresses.on_object_change(move |change| {
        let Some(address) = service_address(change.latest()) else { return };
        for range in all.ranges.list(None).iter().filter(|range| is_going(range)) {
            if cidrs(range).any(|cidr| cidr.holds_service_address(address)) {
                keys.add(text(&range.metadata.name).to_string());
            }
        }
    });
    let ranges = controller.ranges.clone();
    let ready = async move {
        ranges.synced().await;
        addresses.synced().await;
    };
    context.run(&queue, 1, ready, move |name| {
        let controller = controller.clone();
        async move { controller.reconcile(&name).await }
    });
}

fn is_going(range: &ServiceCIDR) -> bool {
    range.metadata.deletion_timestamp.is_some()
}

fn cidrs(range: &ServiceCIDR) -> impl Iterator<Item = Cidr> {
    let listed = range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    listed.filter_map(|cidr| cidr.parse().ok())
}

/// The address of an object that the allocator made.
fn service_address(object: &Object) -> Option<IpAddr> {
    let own = object.labels().get(MANAGED_BY).is_some_and(|by| by == ALLOCATOR);
    own.then(|| object.name().parse().ok())?
}

/// An address that would belong to no range if this one went.
fn held_by(
    range: &ServiceCIDR,
    all: &[Arc<ServiceCIDR>],
    addresses: impl IntoIterator<Item = IpAddr>,
) -> Option<IpAddr> {
    let others = || all.iter().filter(|other| other.metadata.name != range.metadata.name);
    let is_covered = |part: Cidr| others().any(|other| cidrs(other).any(|cidr| cidr.covers(&part)));
    if cidrs(range).all(is_covered) {
        return None;
    }
    let is_in = |range: &ServiceCIDR, address| cidrs(range).any(|cidr| cidr.holds_service_address(address));
    addresses
        .into_iter()
        .find(|address| is_in(range, *address) && !others().any(|other| is_in(other, *address)))
}

impl Controller {
    async fn reconcile(&self, name: &str) -> ReconcileResult {
        let Some(range) = self.ranges.get(None, name) else { return Ok(None) };
        let finalizers = range.metadata.finalizers.as_deref().unwrap_or(&[]);
        let is_guarded = finalizers.iter().any(|one| one == FINALIZER);
        if is_going(&range) {
            if is_guarded {
                self.let_go(name, &range).await?;
            }
            return Ok(None);
        }
        if !is_guarded {
            let patch = Patch::strategic(json!({"metadata": {"finalizers": [FINALIZER]}}));
            unless_gone(self.api.patch(name, patch).await)?;
        }
        let told = self.tell(name, &range, "True", "", "Kubernetes Service CIDR is ready").await;
        if let Err(error) = told {
            let (reason, message) =
                ("KubernetesServiceCIDRError", "The ServiceCIDR Status can not be set to Ready=True");
            self.recorder.event(&reference_to(&*range), EventType::Warning, reason, message);
            return Err(error);
        }
        Ok(None)
    }

    /// Lets a range go that nothing depends on. Everything is read anew: what the informers show may be older
    /// than the mark.
    async fn let_go(&self, name: &str, range: &ServiceCIDR) -> Result<(), ApiError> {
        let options = ListOptions::default();
        let ranges = self.live.list(&SERVICE_CIDR, None, &options).await?.items;
        let ranges: Result<Vec<Arc<ServiceCIDR>>, _> = ranges.iter().map(|object| object.typed()).collect();
        let ranges = ranges.map_err(ApiError::internal)?;
        let addresses = self.live.list(&IP_ADDRESS, None, &options).await?.items;
        let addresses = addresses.iter().filter_map(|object| service_address(object));
        if held_by(range, &ranges, addresses).is_some() {
            let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            return self.tell(name, range, "False", "Terminating", message).await;
        }
        let patch = Patch::strategic(json!({
            "metadata": {"uid": range.metadata.uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER]},
        }));
        unless_gone(self.api.patch(name, patch).await)
    }

    /// Sets the condition Ready unless it says so already.
    async fn tell(
        &self,
        name: &str,
        range: &ServiceCIDR,
        status: &str,
        reason: &str,
        message: &str,
    ) -> Result<(), ApiError> {
        let mut conditions = range.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let is_told = conditions.any(|one| {
            one.type_ == "Ready" && one.status == status && one.reason == reason && one.message == message
        });
        if is_told {
            return Ok(());
        }
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({
            "type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": now,
        });
        let patch = Patch::strategic(json!({"status": {"conditions": [condition]}}));
        unless_gone(self.api.patch_status(name, patch).await)
    }
}

#[cfg(test)]
mod tests;
