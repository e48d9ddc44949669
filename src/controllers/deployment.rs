//! Rolls a deployment's pod template out over replica sets, one per template.
//!
//! Each pass takes one step (create the new set, scale one or several, clean up) and writes the status; the
//! changes it causes bring it back for the next. What to do is computed by the pure modules: `sets` (which
//! set is new, revisions), `scale` (sizes), `status` (counts and conditions); `rollout` does it.

use std::sync::Arc;

use api::{ApiError, Kinded, LabelMatcher};
use client::events::{EventType, Recorder, reference_to};
use client::{Api, Change, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::adoption::{claim_all, may_adopt};
use crate::context::{ControllerContext, Key, ReconcileResult, key_of, text};
use crate::owned::Owned;
use crate::selecting::{adopting, object_key, with_selector};

mod rollout;
mod scale;
mod sets;
mod status;

const ACCOUNT: &str = "deployment-controller";
const WORKERS: usize = 5;

struct Controller {
    api: Arc<dyn ObjectApi>,
    recorder: Recorder,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    sets_by_owner: Owned<ReplicaSet>,
    pods_by_owner: Owned<Pod>,
    queue: WorkQueue<Key>,
}

pub(crate) fn start(context: &ControllerContext) {
    let sets: Informer<ReplicaSet> = context.informers.of();
    let queue = WorkQueue::new("deployment");
    let controller = Arc::new(Controller {
        api: context.act_as(ACCOUNT),
        recorder: context.recorder(ACCOUNT, ACCOUNT),
        deployments: context.informers.of(),
        sets_by_owner: Owned::follow(&sets),
        pods_by_owner: context.pods_by_owner.clone(),
        sets,
        pods: context.informers.of(),
        queue: queue.clone(),
    });
    controller.watch();
    let synced = controller.clone();
    let ready = async move {
        synced.deployments.synced().await;
        synced.sets.synced().await;
        synced.pods.synced().await;
    };
    context.run(&queue, WORKERS, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

impl Controller {
    fn watch(self: &Arc<Self>) {
        let this = self.clone();
        self.deployments.on_change(move |change| this.queue.add(key_of(&change.latest().metadata)));
        let this = self.clone();
        self.sets.on_change(move |change| this.set_changed(change));
        let this = self.clone();
        self.pods.on_change(move |change| {
            // Recreate waits for the last old pod to go.
            if change.new.is_none() || api::pod::is_terminal(change.latest()) {
                this.pod_ended(change.latest());
            }
        });
    }

    fn set_changed(&self, change: &Change<ReplicaSet>) {
        let mut owned = false;
        for set in [&change.old, &change.new].into_iter().flatten() {
            if let Some(owner) = self.owner_of(&set.metadata) {
                self.queue.add(key_of(&owner.metadata));
            }
            owned |= api::owner::controller_of(&set.metadata).is_some();
        }
        if let (false, Some(set)) = (owned, &change.new) {
            let labels = set.metadata.labels.as_ref();
            let deployments = adopting(&self.deployments, set.metadata.namespace.as_deref(), labels);
            deployments.iter().for_each(|deployment| self.queue.add(object_key(deployment)));
        }
    }

    fn pod_ended(&self, pod: &Pod) {
        let owner =
            api::owner::controller_of(&pod.metadata).filter(|owner| owner.kind == ReplicaSet::row().kind);
        let set = owner.and_then(|owner| self.sets.get(pod.metadata.namespace.as_deref(), &owner.name));
        let deployment = set.and_then(|set| self.owner_of(&set.metadata));
        if let Some(deployment) = deployment.filter(|deployment| is_recreate(deployment)) {
            self.queue.add(key_of(&deployment.metadata));
        }
    }

    fn owner_of(&self, metadata: &ObjectMeta) -> Option<Arc<Deployment>> {
        let owner =
            api::owner::controller_of(metadata).filter(|owner| owner.kind == Deployment::row().kind)?;
        let deployment = self.deployments.get(metadata.namespace.as_deref(), &owner.name)?;
        (text(&deployment.metadata.uid) == owner.uid).then_some(deployment)
    }

    async fn reconcile(&self, key: &Key) -> ReconcileResult {
        let Some((deployment, selector)) = with_selector(&self.deployments, key) else { return Ok(None) };
        let Some(spec) = &deployment.spec else { return Ok(None) };
        if selector.is_everything() {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.event(&reference_to(&*deployment), EventType::Warning, "SelectingAll", message);
            return Ok(None);
        }
        let paused = spec.paused.unwrap_or(false);
        let sets = self.claim(&deployment, &selector).await?;
        let mut rollout = rollout::Rollout::new(self, (*deployment).clone(), sets);
        if deployment.metadata.deletion_timestamp.is_some() {
            return rollout.only_status().await;
        }
        rollout.tell_paused(paused).await?;
        if paused || rollout.was_scaled() {
            return rollout.scale_and_status(paused).await;
        }
        if is_recreate(&deployment) { rollout.recreate().await } else { rollout.roll().await }
    }

    async fn claim(
        &self,
        deployment: &Deployment,
        selector: &LabelMatcher,
    ) -> Result<Vec<Arc<ReplicaSet>>, ApiError> {
        let owner = api::owner::controller_reference(deployment);
        let namespace = text(&deployment.metadata.namespace);
        let mut candidates = self.sets_by_owner.by(&owner.uid);
        candidates.extend(self.sets_by_owner.orphans(namespace));
        let terminating = deployment.metadata.deletion_timestamp.is_some();
        let lives = || async {
            let deployments = Api::<Deployment>::namespaced(self.api.clone(), namespace);
            let live = deployments.find(text(&deployment.metadata.name)).await?;
            may_adopt("Deployment", live.as_ref().map(|live| &live.metadata), &deployment.metadata)
        };
        claim_all(&*self.api, candidates, &owner, selector, terminating, lives).await
    }
}
