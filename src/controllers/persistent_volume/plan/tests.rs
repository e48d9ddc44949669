//! Tests of the binder's decisions, and of its rules over random histories.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn claim_of(name: &str, spec: Value, annotations: Value) -> PersistentVolumeClaim {
    let mut full = json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        full[key] = value.clone();
    }
    let metadata =
        json!({"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "annotations": annotations});
    serde_json::from_value(json!({"metadata": metadata, "spec": full, "status": {"phase": "Pending"}}))
        .unwrap()
}

fn volume_of(name: &str, phase: &str, spec: Value, annotations: Value) -> Arc<PersistentVolume> {
    let mut full = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        full[key] = value.clone();
    }
    let metadata = json!({"name": name, "uid": format!("uid-{name}"), "annotations": annotations});
    let tree = json!({"metadata": metadata, "spec": full, "status": {"phase": phase}});
    Arc::new(serde_json::from_value(tree).unwrap())
}

fn class_of(name: &str, mode: &str, provisioner: &str, is_default: bool) -> Arc<StorageClass> {
    let mark = json!({"storageclass.kubernetes.io/is-default-class": is_default.to_string()});
    let tree = json!({
        "metadata": {"name": name, "annotations": mark}, "provisioner": provisioner, "volumeBindingMode": mode,
    });
    Arc::new(serde_json::from_value(tree).unwrap())
}

fn storage(volumes: &[Arc<PersistentVolume>], classes: &[Arc<StorageClass>]) -> Storage {
    Storage { volumes: volumes.to_vec(), classes: classes.to_vec() }
}

fn said(plan: &ClaimPlan) -> String {
    match plan {
        ClaimPlan::Pending(Some(told)) | ClaimPlan::Lost(told) | ClaimPlan::Tell(told) => {
            format!("{} {}", told.reason, told.message)
        }
        other => format!("{other:?}"),
    }
}

fn bound_to(claim: &str) -> Value {
    json!({"claimRef": {"name": claim, "namespace": "ns", "uid": format!("uid-{claim}")}})
}

#[test]
fn a_claim_without_a_volume_is_told_why_it_waits() {
    let none = json!({});
    let plain = claim_of("data", none.clone(), none.clone());
    assert_eq!(
        said(&claim(&plain, &storage(&[], &[]), &[])),
        "FailedBinding no persistent volumes available for this claim and no storage class is set"
    );
    let local = class_of("local", "WaitForFirstConsumer", "rancher.io/local-path", false);
    let classy = claim_of("data", json!({"storageClassName": "local"}), none.clone());
    let with = storage(&[], std::slice::from_ref(&local));
    assert_eq!(
        said(&claim(&classy, &with, &[])),
        "WaitForFirstConsumer waiting for first consumer to be created before binding"
    );
    assert_eq!(
        said(&claim(&classy, &with, &["a".into()])),
        "WaitForPodScheduled waiting for pod a to be scheduled"
    );
    assert_eq!(
        said(&claim(&classy, &with, &["a".into(), "b".into()])),
        "WaitForPodScheduled waiting for pods a,b to be scheduled"
    );
    let placed = claim_of("data", json!({"storageClassName": "local"}), json!({SELECTED_NODE: "one"}));
    assert_eq!(claim(&placed, &with, &[]), ClaimPlan::Provision("rancher.io/local-path".into()));
    let missing = claim_of("data", json!({"storageClassName": "fast"}), none.clone());
    assert_eq!(
        said(&claim(&missing, &with, &[])),
        "ProvisioningFailed storageclass.storage.k8s.io \"fast\" not found"
    );
    let by_hand = class_of("fast", "Immediate", "kubernetes.io/no-provisioner", false);
    assert_eq!(
        said(&claim(&missing, &storage(&[], &[by_hand]), &[])),
        "ProvisioningFailed no volume plugin matched name: kubernetes.io/no-provisioner"
    );
}

