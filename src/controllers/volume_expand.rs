//! Tells of claims that have been asked to grow.
//!
//! No built-in kind of volume can be expanded: who has made a volume expands it, such as the resizer of a CSI
//! driver. Classes of the built-in provisioner do not allow expansion, so admission refuses such claims.

use std::sync::Arc;

use api::volumes::{BIND_COMPLETED, annotation, requested, storage, volume_name};
use client::events::{EventType, Recorder, reference_to};
use client::{Informer, WorkQueue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::context::{ControllerContext, Key, ReconcileResult, key_of};

const ACCOUNT: &str = "expand-controller";
const COMPONENT: &str = "volume_expand";

struct Controller {
    recorder: Recorder,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue: WorkQueue<Key> = WorkQueue::new("volume expand");
    let controller = Arc::new(Controller {
        recorder: context.recorder(ACCOUNT, COMPONENT),
        claims: context.informers.of(),
        volumes: context.informers.of(),
    });
    let keys = queue.clone();
    controller.claims.on_change(move |change| {
        let Some(new) = &change.new else { return };
        let grew = change.old.as_ref().is_none_or(|old| requested(old) < requested(new));
        if grew && is_wanting(new) {
            keys.add(key_of(&new.metadata));
        }
    });
    let synced = controller.clone();
    let ready = async move {
        synced.claims.synced().await;
        synced.volumes.synced().await;
    };
    context.run(&queue, 1, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key) }
    });
}

/// A bound claim that asks for more than it has.
fn is_wanting(claim: &PersistentVolumeClaim) -> bool {
    let has = storage(claim.status.as_ref().and_then(|status| status.capacity.as_ref()));
    annotation(&claim.metadata.annotations, BIND_COMPLETED).is_some()
        && !has.is_zero()
        && requested(claim) > has
}

impl Controller {
    fn reconcile(&self, (namespace, name): &Key) -> ReconcileResult {
        let claim = self.claims.get(Some(namespace), name).filter(|claim| is_wanting(claim));
        let Some(claim) = claim else { return Ok(None) };
        let volume = self.volumes.get(None, volume_name(&claim));
        let is_csi = volume.and_then(|volume| volume.spec.clone()).is_some_and(|spec| spec.csi.is_some());
        let kind = if is_csi { EventType::Normal } else { EventType::Warning };
        let message = "waiting for an external controller to expand this PVC";
        self.recorder.event(&reference_to(&*claim), kind, "ExternalExpanding", message);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_wants_more_than_it_has() {
        let claim = |has: &str, wants: &str| -> PersistentVolumeClaim {
            serde_json::from_value(json!({
                "metadata": {"annotations": {BIND_COMPLETED: "yes"}},
                "spec": {"resources": {"requests": {"storage": wants}}}, "status": {"capacity": {"storage": has}},
            }))
            .unwrap()
        };
        assert!(is_wanting(&claim("1Gi", "2Gi")));
        assert!(!is_wanting(&claim("2Gi", "2Gi")));
        assert!(!is_wanting(&claim("3Gi", "2Gi")), "a volume may be larger than what was asked for");
    }
}
