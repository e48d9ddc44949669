//! Stateful sets.
//!
//! Absent: warnings about the claims in `volumeClaimTemplates`.

use std::collections::BTreeSet;

use api::validation::{Faults, Path, dns1123_label, invalid_each, name_is_dns_label};
use api::{ApiError, FieldError};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume};
use serde_json::{Value, json};

use super::pod_template::{self, Template};
use super::{non_negative, rollout, storage, typed};
use crate::printers::{self, items};
use crate::strategy::{Cell, Column, RequestContext, Strategy};

/// Parts of the spec that an update may change.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
const IMMUTABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                         'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                         'minReadySeconds' are forbidden";
const NEGATIVE_LIMIT: &str = "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 \
                              is recommended";

pub(super) struct StatefulSets;

/// What is tolerated because it was there before.
#[derive(Clone, Copy, Default)]
struct Tolerated {
    service_name: bool,
    template: bool,
    claims: bool,
}

fn validate(tree: &Value, tolerated: Tolerated) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let Some(spec) = typed::<StatefulSetSpec>(&tree["spec"], &at, &mut faults) else { return faults };
    match spec.pod_management_policy.as_deref().unwrap_or("") {
        "" => faults.push(FieldError::required(at.child("podManagementPolicy"), "")),
        "OrderedReady" | "Parallel" => {}
        other => {
            let message = "must be 'OrderedReady' or 'Parallel'";
            faults.push(FieldError::invalid(at.child("podManagementPolicy"), other, message));
        }
    }
    validate_strategy(spec.update_strategy.as_ref(), &at.child("updateStrategy"), &mut faults);
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        let at = at.child("persistentVolumeClaimRetentionPolicy");
        for (field, policy) in [("whenDeleted", &policy.when_deleted), ("whenScaled", &policy.when_scaled)] {
            let policy = policy.as_deref().unwrap_or("");
            if !matches!(policy, "Retain" | "Delete") {
                faults.push(FieldError::not_supported(at.child(field), policy, &["Retain", "Delete"]));
            }
        }
    }
    if !tolerated.claims {
        let list = at.child("volumeClaimTemplates");
        for (index, claim) in items(tree, "spec.volumeClaimTemplates").iter().enumerate() {
            let at = list.index(index);
            storage::validate_claim_spec(&claim["spec"], &at.child("spec"), &mut faults);
        }
    }
    non_negative(&mut faults, &at.child("replicas"), i64::from(spec.replicas.unwrap_or(0)));
    non_negative(&mut faults, &at.child("minReadySeconds"), i64::from(spec.min_ready_seconds.unwrap_or(0)));
    if let Some(ordinals) = &spec.ordinals {
        non_negative(&mut faults, &at.child("ordinals.start"), i64::from(ordinals.start.unwrap_or(0)));
    }
    let service = spec.service_name.as_deref().unwrap_or("");
    if !tolerated.service_name && !service.is_empty() {
        invalid_each(&mut faults, &at.child("serviceName"), service, dns1123_label(service));
    }
    validate_template(&spec, tree, tolerated.template, &mut faults);
    faults
}

fn validate_template(spec: &StatefulSetSpec, tree: &Value, tolerated: bool, faults: &mut Faults) {
    let at = Path::new("spec");
    let selector = Some(&spec.selector).filter(|_| !tree["spec"]["selector"].is_null());
    let usable = pod_template::validate_selector(selector, "statefulset", &at.child("selector"), faults);
    let at_template = at.child("template");
    if usable {
        let made = as_made(spec);
        let template = Template { typed: &made, tree: &tree["spec"]["template"] };
        pod_template::validate_match(selector, template, &at_template, faults);
        match tolerated {
            false => pod_template::validate(template, &at_template, faults),
            true => pod_template::validate_metadata(template, &at_template, faults),
        }
    } else {
        faults.push(FieldError::invalid(at.child("selector"), selector, ""));
    }
    let template = Template { typed: &spec.template, tree: &tree["spec"]["template"] };
    pod_template::validate_lasting(template, "StatefulSet", &at_template, faults);
}

/// The template with what the controller puts into each pod: its host name, and volumes for the claims.
fn as_made(spec: &StatefulSetSpec) -> PodTemplateSpec {
    let mut template = spec.template.clone();
    let claims = spec.volume_claim_templates.as_deref().unwrap_or(&[]);
    let names: BTreeSet<&str> = claims.iter().filter_map(|claim| claim.metadata.name.as_deref()).collect();
    if let Some(pod) = &mut template.spec {
        pod.hostname = None;
        pod.subdomain = None;
        if !claims.is_empty() {
            let volumes = pod.volumes.get_or_insert_with(Vec::new);
            volumes.retain(|volume| !names.contains(volume.name.as_str()));
            let claim = |name: &str| PersistentVolumeClaimVolumeSource {
                claim_name: name.to_string(),
                read_only: None,
            };
            volumes.extend(names.into_iter().map(|name| Volume {
                name: name.to_string(),
                persistent_volume_claim: Some(claim(name)),
                ..Volume::default()
            }));
        }
    }
    template
}