#[test]
fn a_claim_that_names_no_class_gets_the_default_one_later_too() {
    let unnamed = claim_of("data", json!({"storageClassName": null}), json!({}));
    let classes = [class_of("other", "Immediate", "x", false), class_of("local", "Immediate", "y", true)];
    assert_eq!(claim(&unnamed, &storage(&[], &classes), &[]), ClaimPlan::AssignClass("local".into()));
    let none = claim_of("data", json!({"storageClassName": ""}), json!({}));
    assert!(said(&claim(&none, &storage(&[], &classes), &[])).starts_with("FailedBinding"));
}

#[test]
fn a_claim_that_names_its_volume_gets_that_or_none() {
    let none = json!({});
    let wanting = claim_of("data", json!({"volumeName": "disk"}), none.clone());
    let disk = volume_of("disk", "Available", none.clone(), none.clone());
    assert_eq!(claim(&wanting, &storage(std::slice::from_ref(&disk), &[]), &[]), ClaimPlan::Bind(disk));
    assert_eq!(claim(&wanting, &storage(&[], &[]), &[]), ClaimPlan::Pending(None));
    for (spec, why) in [
        (json!({"capacity": {"storage": "1Mi"}}), "requested PV is too small"),
        (json!({"storageClassName": "fast"}), "storageClassName does not match"),
        (json!({"volumeMode": "Block"}), "incompatible volumeMode"),
        (json!({"accessModes": ["ReadOnlyMany"]}), "incompatible accessMode"),
    ] {
        let disk = volume_of("disk", "Available", spec, none.clone());
        let told = said(&claim(&wanting, &storage(&[disk], &[]), &[]));
        assert_eq!(told, format!("VolumeMismatch Cannot bind to requested volume \"disk\": {why}"));
    }
    let taken = volume_of("disk", "Bound", bound_to("other"), none);
    assert_eq!(
        said(&claim(&wanting, &storage(&[taken], &[]), &[])),
        "FailedBinding volume \"disk\" already bound to a different claim."
    );
}

#[test]
fn a_claim_that_was_bound_is_lost_with_its_volume() {
    let done = json!({BIND_COMPLETED: "yes"});
    let bound = claim_of("data", json!({"volumeName": "disk"}), done);
    assert_eq!(
        said(&claim(&bound, &storage(&[], &[]), &[])),
        "ClaimLost Bound claim has lost its PersistentVolume. Data on the volume is lost!"
    );
    let taken = volume_of("disk", "Bound", bound_to("other"), json!({}));
    assert_eq!(
        said(&claim(&bound, &storage(&[taken], &[]), &[])),
        "ClaimMisbound Two claims are bound to the same volume, this one is bound incorrectly"
    );
    let unnamed = volume_of("disk", "Available", json!({}), json!({}));
    assert!(matches!(claim(&bound, &storage(&[unnamed], &[]), &[]), ClaimPlan::Bind(_)), "it is repaired");
}

#[test]
fn what_becomes_of_a_released_volume_is_its_policy() {
    let cases = [
        ("Retain", json!({}), Reclaim::Keep),
        ("Delete", json!({PROVISIONED_BY: "rancher.io/local-path"}), Reclaim::ByProvisioner),
        (
            "Recycle",
            json!({}),
            Reclaim::Fail(VolumeEvent::warning(
                "VolumeFailedRecycle",
                "No recycler plugin found for the volume!",
            )),
        ),
        (
            "Delete",
            json!({}),
            Reclaim::Fail(VolumeEvent::warning(
                "VolumeFailedDelete",
                "error getting deleter volume plugin for volume \"disk\": no deletable volume plugin matched",
            )),
        ),
    ];
    for (policy, annotations, wanted) in cases {
        let mut spec = bound_to("data");
        spec["persistentVolumeReclaimPolicy"] = json!(policy);
        let disk = volume_of("disk", "Bound", spec, annotations);
        assert_eq!(volume(&disk, None), VolumePlan::Reclaim(wanted), "{policy}");
        let mine = claim_of("data", json!({"volumeName": "disk"}), json!({}));
        assert_eq!(volume(&disk, Some(&mine)), VolumePlan::Bound, "{policy}");
        let mut other = mine.clone();
        other.metadata.uid = Some("another".to_string());
        assert!(matches!(volume(&disk, Some(&other)), VolumePlan::Reclaim(_)), "{policy}");
    }
}

