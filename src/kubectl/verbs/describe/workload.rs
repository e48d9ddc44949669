//! Deployments and the sets of pods.

use api::json::{as_items, as_text};
use serde_json::Value;

use api::LabelSelector;

use super::pod::{containers, tolerations};
use super::sheet::{Sheet, shown, time};
use super::volumes;
use crate::env::Env;
use crate::error::Result;
use crate::pods::selector_of;
use crate::selection::SelectorArgs;

/// A pod template, below the heading `Pod Template:`.
pub(super) fn template(sheet: &mut Sheet, template: &Value) {
    sheet.line(0, "Pod Template:");
    let (metadata, spec) = (&template["metadata"], &template["spec"]);
    sheet.labels(1, "Labels", &metadata["labels"]);
    if metadata["annotations"].as_object().is_some_and(|map| !map.is_empty()) {
        sheet.annotations(1, "Annotations", &metadata["annotations"]);
    }
    if let Some(account) = spec["serviceAccountName"].as_str().filter(|name| !name.is_empty()) {
        sheet.line(1, &format!("Service Account:\t{account}"));
    }
    if !as_items(&spec["initContainers"]).is_empty() {
        containers(sheet, "Init Containers", &spec["initContainers"], None, 1);
    }
    containers(sheet, "Containers", &spec["containers"], None, 1);
    volumes::describe(sheet, &spec["volumes"], 1);
    if let Some(class) = spec["priorityClassName"].as_str().filter(|class| !class.is_empty()) {
        sheet.line(1, &format!("Priority Class Name:\t{class}"));
    }
    let mut inner = Sheet::default();
    inner.labels(0, "Node-Selectors", &spec["nodeSelector"]);
    tolerations(&mut inner, &spec["tolerations"]);
    for line in inner.raw_lines() {
        sheet.line(1, &line);
    }
}

fn selector_text(object: &Value) -> String {
    let typed = serde_json::from_value(object["spec"]["selector"].clone()).ok();
    LabelSelector::from_meta(typed.as_ref()).to_string()
}

fn count(object: &Value, field: &str) -> i64 {
    object["status"][field].as_i64().unwrap_or(0)
}

pub(super) async fn deployment(env: &Env, sheet: &mut Sheet, object: &Value) -> Result<()> {
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    sheet.line(0, &format!("Name:\t{}", as_text(&metadata["name"])));
    sheet.line(0, &format!("Namespace:\t{}", as_text(&metadata["namespace"])));
    sheet.line(0, &format!("CreationTimestamp:\t{}", time(&metadata["creationTimestamp"])));
    sheet.labels(0, "Labels", &metadata["labels"]);
    sheet.annotations(0, "Annotations", &metadata["annotations"]);
    sheet.line(0, &format!("Selector:\t{}", selector_text(object)));
    sheet.line(
        0,
        &format!(
            "Replicas:\t{} desired | {} updated | {} total | {} available | {} unavailable",
            spec["replicas"].as_i64().unwrap_or(1),
            count(object, "updatedReplicas"),
            count(object, "replicas"),
            count(object, "availableReplicas"),
            count(object, "unavailableReplicas")
        ),
    );
    sheet.line(0, &format!("StrategyType:\t{}", as_text(&spec["strategy"]["type"])));
    sheet.line(0, &format!("MinReadySeconds:\t{}", spec["minReadySeconds"].as_i64().unwrap_or(0)));
    if let rolling @ Value::Object(_) = &spec["strategy"]["rollingUpdate"] {
        sheet.line(
            0,
            &format!(
                "RollingUpdateStrategy:\t{} max unavailable, {} max surge",
                shown(&rolling["maxUnavailable"]),
                shown(&rolling["maxSurge"])
            ),
        );
    }
    template(sheet, &spec["template"]);
    conditions(sheet, object);
    replica_sets_of(env, sheet, object).await
}

