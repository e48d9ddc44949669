//! The binder of persistent volumes: brings claims and volumes together, asks provisioners for what is not
//! there, and decides what becomes of volumes whose claims are gone.
//!
//! One worker looks at one object at a time, as upstream's does for each kind. What the informers show may be
//! old: every write carries the version that was decided on, so that of two claims which find the same volume
//! free one is refused and looks again. Before a volume is given up, its claim is read from the API. Absent:
//! metrics, volumes of plugins that were migrated to CSI, and recycling.

mod plan;

use std::sync::Arc;

use api::volumes::{
    BETA_STORAGE_PROVISIONER, BIND_COMPLETED, STORAGE_PROVISIONER, annotation, claim_names, class_of_claim,
    names_class, volume_name,
};
use api::{ApiError, Kinded};
use client::events::{EventType, Recorder, reference_to};
use client::{Api, Change, Informer, ObjectApi, WorkQueue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::context::{ControllerContext, Key, ReconcileResult, key_of, text, unless_gone};
use plan::{ClaimPlan, Reclaim, Storage, VolumeEvent, VolumePlan};

const ACCOUNT: &str = "persistent-volume-binder";
const COMPONENT: &str = "persistentvolume-controller";

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Claim(Key),
    Volume(String),
}

struct Controller {
    live: Arc<dyn ObjectApi>,
    recorder: Recorder,
    queue: WorkQueue<Work>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    pods: Informer<Pod>,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue = WorkQueue::new("persistent volume binder");
    let controller = Arc::new(Controller {
        live: context.act_as(ACCOUNT),
        recorder: context.recorder(ACCOUNT, COMPONENT),
        queue: queue.clone(),
        claims: context.informers.of(),
        volumes: context.informers.of(),
        classes: context.informers.of(),
        pods: context.informers.of(),
    });
    let handler = controller.clone();
    controller.claims.on_change(move |change| handler.claim_changed(change));
    let handler = controller.clone();
    controller.volumes.on_change(move |change| handler.volume_changed(change));
    let handler = controller.clone();
    controller.classes.on_change(move |change| {
        let name = text(&change.latest().metadata.name);
        handler.look_at_open_claims(|claim| !names_class(claim) || class_of_claim(claim) == name);
    });
    let synced = controller.clone();
    let ready = async move {
        synced.claims.synced().await;
        synced.volumes.synced().await;
        synced.classes.synced().await;
        synced.pods.synced().await;
    };
    context.run(&queue, 1, ready, move |work| {
        let controller = controller.clone();
        async move { controller.reconcile(&work).await }
    });
}

fn phase_of(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("")
}

impl Controller {
    fn claim_changed(&self, change: &Change<PersistentVolumeClaim>) {
        let claim = change.latest();
        self.queue.add(Work::Claim(key_of(&claim.metadata)));
        if change.new.is_none() && !volume_name(claim).is_empty() {
            self.queue.add(Work::Volume(volume_name(claim).to_string()));
        }
    }

    fn volume_changed(&self, change: &Change<PersistentVolume>) {
        let volume = change.latest();
        let name = text(&volume.metadata.name);
        self.queue.add(Work::Volume(name.to_string()));
        let named = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if let Some(named) = named {
            self.queue.add(Work::Claim((text(&named.namespace).to_string(), text(&named.name).to_string())));
        }
        if change.new.is_some() && named.is_some() {
            return;
        }
        // Nobody's now: it may be what others wait for, or what a claim has lost.
        let is_free = change.new.is_some() && phase_of(volume) == "Available";
        for claim in self.claims.list(None) {
            let concerns = match volume_name(&claim) {
                "" => is_free,
                wanted => wanted == name,
            };
            if concerns {
                self.queue.add(Work::Claim(key_of(&claim.metadata)));
            }
        }
    }

