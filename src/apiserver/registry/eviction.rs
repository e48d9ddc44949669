//! Evictions: deletions of pods that ask the disruption budgets first.
//!
//! A budget's controller says in its status how many disruptions it allows; an eviction takes one away and
//! notes the pod, so that two evictions never share one and the controller does not count the pod meanwhile.
//! The budget is written before the pod is deleted: after a crash in between one disruption is lost until the
//! controller looks again, but none is granted twice.

use std::sync::Arc;

use api::kinds::{POD, POD_DISRUPTION_BUDGET};
use api::{ApiError, DeleteOptions, DryRun, KindRow, Object, Preconditions};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::actions::{delete_options, success};
use super::metadata::time;
use super::{Call, Registry, meta_str};
use crate::printers::{items, number, text};

/// How often an eviction looks again because the pod has changed under it.
const ATTEMPTS: usize = 20;
/// Evictions of one budget that its controller has not seen confirmed.
const MAX_DISRUPTED: usize = 2000;
const VIOLATION: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const CAUSE: &str = "DisruptionBudget";
const ALLOWED: &str = "DisruptionAllowed";

impl Registry {
    /// Deletes a pod if no budget speaks against it.
    pub(super) async fn evict(
        &self,
        call: &Call<'_>,
        name: &str,
        eviction: &Value,
    ) -> Result<Value, ApiError> {
        if meta_str(eviction, "name") != name {
            return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
        }
        let mut options = match eviction.get("deleteOptions") {
            Some(options) => delete_options(options)?,
            None => DeleteOptions::default(),
        };
        if call.dry_run == DryRun::All {
            options.dry_run = DryRun::All;
        }
        let pods = Call::new(&call.resource, call.namespace, call.user)
            .dry(options.dry_run)
            .by_agent(call.agent.clone())
            .fenced(call.fence)
            .internal();
        let insists = options.preconditions.resource_version.is_some();
        for last in (0..ATTEMPTS).map(|attempt| insists || attempt + 1 == ATTEMPTS) {
            let object = self.find(&pods, name)?.object.clone();
            let pod = object.tree().map_err(ApiError::internal)?;
            if !is_unguarded(&pod) {
                return self.evict_guarded(&pods, &object, &pod, &options).await;
            }
            // A pod that has not begun may become ready meanwhile, and then it counts.
            let pinned = (!insists && is_pending(&pod)).then(|| object.resource_version());
            match self.disrupt(&pods, name, &options, pinned).await {
                Err(error) if error.is_conflict() && !last => {}
                done => return done.map(|()| success(201)),
            }
        }
        Err(ApiError::modified(call.row(), name))
    }

    /// Evicts a pod that budgets guard.
    async fn evict_guarded(
        &self,
        pods: &Call<'_>,
        object: &Object,
        pod: &Value,
        options: &DeleteOptions,
    ) -> Result<Value, ApiError> {
        let name = object.name();
        let budgets = self.budgets_of(object);
        let budget = match &budgets[..] {
            [] => None,
            [one] => Some(one),
            _ => {
                let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does \
                               not support.";
                return Err(ApiError::new(500, "", message));
            }
        };
        let Some(budget) = budget else {
            return self.disrupt(pods, name, options, None).await.map(|()| success(201));
        };
        let tree = budget.tree().map_err(ApiError::internal)?;
        if is_ready(pod) || !may_go_unhealthy(&tree) {
            self.take_disruption(pods, name, budget.name()).await?;
            return self.disrupt(pods, name, options, None).await.map(|()| success(201));
        }
        // It counts for nothing as it is: only as it is may it go.
        let pinned = options.preconditions.resource_version.is_none().then(|| object.resource_version());
        match self.disrupt(pods, name, options, pinned).await {
            Err(error) if error.is_conflict() && pinned.is_some() => Err(not_yet(budget.name())),
            done => done.map(|()| success(201)),
        }
    }

    /// Budgets of the pod's namespace that select it.
    fn budgets_of(&self, pod: &Object) -> Vec<Arc<Object>> {
        let mut budgets = self.caches.list(&POD_DISRUPTION_BUDGET, pod.namespace());
        // None selects nothing, an empty one everything.
        budgets.retain(|budget| budget.selector().is_some_and(|selector| selector.matches(pod.labels())));
        budgets
    }

    /// Takes one of the disruptions that a budget allows.
    async fn take_disruption(&self, pods: &Call<'_>, pod: &str, budget: &str) -> Result<(), ApiError> {
        let resources = self.resources.load();
        let budgets = resources.of_row(&POD_DISRUPTION_BUDGET)?;
        let call = Call::new(budgets, pods.namespace, pods.user)
            .sub(Some("status"))
            .dry(pods.dry_run)
            .fenced(pods.fence);
        self.amend(&call, budget, &|tree| decrement(tree, budget, pod, Timestamp::now())).await?;
        Ok(())
    }

    /// Says in the pod's status why it goes, and deletes it; `pinned` is the version that it must have.
    async fn disrupt(
        &self,
        pods: &Call<'_>,
        name: &str,
        options: &DeleteOptions,
        pinned: Option<u64>,
    ) -> Result<(), ApiError> {
        let mut options = options.clone();
        if let Some(version) = pinned {
            options.preconditions.resource_version = Some(version.to_string());
        }
        if pods.dry_run == DryRun::No {
            let status =
                Call::new(&pods.resource, pods.namespace, pods.user).sub(Some("status")).fenced(pods.fence);
            let wanted = options.preconditions.clone();
            let changed = self
                .amend(&status, name, &|pod| {
                    check(pod, name, &wanted)?;
                    set_disrupted(pod, Timestamp::now());
                    Ok(())
                })
                .await?;
            if options.preconditions.resource_version.is_some() {
                options.preconditions.resource_version = Some(changed.resource_version().to_string());
            }
        }
        self.delete(pods, name, &options).await?;
        Ok(())
    }
}