#[test]
fn a_volume_follows_its_claim() {
    let (none, by_us) = (json!({}), json!({BOUND_BY_CONTROLLER: "yes"}));
    let free = volume_of("disk", "Pending", none.clone(), none.clone());
    assert_eq!(volume(&free, None), VolumePlan::Available);
    let meant = json!({"claimRef": {"name": "data", "namespace": "ns"}});
    let meant = volume_of("disk", "Pending", meant, none.clone());
    assert_eq!(volume(&meant, None), VolumePlan::Available);
    let disk = volume_of("disk", "Bound", bound_to("data"), by_us);
    let elsewhere = claim_of("data", json!({"volumeName": "other"}), none.clone());
    assert_eq!(volume(&disk, Some(&elsewhere)), VolumePlan::Unbind);
    let free = unbound(&disk);
    assert_eq!(free.spec.as_ref().unwrap().claim_ref, None);
    assert_eq!(volume(&disk, Some(&claim_of("data", none.clone(), none.clone()))), VolumePlan::WaitForClaim);
    let by_user = volume_of("disk", "Bound", bound_to("data"), none.clone());
    let kept = unbound(&by_user).spec.unwrap().claim_ref.unwrap();
    assert_eq!((kept.name.as_deref(), kept.uid), (Some("data"), None), "it stays meant for the claim");
    let block = claim_of("data", json!({"volumeMode": "Block"}), none);
    assert!(matches!(volume(&disk, Some(&block)), VolumePlan::Mismatch(..)));
}

/// A small API: objects with versions, where a write on an old version is refused.
#[derive(Default)]
struct World {
    version: u64,
    claims: BTreeMap<String, PersistentVolumeClaim>,
    volumes: BTreeMap<String, PersistentVolume>,
}

impl World {
    fn put_volume(&mut self, mut volume: PersistentVolume) -> Option<PersistentVolume> {
        let name = volume.metadata.name.clone().unwrap();
        let known = self.volumes.get(&name)?;
        if known.metadata.resource_version != volume.metadata.resource_version {
            return None;
        }
        self.version += 1;
        volume.metadata.resource_version = Some(self.version.to_string());
        self.volumes.insert(name, volume.clone());
        Some(volume)
    }

    fn put_claim(&mut self, mut claim: PersistentVolumeClaim) -> Option<PersistentVolumeClaim> {
        let name = claim.metadata.name.clone().unwrap();
        let known = self.claims.get(&name)?;
        if known.metadata.resource_version != claim.metadata.resource_version {
            return None;
        }
        self.version += 1;
        claim.metadata.resource_version = Some(self.version.to_string());
        self.claims.insert(name, claim.clone());
        Some(claim)
    }

    fn view(&self) -> Storage {
        Storage { volumes: self.volumes.values().cloned().map(Arc::new).collect(), classes: Vec::new() }
    }

    /// Looks at a claim as the controller did at `view`, and dies after `writes`.
    fn sync_claim(
        &mut self,
        subject: &PersistentVolumeClaim,
        view: &Storage,
        mut writes: usize,
    ) -> Option<()> {
        let ClaimPlan::Bind(volume) = claim(subject, view, &[]) else { return None };
        let mut may_write = || {
            let may = writes > 0;
            writes = writes.saturating_sub(1);
            may.then_some(())
        };
        let mut volume = (*volume).clone();
        if let Some(naming) = naming_claim(&volume, subject) {
            may_write()?;
            volume = self.put_volume(naming)?;
        }
        if volume.status.as_ref().unwrap().phase.as_deref() != Some("Bound") {
            may_write()?;
            volume.status.as_mut().unwrap().phase = Some("Bound".to_string());
            volume = self.put_volume(volume)?;
        }
        let mut subject = subject.clone();
        if let Some(naming) = naming_volume(&subject, &volume) {
            may_write()?;
            subject = self.put_claim(naming)?;
        }
        let told = with_phase(&subject, "Bound", Some(&volume));
        if told.status != subject.status {
            may_write()?;
            self.put_claim(told)?;
        }
        Some(())
    }

