//! Tells for each disruption budget how many of its pods may be evicted now.
//!
//! `plan` calculates; this finds the pods and how many their controllers want. A budget that cannot be
//! calculated allows nothing. Marks of disruption on pods that are there all the same are taken back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Kinded, LabelMatcher, LabelSelector, Patch};
use client::events::{EventType, Recorder, reference_to};
use client::{Api, Change, Informer, ObjectApi, ObjectRef, ServedKinds, WorkQueue};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::context::{ControllerContext, Key, ReconcileResult, key_of, text, unless_gone};
use crate::selecting::{object_key, selecting, with_selector};
use plan::{disrupted, expected, fail_safe, needs_scale, status};

mod plan;

const ACCOUNT: &str = "disruption-controller";
const COMPONENT: &str = "controllermanager";

/// Characters of a selector that an event shows.
const TOLD_OF_SELECTOR: usize = 1024;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Budget(Key),
    /// A pod that was marked as disrupted.
    Marked(Key),
}

struct Controller {
    api: Arc<dyn ObjectApi>,
    recorder: Recorder,
    served: ServedKinds,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    sets: Informer<ReplicaSet>,
    deployments: Informer<Deployment>,
    queue: WorkQueue<Work>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("disruption");
    let controller = Arc::new(Controller {
        api: context.act_as(ACCOUNT),
        recorder: context.recorder(ACCOUNT, COMPONENT),
        served: context.served(),
        budgets: context.informers.of(),
        pods: context.informers.of(),
        sets: context.informers.of(),
        deployments: context.informers.of(),
        queue: queue.clone(),
    });
    let work = queue.clone();
    controller.budgets.on_change(move |change| work.add(Work::Budget(key_of(&change.latest().metadata))));
    let this = controller.clone();
    controller.pods.on_change(move |change| this.pod_changed(change));
    let synced = controller.clone();
    let ready = async move {
        synced.budgets.synced().await;
        synced.pods.synced().await;
        synced.sets.synced().await;
        synced.deployments.synced().await;
    };
    context.run(&queue, 1, ready, move |work| {
        let controller = controller.clone();
        async move { controller.reconcile(&work).await }
    });
}

/// The pods of a budget. A selector that is absent matches none, an empty one all of the namespace.
fn selector_of(budget: &PodDisruptionBudget) -> Option<LabelSelector> {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref())?;
    Some(LabelSelector::from_meta(Some(selector)))
}

impl Controller {
    fn pod_changed(&self, change: &Change<Pod>) {
        let namespace = change.latest().metadata.namespace.clone();
        let none = BTreeMap::new();
        let versions = [&change.old, &change.new].into_iter().flatten();
        let labels: Vec<_> = versions.map(|pod| pod.metadata.labels.as_ref().unwrap_or(&none)).collect();
        let budgets = selecting(&self.budgets, namespace.as_deref(), &labels);
        budgets.iter().for_each(|budget| self.queue.add(Work::Budget(object_key(budget))));
        if let Some(pod) = &change.new
            && let Some(left) = plan::stale_in(pod, Timestamp::now())
        {
            self.queue.add_after(Work::Marked(key_of(&pod.metadata)), left);
        }
    }

    async fn reconcile(&self, work: &Work) -> ReconcileResult {
        match work {
            Work::Marked(key) => self.unmark(key).await,
            Work::Budget(key) => {
                let Some((budget, selector)) = with_selector(&self.budgets, key) else { return Ok(None) };
                match self.calculate(&budget, &selector).await {
                    Ok((status, again)) => {
                        self.write(&budget, status).await?;
                        Ok(again)
                    }
                    Err(error) => {
                        self.write(&budget, fail_safe(&budget, &error, Timestamp::now())).await?;
                        Err(error)
                    }
                }
            }
        }
    }

    async fn calculate(
        &self,
        budget: &PodDisruptionBudget,
        selector: &LabelMatcher,
    ) -> Result<(PodDisruptionBudgetStatus, Option<Duration>), ApiError> {
        let mut pods = self.pods.objects(budget.metadata.namespace.as_deref());
        pods.retain(|pod| selector.matches(pod.labels()));
        let pods: Vec<Arc<Pod>> = pods.iter().filter_map(|pod| pod.typed().ok()).collect();
        if pods.is_empty() {
            self.tell(budget, EventType::Normal, "NoPods", "No matching pods found");
        }
        let spec = budget.spec.clone().unwrap_or_default();
        let scale = if needs_scale(&spec) { self.scale(budget, &pods).await? } else { 0 };
        let now = Timestamp::now();
        let disrupted = disrupted(budget, &pods, now);
        for pod in &disrupted.overdue {
            let namespace = text(&budget.metadata.namespace);
            let message = format!(
                "Pod was expected by PDB {namespace}/{} to be deleted but it wasn't",
                text(&budget.metadata.name)
            );
            self.recorder.event(&reference_to(&**pod), EventType::Warning, "NotDeleted", message);
        }
        let status = status(budget, &pods, expected(&spec, pods.len(), scale), &disrupted, now);
        Ok((status, disrupted.again))
    }