fn phase(pod: &Value) -> &str {
    text(pod, "status.phase")
}

fn is_pending(pod: &Value) -> bool {
    phase(pod) == "Pending" && text(pod, "metadata.deletionTimestamp").is_empty()
}

/// Whether no budget counts the pod: it has not begun, is over, or goes already.
fn is_unguarded(pod: &Value) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed" | "Pending")
        || !text(pod, "metadata.deletionTimestamp").is_empty()
}

fn is_ready(pod: &Value) -> bool {
    let ready = items(pod, "status.conditions").iter().find(|one| one["type"] == "Ready");
    ready.is_some_and(|ready| ready["status"] == "True")
}

/// Whether a budget lets pods go that are not ready.
fn may_go_unhealthy(budget: &Value) -> bool {
    let (present, desired) =
        (number(budget, "status.currentHealthy"), number(budget, "status.desiredHealthy"));
    text(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow" || (present >= desired && desired > 0)
}

fn check(pod: &Value, name: &str, wanted: &Preconditions) -> Result<(), ApiError> {
    let conflict = |what: &str, wanted: &str, own: &str, why: &str| {
        // As upstream has it, by the name of the kind.
        let row = KindRow { plural: POD.kind.clone(), ..POD.clone() };
        let message = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({own}). The object might \
             have been {why}"
        );
        Err(ApiError::conflict(&row, name, &message))
    };
    let (uid, version) = (meta_str(pod, "uid"), meta_str(pod, "resourceVersion"));
    if let Some(wanted) = wanted.uid.as_deref().filter(|wanted| !wanted.is_empty() && *wanted != uid) {
        return conflict("UID", wanted, uid, "deleted and then recreated");
    }
    let other = wanted.resource_version.as_deref();
    if let Some(wanted) = other.filter(|wanted| !wanted.is_empty() && *wanted != version) {
        return conflict("ResourceVersion", wanted, version, "modified");
    }
    Ok(())
}

/// The answer while the budget's controller has to look first.
fn not_yet(budget: &str) -> ApiError {
    let message = format!("The disruption budget {budget} is still being processed by the server.");
    ApiError::too_many_requests(VIOLATION, 10).with_cause(CAUSE, None, &message)
}

/// Takes one disruption from a budget and notes the pod; else says why there is none to take.
fn decrement(budget: &mut Value, name: &str, pod: &str, now: Timestamp) -> Result<(), ApiError> {
    if number(budget, "status.observedGeneration") < number(budget, "metadata.generation") {
        return Err(not_yet(name));
    }
    let forbidden = |why: &str| {
        let row = KindRow { plural: "poddisruptionbudget".into(), ..POD_DISRUPTION_BUDGET.clone() };
        Err(ApiError::forbidden(&row, name, why))
    };
    let allowed = number(budget, "status.disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    let noted = budget["status"]["disruptedPods"].as_object().map_or(0, serde_json::Map::len);
    if noted > MAX_DISRUPTED {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        let message = why_none(budget, name);
        return Err(ApiError::too_many_requests(VIOLATION, 0).with_cause(CAUSE, None, &message));
    }
    budget["status"]["disruptionsAllowed"] = json!(allowed - 1);
    if allowed == 1 {
        set_exhausted(budget, now);
    }
    if !budget["status"]["disruptedPods"].is_object() {
        budget["status"]["disruptedPods"] = json!({});
    }
    budget["status"]["disruptedPods"][pod] = json!(time(now));
    Ok(())
}

fn why_none(budget: &Value, name: &str) -> String {
    let refused = items(budget, "status.conditions").iter().find(|one| one["type"] == ALLOWED);
    let refused = refused.filter(|one| one["status"] == "False" && !text(one, "message").is_empty());
    let (present, desired) =
        (number(budget, "status.currentHealthy"), number(budget, "status.desiredHealthy"));
    match refused {
        Some(one) if text(one, "reason") == "SyncFailed" => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
            text(one, "message")
        ),
        _ if present <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {present} currently")
        }
        Some(one) => format!(
            "The disruption budget {name} does not allow evicting pods currently ({}): {}",
            text(one, "reason"),
            text(one, "message")
        ),
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

/// Sets a condition; one that has the same status keeps its time.
fn set_condition(tree: &mut Value, mut condition: Value, now: Timestamp) {
    if !tree["status"].is_object() {
        tree["status"] = json!({});
    }
    if !tree["status"]["conditions"].is_array() {
        tree["status"]["conditions"] = json!([]);
    }
    condition["lastTransitionTime"] = json!(time(now));
    let Some(conditions) = tree["status"]["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|one| one["type"] == condition["type"]) {
        Some(present) => {
            if present["status"] == condition["status"] {
                condition["lastTransitionTime"] = present["lastTransitionTime"].clone();
            }
            *present = condition;
        }
        None => conditions.push(condition),
    }
}

fn set_exhausted(budget: &mut Value, now: Timestamp) {
    let observed = number(budget, "status.observedGeneration");
    let mut condition =
        json!({"type": ALLOWED, "status": "False", "reason": "InsufficientPods", "message": ""});
    if observed != 0 {
        condition["observedGeneration"] = json!(observed);
    }
    set_condition(budget, condition, now);
}

fn set_disrupted(pod: &mut Value, now: Timestamp) {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null,
    });
    set_condition(pod, condition, now);
}