fn validate_strategy(strategy: Option<&StatefulSetUpdateStrategy>, at: &Path<'_>, faults: &mut Faults) {
    let update = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    match strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("") {
        "" => faults.push(FieldError::required(at, "")),
        "OnDelete" => {
            if let Some(update) = update {
                let printed = json!({
                    "Partition": update.partition.unwrap_or(0), "MaxUnavailable": update.max_unavailable,
                });
                let message = "only allowed for updateStrategy 'RollingUpdate'";
                faults.push(FieldError::invalid(at.child("rollingUpdate"), printed, message));
            }
        }
        "RollingUpdate" => {
            let Some(update) = update else { return };
            let at = at.child("rollingUpdate");
            non_negative(faults, &at.child("partition"), i64::from(update.partition.unwrap_or(0)));
            let (amount, at) = (update.max_unavailable.as_ref(), at.child("maxUnavailable"));
            rollout::validate_amount(amount, &at, faults);
            if amount.is_some() && rollout::number(amount) == 0 {
                faults.push(FieldError::invalid(at, amount, "cannot be 0"));
            }
            rollout::validate_at_most_all(amount, &at, faults);
        }
        other => {
            let update = update.map(|update| {
                json!({"Partition": update.partition.unwrap_or(0), "MaxUnavailable": update.max_unavailable})
            });
            let printed = json!({"Type": other, "RollingUpdate": update});
            faults.push(FieldError::invalid(at, printed, "must be 'RollingUpdate' or 'OnDelete'"));
        }
    }
}

fn validate_status(new: &Value, old: &Value) -> Faults {
    let mut faults = Faults::new();
    let counts = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    rollout::validate_counts(new, &counts, &mut faults);
    let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    rollout::validate_at_most(new, &parts, "replicas", "cannot be greater than status.replicas", &mut faults);
    let message = "cannot be greater than status.readyReplicas";
    rollout::validate_at_most(new, &["availableReplicas"], "readyReplicas", message, &mut faults);
    rollout::validate_collisions(new, old, &mut faults);
    faults
}

/// Whether the spec differs in more than what may change.
fn changes_fixed_parts(new: &Value, old: &Value) -> bool {
    let rest = |tree: &Value| {
        let mut spec = tree["spec"].clone();
        if let Some(members) = spec.as_object_mut() {
            members.retain(|key, _| !MUTABLE.contains(&key.as_str()));
        }
        spec
    };
    rest(new) != rest(old)
}

/// How many pods may be missing at once is a feature that is off: it is kept where it was used before.
fn drop_max_unavailable(tree: &mut Value) {
    let update = tree.pointer_mut("/spec/updateStrategy/rollingUpdate").and_then(Value::as_object_mut);
    if let Some(update) = update {
        update.remove("maxUnavailable");
    }
}

impl Strategy for StatefulSets {
    fn prepare_for_create(&self, _ctx: &RequestContext<'_>, tree: &mut Value) -> Result<(), ApiError> {
        drop_max_unavailable(tree);
        Ok(())
    }

    fn prepare_for_update(
        &self,
        _ctx: &RequestContext<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        if printers::at(old, "spec.updateStrategy.rollingUpdate.maxUnavailable").is_null() {
            drop_max_unavailable(new);
        }
        Ok(())
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree, Tolerated::default())
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        if ctx.subresource == Some("status") {
            return validate_status(new, old);
        }
        let mut tolerated = Tolerated { service_name: true, template: false, claims: true };
        tolerated.template = !validate(old, tolerated).is_empty();
        let mut faults = validate(new, tolerated);
        if changes_fixed_parts(new, old) {
            faults.push(FieldError::forbidden(Path::new("spec"), IMMUTABLE));
        }
        faults
    }

    fn warnings(&self, ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = rollout::template_warnings(ctx, tree, old);
        if ctx.subresource.is_none() && printers::number(tree, "spec.revisionHistoryLimit") < 0 {
            warnings.push(NEGATIVE_LIMIT.to_string());
        }
        warnings
    }

    fn name_faults(&self, name: &str, prefix: bool) -> Vec<String> {
        name_is_dns_label(name, prefix)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        printers::apps::STATEFUL_SET
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::apps::stateful_set(tree, now)
    }
}
