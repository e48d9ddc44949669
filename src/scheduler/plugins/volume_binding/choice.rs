//! Which volumes a pod's claims get on one node.

use std::collections::HashMap;
use std::sync::Arc;

use api::volumes::{
    BOUND_BY_CONTROLLER, NO_PROVISIONER, SELECTED_NODE, annotation, best_match, class_of_claim, fits_node,
    is_bound_to,
};
use client::events::reference_to;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::framework::{Code, Status};
use crate::pod::Labels;

const OTHER_NODE: &str = "node(s) didn't match PersistentVolume's node affinity";
const NO_MATCH: &str = "node(s) didn't find available persistent volumes to bind";
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";

/// The claims of a pod.
#[derive(Default)]
pub(super) struct Claims {
    /// The volumes of those that are bound; none for one that is not there.
    pub(super) bound: Vec<Option<Arc<PersistentVolume>>>,
    /// Those that are bound for the pod's node, the smallest first, with their classes.
    pub(super) waiting: Vec<(Arc<PersistentVolumeClaim>, Option<Arc<StorageClass>>)>,
    /// Volumes by class, of the classes that these have.
    pub(super) volumes: HashMap<String, Vec<Arc<PersistentVolume>>>,
}

/// What is to be bound if the pod goes to a node.
#[derive(Clone, Default)]
pub(super) struct Choice {
    /// Volumes with the claims that get them.
    pub(super) bindings: Vec<(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)>,
    /// Claims for which volumes are to be made.
    pub(super) to_make: Vec<Arc<PersistentVolumeClaim>>,
}

impl Choice {
    pub(super) fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.to_make.is_empty()
    }

    pub(super) fn volumes(&self) -> impl Iterator<Item = &Arc<PersistentVolume>> {
        self.bindings.iter().map(|(volume, _)| volume)
    }

    /// The same with volumes that name their claims, and claims that name the node.
    pub(super) fn assumed(self, node: &str) -> Self {
        let named = |(volume, claim): (Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)| {
            (Arc::new(naming(&volume, &claim)), claim)
        };
        let selected = |claim: Arc<PersistentVolumeClaim>| {
            let mut claim = (*claim).clone();
            let annotations = claim.metadata.annotations.get_or_insert_default();
            annotations.insert(SELECTED_NODE.to_string(), node.to_string());
            Arc::new(claim)
        };
        Choice {
            bindings: self.bindings.into_iter().map(named).collect(),
            to_make: self.to_make.into_iter().map(selected).collect(),
        }
    }
}

/// The volume as it is once it names the claim. One that somebody has meant for the claim is not marked as
/// bound by us.
fn naming(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> PersistentVolume {
    let mut named = volume.clone();
    if !is_bound_to(volume, claim) {
        let annotations = named.metadata.annotations.get_or_insert_default();
        annotations.insert(BOUND_BY_CONTROLLER.to_string(), "yes".to_string());
    }
    named.spec.get_or_insert_default().claim_ref = Some(reference_to(claim));
    named
}

/// What the claims get on the node, or all the reasons why it will not do.
pub(super) fn choose(claims: &Claims, node: &str, labels: &Labels) -> Result<Choice, Status> {
    let is_there = claims.bound.iter().all(Option::is_some);
    let is_reachable = claims.bound.iter().flatten().all(|volume| fits_node(volume, node, labels));
    let chosen = choose_for_waiting(claims, node, labels)?;
    let reasons: Vec<_> = [(is_reachable, OTHER_NODE), (chosen.is_some(), NO_MATCH), (is_there, NO_VOLUME)]
        .into_iter()
        .filter_map(|(is_well, reason)| (!is_well).then_some(reason.into()))
        .collect();
    match chosen {
        Some(choice) if reasons.is_empty() => Ok(choice),
        _ => Err(Status::with_code(Code::UnschedulableAndUnresolvable, reasons)),
    }
}

/// None if there is nothing for one of them.
fn choose_for_waiting(claims: &Claims, node: &str, labels: &Labels) -> Result<Option<Choice>, Status> {
    let mut choice = Choice::default();
    let mut to_make = Vec::new();
    for (claim, class) in &claims.waiting {
        match annotation(&claim.metadata.annotations, SELECTED_NODE) {
            Some(selected) if selected != node => return Ok(None),
            Some(_) => to_make.push((claim, class)),
            None => {
                let none = Vec::new();
                let volumes = claims.volumes.get(class_of_claim(claim)).unwrap_or(&none);
                let is_taken =
                    |name: &str| choice.volumes().any(|taken| taken.metadata.name.as_deref() == Some(name));
                match best_match(claim, volumes, Some((node, labels)), is_taken, true) {
                    Some(volume) => choice.bindings.push((volume.clone(), claim.clone())),
                    None => to_make.push((claim, class)),
                }
            }
        }
    }
    for (claim, class) in to_make {
        let Some(class) = class else {
            let name = class_of_claim(claim);
            return Err(Status::error(format!("failed to find storage class {name:?}")));
        };
        if class.provisioner.is_empty() || class.provisioner == NO_PROVISIONER || !allows(class, labels) {
            return Ok(None);
        }
        choice.to_make.push(claim.clone());
    }
    Ok(Some(choice))
}

/// Whether volumes of the class can be made for a node with these labels.
fn allows(class: &StorageClass, labels: &Labels) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    let is_met = |term: &k8s_openapi::api::core::v1::TopologySelectorTerm| {
        let mut expressions = term.match_label_expressions.iter().flatten();
        expressions.all(|one| labels.get(&one.key).is_some_and(|value| one.values.contains(value)))
    };
    terms.is_empty() || terms.iter().any(is_met)
}