    /// Claims whose binding is not complete.
    fn look_at_open_claims(&self, is_meant: impl Fn(&PersistentVolumeClaim) -> bool) {
        for claim in self.claims.list(None) {
            if annotation(&claim.metadata.annotations, BIND_COMPLETED).is_none() && is_meant(&claim) {
                self.queue.add(Work::Claim(key_of(&claim.metadata)));
            }
        }
    }

    async fn reconcile(&self, work: &Work) -> ReconcileResult {
        match work {
            Work::Claim((namespace, name)) => {
                let Some(claim) = self.claims.get(Some(namespace), name) else { return Ok(None) };
                unless_gone(self.claim(&claim).await)?;
            }
            Work::Volume(name) => {
                let Some(volume) = self.volumes.get(None, name) else { return Ok(None) };
                unless_gone(self.volume(&volume).await)?;
            }
        }
        Ok(None)
    }

    fn tell<K: Kinded>(&self, object: &K, told: &VolumeEvent) {
        let kind = if told.is_warning { EventType::Warning } else { EventType::Normal };
        self.recorder.event(&reference_to(object), kind, told.reason, told.message.clone());
    }

    fn claims_of(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.live.clone(), text(&claim.metadata.namespace))
    }

    async fn claim(&self, claim: &PersistentVolumeClaim) -> Result<(), ApiError> {
        let storage = Storage { volumes: self.volumes.list(None), classes: self.classes.list(None) };
        match plan::claim(claim, &storage, &self.waiting_pods(claim)) {
            ClaimPlan::Bind(volume) => self.bind(claim, &volume).await,
            ClaimPlan::AssignClass(class) => {
                let mut classed = claim.clone();
                classed.spec.get_or_insert_default().storage_class_name = Some(class);
                self.claims_of(claim).update(&classed).await.map(drop)
            }
            ClaimPlan::Provision(provisioner) => self.ask(claim, &provisioner).await,
            ClaimPlan::Pending(told) => {
                told.iter().for_each(|told| self.tell(claim, told));
                self.tell_status(claim, "Pending", None).await.map(drop)
            }
            ClaimPlan::Lost(told) => {
                if self.tell_status(claim, "Lost", None).await? {
                    self.tell(claim, &told);
                }
                Ok(())
            }
            ClaimPlan::Tell(told) => {
                self.tell(claim, &told);
                Ok(())
            }
        }
    }

    /// Names of the pods without a node that use a claim.
    fn waiting_pods(&self, claim: &PersistentVolumeClaim) -> Vec<String> {
        if annotation(&claim.metadata.annotations, BIND_COMPLETED).is_some() {
            return Vec::new();
        }
        let name = text(&claim.metadata.name);
        let pods = self.pods.list(claim.metadata.namespace.as_deref());
        let waits = |pod: &&Arc<Pod>| {
            api::pod::node_name(pod).is_none()
                && !api::pod::is_terminal(pod)
                && claim_names(pod).any(|own| own == name)
        };
        pods.iter().filter(waits).map(|pod| text(&pod.metadata.name).to_string()).collect()
    }

    /// Four writes, each on the answer of the one before; those that are done already are left out.
    async fn bind(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), ApiError> {
        let volumes: Api<PersistentVolume> = Api::all(self.live.clone());
        let mut volume = Arc::new(volume.clone());
        if let Some(naming) = plan::naming_claim(&volume, claim) {
            volume = volumes.update(&naming).await?;
        }
        volume = self.set_phase(&volume, "Bound", "").await?;
        let mut claim = Arc::new(claim.clone());
        if let Some(naming) = plan::naming_volume(&claim, &volume) {
            claim = self.claims_of(&claim).update(&naming).await?;
        }
        self.tell_status(&claim, "Bound", Some(&volume)).await.map(drop)
    }

    /// Marks the claim for the provisioner that its class names.
    async fn ask(&self, claim: &PersistentVolumeClaim, provisioner: &str) -> Result<(), ApiError> {
        let mut asking = claim.clone();
        let annotations = asking.metadata.annotations.get_or_insert_default();
        for name in [BETA_STORAGE_PROVISIONER, STORAGE_PROVISIONER] {
            annotations.insert(name.to_string(), provisioner.to_string());
        }
        if asking != *claim {
            self.claims_of(claim).update(&asking).await?;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        );
        self.recorder.event(&reference_to(claim), EventType::Normal, "ExternalProvisioning", message);
        Ok(())
    }

    /// Whether that was news.
    async fn tell_status(
        &self,
        claim: &PersistentVolumeClaim,
        phase: &str,
        volume: Option<&PersistentVolume>,
    ) -> Result<bool, ApiError> {
        let told = plan::with_phase(claim, phase, volume);
        if told.status == claim.status {
            return Ok(false);
        }
        self.claims_of(claim).update_status(&told).await?;
        Ok(true)
    }

    async fn set_phase(
        &self,
        volume: &Arc<PersistentVolume>,
        phase: &str,
        message: &str,
    ) -> Result<Arc<PersistentVolume>, ApiError> {
        if phase_of(volume) == phase {
            return Ok(volume.clone());
        }
        let mut told = (**volume).clone();
        let status = told.status.get_or_insert_default();
        status.phase = Some(phase.to_string());
        status.message = (!message.is_empty()).then(|| message.to_string());
        Api::<PersistentVolume>::all(self.live.clone()).update_status(&told).await
    }

    async fn volume(&self, volume: &Arc<PersistentVolume>) -> Result<(), ApiError> {
        let claim = self.named_claim(volume).await?;
        match plan::volume(volume, claim.as_deref()) {
            VolumePlan::Available => self.set_phase(volume, "Available", "").await.map(drop),
            VolumePlan::Bound => self.set_phase(volume, "Bound", "").await.map(drop),
            VolumePlan::Reclaim(reclaim) => self.reclaim(volume, reclaim).await,
            VolumePlan::Unbind => {
                let free = plan::unbound(volume);
                let free = Api::<PersistentVolume>::all(self.live.clone()).update(&free).await?;
                self.set_phase(&free, "Available", "").await.map(drop)
            }
            VolumePlan::WaitForClaim => {
                if let Some(claim) = claim {
                    self.queue.add(Work::Claim(key_of(&claim.metadata)));
                }
                Ok(())
            }
            VolumePlan::Mismatch(to_claim, to_volume) => {
                self.tell(&**volume, &to_volume);
                if let Some(claim) = claim {
                    self.tell(&*claim, &to_claim);
                }
                Ok(())
            }
        }
    }

    /// The claim that a volume is bound to. That it is gone is believed only from the API itself.
    async fn named_claim(
        &self,
        volume: &PersistentVolume,
    ) -> Result<Option<Arc<PersistentVolumeClaim>>, ApiError> {
        let named = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let Some(named) = named.filter(|named| !text(&named.uid).is_empty()) else { return Ok(None) };
        let (namespace, name) = (text(&named.namespace), text(&named.name));
        let is_meant = |claim: &Arc<PersistentVolumeClaim>| claim.metadata.uid == named.uid;
        if let Some(claim) = self.claims.get(Some(namespace), name).filter(is_meant) {
            return Ok(Some(claim));
        }
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.live.clone(), namespace);
        Ok(claims.find(name).await?.filter(is_meant))
    }

    async fn reclaim(&self, volume: &Arc<PersistentVolume>, reclaim: Reclaim) -> Result<(), ApiError> {
        let is_over = matches!(phase_of(volume), "Released" | "Failed");
        let volume = if is_over { volume.clone() } else { self.set_phase(volume, "Released", "").await? };
        if let Reclaim::Fail(told) = reclaim
            && phase_of(&volume) != "Failed"
        {
            self.set_phase(&volume, "Failed", &told.message).await?;
            self.tell(&*volume, &told);
        }
        Ok(())
    }
}
