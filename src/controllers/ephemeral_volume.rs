//! Makes the claims of generic ephemeral volumes. A claim belongs to its pod, so that the garbage collector
//! takes it away with the pod.

use std::collections::HashSet;
use std::sync::Arc;

use api::ApiError;
use api::owner::controller_reference;
use api::volumes::{NotMadeForPod, check_made_for, claim_name, claim_names};
use client::events::{EventType, Recorder, reference_to};
use client::{Api, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::context::{ControllerContext, Key, ReconcileResult, key_of, text};

const ACCOUNT: &str = "ephemeral-volume-controller";
const COMPONENT: &str = "ephemeral_volume";

struct Controller {
    live: Arc<dyn ObjectApi>,
    recorder: Recorder,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue: WorkQueue<Key> = WorkQueue::new("ephemeral volume");
    let controller = Arc::new(Controller {
        live: context.act_as(ACCOUNT),
        recorder: context.recorder(ACCOUNT, COMPONENT),
        pods: context.informers.of(),
        claims: context.informers.of(),
    });
    let keys = queue.clone();
    controller.pods.on_change(move |change| {
        if change.new.as_ref().is_some_and(|pod| !api::pod::is_terminating(pod) && ephemeral(pod).count() > 0)
        {
            keys.add(key_of(&change.latest().metadata));
        }
    });
    let (keys, pods) = (queue.clone(), controller.pods.clone());
    controller.claims.on_change(move |change| {
        if change.new.is_some() {
            return;
        }
        let (namespace, name) = key_of(&change.latest().metadata);
        for pod in pods.list(Some(&namespace)) {
            if claim_names(&pod).any(|claim| claim == name) {
                keys.add(key_of(&pod.metadata));
            }
        }
    });
    let synced = controller.clone();
    let ready = async move {
        synced.pods.synced().await;
        synced.claims.synced().await;
    };
    context.run(&queue, 1, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// Volumes whose claims are made for the pod.
fn ephemeral(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter(|volume| volume.ephemeral.is_some())
}

/// The claim as it is made for a pod's volume.
fn wanted(pod: &Pod, volume: &Volume) -> Option<PersistentVolumeClaim> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    let meta = template.metadata.clone().unwrap_or_default();
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: claim_name(pod, volume),
            namespace: pod.metadata.namespace.clone(),
            owner_references: Some(vec![controller_reference(pod)]),
            annotations: meta.annotations,
            labels: meta.labels,
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    })
}

/// Why a pod has no claim for a volume of its own.
#[derive(Debug, thiserror::Error)]
enum EnsureError {
    #[error(transparent)]
    NotMade(#[from] NotMadeForPod),
    #[error("create PVC {name}: {source}")]
    Create { name: String, source: ApiError },
}

impl From<EnsureError> for ApiError {
    fn from(error: EnsureError) -> Self {
        match error {
            EnsureError::NotMade(error) => ApiError::internal(error),
            EnsureError::Create { source, .. } => source,
        }
    }
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> ReconcileResult {
        let Some(pod) = self.pods.get(Some(&key.0), &key.1) else { return Ok(None) };
        if api::pod::is_terminating(&pod) {
            return Ok(None);
        }
        // Names of claims are joined from two names, so two volumes of a pod could mean the same one.
        let mut made = HashSet::new();
        for volume in ephemeral(&pod) {
            if !made.insert(claim_name(&pod, volume)) {
                continue;
            }
            if let Err(why) = self.ensure(&pod, volume).await {
                let message = format!("ephemeral volume {}: {why}", volume.name);
                let regarding = reference_to(&*pod);
                self.recorder.event(&regarding, EventType::Warning, "FailedBinding", message);
                return Err(why.into());
            }
        }
        Ok(None)
    }

    async fn ensure(&self, pod: &Pod, volume: &Volume) -> Result<(), EnsureError> {
        let Some(claim) = wanted(pod, volume) else { return Ok(()) };
        let name = text(&claim.metadata.name);
        if let Some(there) = self.claims.get(pod.metadata.namespace.as_deref(), name) {
            return Ok(check_made_for(pod, &there)?);
        }
        let claims = Api::namespaced(self.live.clone(), text(&pod.metadata.namespace));
        let created = claims.create(&claim).await.map(drop);
        created.map_err(|source| EnsureError::Create { name: name.to_string(), source })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_belongs_to_its_pod() {
        let template = json!({
            "metadata": {"labels": {"a": "b"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [], "volumes": [
                {"name": "v", "ephemeral": {"volumeClaimTemplate": template}}, {"name": "e", "emptyDir": {}},
            ]},
        }))
        .unwrap();
        let claims: Vec<_> = ephemeral(&pod).filter_map(|volume| wanted(&pod, volume)).collect();
        let [claim] = claims.as_slice() else { panic!("{claims:?}") };
        assert_eq!(claim.metadata.name.as_deref(), Some("p-v"));
        assert_eq!(claim.metadata.labels.as_ref().unwrap()["a"], "b");
        assert_eq!(check_made_for(&pod, claim), Ok(()));
    }
}