    fn sync_volume(&mut self, subject: &PersistentVolume) {
        let named = subject.spec.as_ref().and_then(|spec| spec.claim_ref.clone());
        let claim = named.and_then(|named| self.claims.get(&named.name?).cloned());
        let phase = match volume(subject, claim.as_ref()) {
            VolumePlan::Available => "Available",
            VolumePlan::Bound => "Bound",
            VolumePlan::Reclaim(_) => "Released",
            VolumePlan::Unbind => {
                self.put_volume(unbound(subject));
                return;
            }
            VolumePlan::WaitForClaim | VolumePlan::Mismatch(..) => return,
        };
        let mut told = subject.clone();
        told.status.as_mut().unwrap().phase = Some(phase.to_string());
        if told != *subject {
            self.put_volume(told);
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, claim) in &self.claims {
            if claim.status.as_ref().unwrap().phase.as_deref() != Some("Bound") {
                continue;
            }
            let volume = volume_name(claim);
            prop_assert!(owners.insert(volume, name).is_none(), "two claims on {volume}");
            let named = self.volumes[volume].spec.as_ref().unwrap().claim_ref.clone().unwrap();
            prop_assert_eq!(named.uid, claim.metadata.uid.clone(), "{} names another claim", volume);
            let phase = self.volumes[volume].status.as_ref().unwrap().phase.as_deref();
            prop_assert_ne!(phase, Some("Released"), "{} is given up while it is in use", volume);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// With any order of looks, at old copies of volumes, with a controller that dies after any write: never
    /// two claims on one volume, nothing in use is given up, and in the end everybody has what there is.
    #[test]
    fn a_volume_has_one_claim(steps in proptest::collection::vec((0usize..5, 0usize..5, 0usize..4, 0usize..5), 0..60)) {
        let mut world = World::default();
        for at in 0..4 {
            let (claim, volume) = (format!("c{at}"), format!("v{at}"));
            world.claims.insert(claim.clone(), claim_of(&claim, json!({}), json!({})));
            let spec = if at == 0 { json!({"claimRef": {"name": "c1", "namespace": "ns"}}) } else { json!({}) };
            if at < 3 {
                world.volumes.insert(volume.clone(), (*volume_of(&volume, "Available", spec, json!({}))).clone());
            }
        }
        let mut old = world.view();
        let mut gone = 0;
        for (subject, kind, age, writes) in steps {
            if age == 0 {
                old = world.view();
            }
            match kind {
                0..=2 => {
                    if let Some(claim) = world.claims.get(&format!("c{subject}")).cloned() {
                        world.sync_claim(&claim, &old, writes);
                    }
                }
                3 => {
                    if let Some(volume) = world.volumes.get(&format!("v{subject}")).cloned() {
                        world.sync_volume(&volume);
                    }
                }
                _ if gone == 0 && subject < 4 => {
                    gone += 1;
                    world.claims.remove(&format!("c{subject}"));
                }
                _ => {}
            }
            world.check()?;
        }
        for _ in 0..6 {
            for name in world.volumes.keys().cloned().collect::<Vec<_>>() {
                let volume = world.volumes[&name].clone();
                world.sync_volume(&volume);
            }
            for name in world.claims.keys().cloned().collect::<Vec<_>>() {
                let claim = world.claims[&name].clone();
                world.sync_claim(&claim, &world.view(), 9);
            }
            world.check()?;
        }
        let free = world.volumes.values().filter(|volume| volume.spec.as_ref().unwrap().claim_ref.is_none());
        let waiting = world.claims.values().filter(|claim| volume_name(claim).is_empty());
        prop_assert!(free.count() == 0 || waiting.count() == 0, "a volume is left and a claim waits");
    }
}
