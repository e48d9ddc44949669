//! Keeps the pods of a stateful set: each with a name, an ordinal and volume claims of its own.
//!
//! `identity` and `claims` say what a pod of the set is, `revisions` between which templates it moves, `plan`
//! what comes next; `carry_out` does it. Every step is idempotent (names are given, deletions and updates
//! carry uid or version), so informers that lag make nothing twice and controllers that stop leave nothing
//! half done.

use std::collections::HashSet;
use std::sync::Arc;

use api::{ApiError, Kinded, LabelMatcher};
use client::events::Recorder;
use client::{Api, Change, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use crate::adoption::{claim_all, may_adopt};
use crate::context::{ControllerContext, Key, ReconcileResult, key_of, text};
use crate::owned::Owned;
use crate::selecting::{adopting, object_key, with_selector};
use crate::{availability, history, status_write};
use plan::{StatefulSetView, plan};
use revisions::Update;

mod carry_out;
mod claims;
mod identity;
mod plan;
mod revisions;

const ACCOUNT: &str = "statefulset-controller";
const WORKERS: usize = 5;

struct Controller {
    api: Arc<dyn ObjectApi>,
    recorder: Recorder,
    sets: Informer<StatefulSet>,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    revisions: Informer<ControllerRevision>,
    pods_by_owner: Owned<Pod>,
    revisions_by_owner: Owned<ControllerRevision>,
    queue: WorkQueue<Key>,
}

pub(crate) fn start(context: &ControllerContext) {
    let revisions: Informer<ControllerRevision> = context.informers.of();
    let queue = WorkQueue::new("statefulset");
    let controller = Arc::new(Controller {
        api: context.act_as(ACCOUNT),
        recorder: context.recorder(ACCOUNT, ACCOUNT),
        sets: context.informers.of(),
        claims: context.informers.of(),
        pods_by_owner: context.pods_by_owner.clone(),
        revisions_by_owner: Owned::follow(&revisions),
        pods: context.informers.of(),
        revisions,
        queue: queue.clone(),
    });
    controller.watch();
    let synced = controller.clone();
    let ready = async move {
        synced.sets.synced().await;
        synced.pods.synced().await;
        synced.claims.synced().await;
        synced.revisions.synced().await;
    };
    context.run(&queue, WORKERS, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

fn name_of(set: &StatefulSet) -> &str {
    text(&set.metadata.name)
}

fn replicas(set: &StatefulSet) -> usize {
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    usize::try_from(replicas).unwrap_or(0)
}

fn min_ready_seconds(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

impl Controller {
    fn watch(self: &Arc<Self>) {
        let this = self.clone();
        self.sets.on_change(move |change| this.queue.add(key_of(&change.latest().metadata)));
        let this = self.clone();
        self.pods.on_change(move |change| this.pod_changed(change));
        let this = self.clone();
        // A claim that goes may be what a pod waits for; one that comes gets its owners.
        self.claims.on_object_change(move |change| {
            if change.old.is_none() || change.new.is_none() {
                let namespace = change.latest().namespace();
                let has_claims = |set: &Arc<StatefulSet>| !claims::templates(set).is_empty();
                for set in this.sets.list(namespace).into_iter().filter(has_claims) {
                    this.queue.add(key_of(&set.metadata));
                }
            }
        });
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let mut owned = false;
        for pod in [&change.old, &change.new].into_iter().flatten() {
            owned |= api::owner::controller_of(&pod.metadata).is_some();
            if let Some(set) = self.owner_of(&pod.metadata) {
                self.queue.add(key_of(&set.metadata));
            }
        }
        let Some(pod) = change.new.as_ref().filter(|_| !owned) else { return };
        let labels = pod.metadata.labels.as_ref();
        for set in adopting(&self.sets, pod.metadata.namespace.as_deref(), labels) {
            if set.typed::<StatefulSet>().is_ok_and(|set| identity::is_member(&set, pod)) {
                self.queue.add(object_key(&set));
            }
        }
    }

    fn owner_of(&self, metadata: &ObjectMeta) -> Option<Arc<StatefulSet>> {
        let owner =
            api::owner::controller_of(metadata).filter(|owner| owner.kind == StatefulSet::row().kind)?;
        let set = self.sets.get(metadata.namespace.as_deref(), &owner.name)?;
        (text(&set.metadata.uid) == owner.uid).then_some(set)
    }

    async fn reconcile(&self, key: &Key) -> ReconcileResult {
        let Some((set, selector)) = with_selector(&self.sets, key) else { return Ok(None) };
        let mut revisions = self.claim_revisions(&set, &selector).await?;
        history::sort(&mut revisions);
        let pods = self.claim_pods(&set, &selector).await?;
        let mut collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let update = self.update_revision(&set, &revisions, &mut collisions).await?;
        let current = revisions::current(&set, &revisions, &update);
        let now = Timestamp::now();
        let plan = plan(&StatefulSetView {
            set: &set,
            pods: &pods,
            current: &revisions::brief(&set, &current),
            update: &revisions::brief(&set, &update),
            collisions,
            claims: &self.claims_of(&set, &pods),
            now,
        });
        let outcome = self.carry_out(&set, &plan).await;
        self.write_status(&set, &plan.status).await?;
        outcome?;
        let live = [text(&current.metadata.name), text(&update.metadata.name)];
        let history = Api::<ControllerRevision>::namespaced(self.api.clone(), &key.0);
        for revision in revisions::superfluous(&set, &revisions, &pods, live) {
            history::delete(&history, &revision).await?;
        }
        Ok(availability::next(pods.iter(), min_ready_seconds(&set), now))
    }

    async fn claim_pods(
        &self,
        set: &StatefulSet,
        selector: &LabelMatcher,
    ) -> Result<Vec<Arc<Pod>>, ApiError> {
        let mut candidates = self.pods_by_owner.by(text(&set.metadata.uid));
        let orphans = self.pods_by_owner.orphans(text(&set.metadata.namespace));
        candidates.extend(orphans.into_iter().filter(|pod| identity::is_member(set, pod)));
        let pods = self.claim(set, selector, candidates).await?;
        Ok(pods.into_iter().filter(|pod| identity::is_member(set, pod)).collect())
    }

    async fn claim_revisions(
        &self,
        set: &StatefulSet,
        selector: &LabelMatcher,
    ) -> Result<Vec<Arc<ControllerRevision>>, ApiError> {
        let mut candidates = self.revisions_by_owner.by(text(&set.metadata.uid));
        candidates.extend(self.revisions_by_owner.orphans(text(&set.metadata.namespace)));
        self.claim(set, selector, candidates).await
    }

    async fn claim<K: Kinded>(
        &self,
        set: &StatefulSet,
        selector: &LabelMatcher,
        candidates: Vec<Arc<K>>,
    ) -> Result<Vec<Arc<K>>, ApiError> {
        let owner = api::owner::controller_reference(set);
        let terminating = set.metadata.deletion_timestamp.is_some();
        let lives = || async {
            let sets = Api::<StatefulSet>::namespaced(self.api.clone(), text(&set.metadata.namespace));
            let live = sets.find(name_of(set)).await?;
            may_adopt("StatefulSet", live.as_ref().map(|live| &live.metadata), &set.metadata)
        };
        claim_all(&*self.api, candidates, &owner, selector, terminating, lives).await
    }

    /// The claims that are there of the set's pods, those not made yet included.
    fn claims_of(&self, set: &StatefulSet, pods: &[Arc<Pod>]) -> claims::Claims {
        if claims::templates(set).is_empty() {
            return claims::Claims::new();
        }
        let start = identity::start(set);
        let length = i32::try_from(replicas(set)).unwrap_or(i32::MAX);
        let wanted = start..start.saturating_add(length);
        let others: HashSet<i32> = pods.iter().filter_map(|pod| identity::ordinal(pod)).collect();
        let prefixes = claims::prefixes(set);
        let is_ours = |name: &str| {
            let (prefix, text) = name.rsplit_once('-').unwrap_or_default();
            // Written otherwise, as in `+1` or `01`, it is another's name.
            let ordinal = text.parse::<i32>().ok().filter(|ordinal| ordinal.to_string() == text);
            prefixes.contains(prefix)
                && ordinal.is_some_and(|ordinal| wanted.contains(&ordinal) || others.contains(&ordinal))
        };
        let namespace = set.metadata.namespace.as_deref();
        let there = self.claims.objects(namespace).into_iter().filter(|claim| is_ours(claim.name()));
        there.filter_map(|claim| claim.typed().ok().map(|typed| (claim.name().to_string(), typed))).collect()
    }

    /// Finds or makes the revision of the set's template.
    async fn update_revision(
        &self,
        set: &StatefulSet,
        revisions: &[Arc<ControllerRevision>],
        collisions: &mut i32,
    ) -> Result<Arc<ControllerRevision>, ApiError> {
        let api = Api::<ControllerRevision>::namespaced(self.api.clone(), text(&set.metadata.namespace));
        let number = match revisions::update(set, revisions) {
            Update::Newest(revision) => return Ok(revision),
            Update::Again(revision, number) => return history::renumber(&api, &revision, number).await,
            Update::New(number) => number,
        };
        loop {
            let new = revisions::new(set, number, *collisions)?;
            match api.create(&new).await {
                Err(error) if error.is_already_exists() => {
                    let existing = api.get(text(&new.metadata.name)).await?;
                    let ours = api::owner::is_controlled_by(&existing.metadata, text(&set.metadata.uid));
                    let template = history::template_of(&new).unwrap_or_default();
                    if ours && history::restores(&existing, &template) {
                        return Ok(existing);
                    }
                    *collisions = collisions.saturating_add(1);
                }
                outcome => return outcome,
            }
        }
    }

    async fn write_status(&self, set: &Arc<StatefulSet>, status: &StatefulSetStatus) -> Result<(), ApiError> {
        let api = Api::<StatefulSet>::namespaced(self.api.clone(), text(&set.metadata.namespace));
        status_write::write(&api, set, |set| StatefulSet { status: Some(status.clone()), ..set.clone() })
            .await
    }
}