    fn tell(&self, budget: &PodDisruptionBudget, kind: EventType, reason: &str, message: &str) {
        self.recorder.event(&reference_to(budget), kind, reason, message);
    }

    /// The sum of the sizes of all controllers of these pods.
    async fn scale(&self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Result<i32, ApiError> {
        let mut sizes: BTreeMap<String, (String, i32)> = BTreeMap::new();
        let mut unmanaged = false;
        for pod in pods {
            let Some(owner) = api::owner::controller_of(&pod.metadata) else {
                unmanaged = true;
                continue;
            };
            if sizes.contains_key(&owner.uid) {
                continue;
            }
            let found = match self.size_of(owner, text(&pod.metadata.namespace)).await {
                Ok(Some(found)) => Ok(found),
                Ok(None) => {
                    let name = text(&pod.metadata.name);
                    Err(ApiError::internal(format!("found no controllers for pod {name:?}")))
                }
                Err(error) => Err(error),
            };
            let found = found.inspect_err(|error| {
                let message = format!("Failed to calculate the number of expected pods: {}", error.message());
                self.tell(budget, EventType::Warning, "CalculateExpectedPodCountFailed", &message);
            })?;
            sizes.insert(owner.uid.clone(), found);
        }
        if unmanaged {
            let selector = selector_of(budget).map(|selector| selector.to_string()).unwrap_or_default();
            let selector: String = selector.chars().take(TOLD_OF_SELECTOR).collect();
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As \
                 a result, the status of the PDB cannot be calculated correctly, which may result in undefined \
                 behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an \
                 integer value."
            );
            self.tell(budget, EventType::Warning, "UnmanagedPods", &message);
        }
        // Several replica sets may be of one deployment.
        let distinct: BTreeMap<String, i32> = sizes.into_values().collect();
        Ok(distinct.values().fold(0_i32, |sum, size| sum.saturating_add(*size)))
    }

    /// The uid and size of a pod's controller: the deployment of a replica set that has one, else what the
    /// controller's scale says. None if it is gone.
    async fn size_of(
        &self,
        owner: &OwnerReference,
        namespace: &str,
    ) -> Result<Option<(String, i32)>, ApiError> {
        let row = ReplicaSet::row();
        if owner.kind == row.kind && owner.api_version == row.api_version() {
            let set = self.sets.get(Some(namespace), &owner.name);
            let Some(set) = set.filter(|set| text(&set.metadata.uid) == owner.uid) else { return Ok(None) };
            let parent =
                api::owner::controller_of(&set.metadata).filter(|parent| parent.kind == "Deployment");
            let Some(parent) = parent else {
                let size = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
                return Ok(Some((owner.uid.clone(), size)));
            };
            let deployment = self.deployments.get(Some(namespace), &parent.name);
            let size = |deployment: Arc<Deployment>| {
                deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
            };
            return Ok(deployment
                .filter(|deployment| text(&deployment.metadata.uid) == parent.uid)
                .map(|deployment| (parent.uid.clone(), size(deployment))));
        }
        let served = self.served.borrow().clone();
        let Some(row) = served.by_kind(&owner.api_version, &owner.kind) else { return Ok(None) };
        if !row.subresources.iter().any(|part| part.name == "scale") {
            let group = if row.group.is_empty() { String::new() } else { format!(".{}", row.group) };
            let why = format!("{}{group} does not implement the scale subresource", row.plural);
            return Err(ApiError::internal(why));
        }
        let at = ObjectRef::new(Some(namespace), &owner.name).sub("scale");
        let scale = match self.api.get(row, at).await {
            Err(error) if error.is_not_found() => return Ok(None),
            scale => scale?,
        };
        if scale.uid() != owner.uid {
            return Ok(None);
        }
        let tree = scale.tree().map_err(ApiError::internal)?;
        let size = tree.pointer("/spec/replicas").and_then(serde_json::Value::as_i64).unwrap_or(0);
        Ok(Some((owner.uid.clone(), i32::try_from(size).unwrap_or(i32::MAX))))
    }

    async fn write(
        &self,
        budget: &PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> Result<(), ApiError> {
        if budget.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let budgets =
            Api::<PodDisruptionBudget>::namespaced(self.api.clone(), text(&budget.metadata.namespace));
        // A conflict is an eviction that was allowed meanwhile: what it noted must not be lost.
        let told = PodDisruptionBudget { status: Some(status), ..budget.clone() };
        unless_gone(budgets.update_status(&told).await)
    }

    /// Takes back the mark of a pod that was not deleted after all.
    async fn unmark(&self, key: &Key) -> ReconcileResult {
        let Some(pod) = self.pods.get(Some(&key.0), &key.1) else { return Ok(None) };
        let now = Timestamp::now();
        match plan::stale_in(&pod, now) {
            Some(left) if left.is_zero() => {}
            later => return Ok(later),
        }
        let body = json!({
            "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
            "status": {"conditions": plan::unmarked(&pod, now)},
        });
        let pods = Api::<Pod>::namespaced(self.api.clone(), &key.0);
        unless_gone(pods.patch_status(&key.1, Patch::merge(body)).await)?;
        Ok(None)
    }
}
