//! The node's lease: renewed every 10 s, changing nothing but `renewTime`, which the store keeps cheap.

use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Patch};
use client::{Api, ObjectApi};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use serde_json::json;
use tokio::sync::watch;

const NAMESPACE: &str = "kube-node-lease";
const DURATION: i32 = 40;
pub(crate) const RENEW: Duration = Duration::from_secs(10);

/// Renews for ever; what fails is tried again sooner. `node` is the object that owns the lease: another one
/// once the node had to register again.
pub(crate) async fn run(api: Arc<dyn ObjectApi>, name: String, node: watch::Receiver<Option<Arc<Node>>>) {
    let leases: Api<Lease> = Api::namespaced(api, NAMESPACE);
    let mut known = false;
    let mut delay = Duration::from_millis(200);
    loop {
        let owner = node.borrow().as_ref().and_then(|node| node.metadata.uid.clone()).unwrap_or_default();
        let done = if known { renew(&name, &leases).await } else { acquire(&name, &leases, owner).await };
        match done {
            Ok(()) => {
                known = true;
                delay = Duration::from_millis(200);
                tokio::time::sleep(RENEW.mul_f64(rand::random_range(0.96..1.04))).await;
            }
            Err(error) => {
                known = known && !error.is_not_found();
                tracing::debug!(%error, "the node's lease was not renewed, will retry");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(7));
            }
        }
    }
}

async fn renew(name: &str, leases: &Api<Lease>) -> Result<(), ApiError> {
    let body = json!({"spec": {"renewTime": MicroTime(Timestamp::now())}});
    leases.patch(name, Patch::merge(body)).await.map(|_| ())
}

async fn acquire(name: &str, leases: &Api<Lease>, uid: String) -> Result<(), ApiError> {
    let owner = OwnerReference {
        api_version: "v1".to_string(),
        kind: "Node".to_string(),
        name: name.to_string(),
        uid,
        ..OwnerReference::default()
    };
    let spec = LeaseSpec {
        holder_identity: Some(name.to_string()),
        lease_duration_seconds: Some(DURATION),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    if leases.find(name).await?.is_some() {
        let body = json!({"metadata": {"ownerReferences": [owner]}, "spec": spec});
        return leases.patch(name, Patch::merge(body)).await.map(|_| ());
    }
    let metadata = ObjectMeta {
        name: Some(name.to_string()),
        namespace: Some(NAMESPACE.to_string()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    leases.create(&Lease { metadata, spec: Some(spec) }).await.map(|_| ())
}