/// The old replica sets and the one of the present template.
async fn replica_sets_of(env: &Env, sheet: &mut Sheet, object: &Value) -> Result<()> {
    let row = env.resource("replicasets.apps").await?;
    let selector = SelectorArgs { selector: Some(selector_of(object)?), ..SelectorArgs::default() };
    let sets = env.list(&row, object["metadata"]["namespace"].as_str(), &selector.query(), 500).await?;
    let uid = &object["metadata"]["uid"];
    let revision = |of: &Value| {
        of["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
            .as_str()
            .and_then(|text| text.parse::<i64>().ok())
    };
    let mut owned: Vec<&Value> = sets
        .iter()
        .filter(|set| as_items(&set["metadata"]["ownerReferences"]).iter().any(|owner| owner["uid"] == *uid))
        .collect();
    owned.sort_by_key(|set| revision(set));
    let (new, old): (Vec<&Value>, Vec<&Value>) =
        owned.into_iter().partition(|set| revision(set).is_some() && revision(set) == revision(object));
    let text = |sets: &[&Value]| {
        let one = |set: &&Value| {
            format!(
                "{} ({}/{} replicas created)",
                as_text(&set["metadata"]["name"]),
                count(set, "replicas"),
                set["spec"]["replicas"].as_i64().unwrap_or(1)
            )
        };
        if sets.is_empty() {
            "<none>".to_string()
        } else {
            sets.iter().map(one).collect::<Vec<_>>().join(", ")
        }
    };
    sheet.line(0, &format!("OldReplicaSets:\t{}", text(&old)));
    sheet.line(0, &format!("NewReplicaSet:\t{}", text(&new)));
    Ok(())
}

/// How many of the pods of a set are in each phase.
async fn pod_phases(env: &Env, object: &Value) -> Result<String> {
    let row = env.resource("pods").await?;
    let selector = SelectorArgs { selector: Some(selector_of(object)?), ..SelectorArgs::default() };
    let pods = env.list(&row, object["metadata"]["namespace"].as_str(), &selector.query(), 500).await?;
    let uid = &object["metadata"]["uid"];
    let mine = |pod: &&Value| {
        as_items(&pod["metadata"]["ownerReferences"])
            .iter()
            .any(|owner| owner["uid"] == *uid && owner["controller"] == true)
    };
    let phases: Vec<&str> = pods.iter().filter(mine).map(|pod| as_text(&pod["status"]["phase"])).collect();
    let of = |phase: &str| phases.iter().filter(|own| **own == phase).count();
    Ok(format!(
        "{} Running / {} Waiting / {} Succeeded / {} Failed",
        of("Running"),
        of("Pending"),
        of("Succeeded"),
        of("Failed")
    ))
}

fn conditions(sheet: &mut Sheet, object: &Value) {
    let conditions = as_items(&object["status"]["conditions"]);
    if conditions.is_empty() {
        return;
    }
    sheet.line(0, "Conditions:");
    sheet.line(1, "Type\tStatus\tReason");
    sheet.line(1, "----\t------\t------");
    for one in conditions {
        let [kind, status, reason] = ["type", "status", "reason"].map(|field| as_text(&one[field]));
        sheet.line(1, &format!("{kind} \t{status}\t{reason}"));
    }
}

pub(super) fn controlled_by(sheet: &mut Sheet, object: &Value) {
    if let Some(owner) =
        as_items(&object["metadata"]["ownerReferences"]).iter().find(|owner| owner["controller"] == true)
    {
        sheet.line(0, &format!("Controlled By:\t{}/{}", as_text(&owner["kind"]), as_text(&owner["name"])));
    }
}

pub(super) async fn replica_set(env: &Env, sheet: &mut Sheet, object: &Value) -> Result<()> {
    let metadata = &object["metadata"];
    sheet.line(0, &format!("Name:\t{}", as_text(&metadata["name"])));
    sheet.line(0, &format!("Namespace:\t{}", as_text(&metadata["namespace"])));
    sheet.line(0, &format!("Selector:\t{}", selector_text(object)));
    sheet.labels(0, "Labels", &metadata["labels"]);
    sheet.annotations(0, "Annotations", &metadata["annotations"]);
    controlled_by(sheet, object);
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    sheet.line(0, &format!("Replicas:\t{} current / {wanted} desired", count(object, "replicas")));
    sheet.line(0, &format!("Pods Status:\t{}", pod_phases(env, object).await?));
    template(sheet, &object["spec"]["template"]);
    conditions(sheet, object);
    Ok(())
}

/// Daemon sets and stateful sets.
pub(super) async fn other_set(env: &Env, sheet: &mut Sheet, object: &Value) -> Result<()> {
    let metadata = &object["metadata"];
    sheet.line(0, &format!("Name:\t{}", as_text(&metadata["name"])));
    if object["kind"] == "StatefulSet" {
        sheet.line(0, &format!("Namespace:\t{}", as_text(&metadata["namespace"])));
        sheet.line(0, &format!("CreationTimestamp:\t{}", time(&metadata["creationTimestamp"])));
        sheet.line(0, &format!("Selector:\t{}", selector_text(object)));
        sheet.labels(0, "Labels", &metadata["labels"]);
        sheet.annotations(0, "Annotations", &metadata["annotations"]);
        let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
        sheet.line(0, &format!("Replicas:\t{wanted} desired | {} total", count(object, "replicas")));
        sheet.line(0, &format!("Update Strategy:\t{}", as_text(&object["spec"]["updateStrategy"]["type"])));
    } else {
        sheet.line(0, &format!("Namespace:\t{}", as_text(&metadata["namespace"])));
        sheet.line(0, &format!("Selector:\t{}", selector_text(object)));
        sheet.labels(0, "Node-Selector", &object["spec"]["template"]["spec"]["nodeSelector"]);
        sheet.labels(0, "Labels", &metadata["labels"]);
        sheet.annotations(0, "Annotations", &metadata["annotations"]);
        for (label, field) in [
            ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
            ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
            ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
            ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
            ("Number of Nodes Misscheduled", "numberMisscheduled"),
        ] {
            sheet.line(0, &format!("{label}: {}", count(object, field)));
        }
    }
    sheet.line(0, &format!("Pods Status:\t{}", pod_phases(env, object).await?));
    template(sheet, &object["spec"]["template"]);
    Ok(())
}
