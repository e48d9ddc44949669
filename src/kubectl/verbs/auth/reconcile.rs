//! `kubectl auth reconcile`: roles and bindings of files are made, or get what they lack of them.

use api::json::{as_items, as_text};
use clap::Args;
use serde_json::{Map, Value, json};

use super::rules::{self, Permission};
use crate::change::{ChangeArgs, DryRun};
use crate::env::{Env, tell};
use crate::error::{Error, Result};
use crate::manifest::FileArgs;
use crate::output::bracketed;
use crate::selection::Target;

/// Reconciles rules for RBAC role, role binding, cluster role, and cluster role binding objects
#[derive(Args)]
pub(super) struct ReconcileArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Take permissions from roles that the files do not give
    #[arg(long)]
    remove_extra_permissions: bool,
    /// Take subjects from bindings that the files do not name
    #[arg(long)]
    remove_extra_subjects: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

const GROUP: &str = "rbac.authorization.k8s.io";
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// Attempts when someone else writes the object meanwhile.
const ATTEMPTS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Create,
    Update,
    /// Another role cannot be put into a binding.
    Recreate,
}

/// What is to be done about one object.
struct Plan {
    step: Step,
    object: Value,
    missing: Vec<Value>,
    extra: Vec<Value>,
    is_protected: bool,
}

pub(super) async fn run(env: &Env, args: ReconcileArgs) -> Result<()> {
    if !args.files.given() {
        return Err(Error::message("must specify one of -f and -k"));
    }
    if args.change.mode()? == DryRun::Server {
        return Err(Error::message("--dry-run=server for command reconcile is not supported yet"));
    }
    for target in env.objects_of(&args.files).await? {
        let Some(manifest) = &target.manifest else { continue };
        if target.row.group != GROUP {
            continue;
        }
        if target.row.version != "v1" {
            let kind = &target.row.kind;
            return Err(Error::message(format!("only {GROUP}/v1 is supported: not {kind}")));
        }
        let plan = reconcile(env, &target, &manifest.object, &args).await?;
        args.change.report(&plan.object, "reconciled")?;
        tell_changes(&plan, &target, &args);
    }
    Ok(())
}

async fn reconcile(env: &Env, target: &Target, wanted: &Value, args: &ReconcileArgs) -> Result<Plan> {
    for attempt in 1.. {
        let present = match env.rest().await?.get(&target.path()).await {
            Ok(present) => Some(present),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let mut plan = plan(present.as_ref(), wanted, &target.row.kind, args);
        if plan.is_protected || plan.step == Step::Nothing || args.change.mode()? == DryRun::Client {
            return Ok(plan);
        }
        match carry_out(env, target, &plan, present.as_ref()).await {
            Ok(object) => {
                plan.object = object;
                return Ok(plan);
            }
            Err(error) => {
                let is_race = error.is_not_found()
                    || error.api().is_some_and(|api| api.is_conflict() || api.reason() == "AlreadyExists");
                if !is_race || attempt == ATTEMPTS {
                    return Err(error);
                }
            }
        }
    }
    Err(Error::message("exceeded maximum attempts"))
}

async fn carry_out(env: &Env, target: &Target, plan: &Plan, present: Option<&Value>) -> Result<Value> {
    let rest = env.rest().await?;
    match plan.step {
        Step::Update => return rest.put(&target.path(), &plan.object).await,
        Step::Recreate => {
            let uid = present.map(|present| present["metadata"]["uid"].clone()).unwrap_or_default();
            let options = json!({
                "kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid},
            });
            match rest.delete(&target.path(), &options).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Step::Create | Step::Nothing => {}
    }
    if let Some(namespace) = &target.namespace {
        let namespaces = api::kinds::NAMESPACE.collection_path(None);
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        match rest.post(&namespaces, &object).await {
            // Who may not make namespaces may still write into one that is there.
            Err(error)
                if error.api().is_none_or(|api| !matches!(api.reason(), "AlreadyExists" | "Forbidden")) =>
            {
                return Err(error);
            }
            _ => {}
        }
    }
    rest.post(&target.collection(), &plan.object).await
}

fn plan(present: Option<&Value>, wanted: &Value, kind: &str, args: &ReconcileArgs) -> Plan {
    let is_role = kind.ends_with("Role");
    let field = if is_role { "rules" } else { "subjects" };
    let listed = |object: &Value| as_items(&object[field]).to_vec();
    let Some(present) = present else {
        let (object, missing) = (wanted.clone(), listed(wanted));
        return Plan { step: Step::Create, object, missing, extra: Vec::new(), is_protected: false };
    };
    let is_protected = present["metadata"]["annotations"][AUTO_UPDATE] == "false";
    if !is_role && reference(wanted) != reference(present) {
        let (object, missing, extra) = (wanted.clone(), Vec::new(), Vec::new());
        return Plan { step: Step::Recreate, object, missing, extra, is_protected };
    }
    let mut object = present.clone();
    for of in ["annotations", "labels"] {
        merge(&mut object, wanted, of);
    }
    let (missing, extra, removes) = match is_role {
        true => {
            let rules = |from: &Value, other: &Value| -> Vec<Value> {
                rules::missing(&from["rules"], &other["rules"]).iter().map(Permission::rule).collect()
            };
            let both_aggregate =
                !wanted["aggregationRule"].is_null() && !present["aggregationRule"].is_null();
            let extra = if both_aggregate { Vec::new() } else { rules(wanted, present) };
            (rules(present, wanted), extra, args.remove_extra_permissions)
        }
        false => (without(wanted, present), without(present, wanted), args.remove_extra_subjects),
    };
    if removes && !(missing.is_empty() && extra.is_empty()) {
        object[field] = json!(listed(wanted));
    } else if !missing.is_empty() {
        object[field] = json!([listed(present), missing.clone()].concat());
    }
    if is_role {
        aggregate(&mut object, present, wanted, removes);
    }
    let step = if object == *present { Step::Nothing } else { Step::Update };
    Plan { step, object, missing, extra, is_protected }
}

fn reference(binding: &Value) -> (&str, &str) {
    (as_text(&binding["roleRef"]["kind"]), as_text(&binding["roleRef"]["name"]))
}

/// Subjects that only the first has.
fn without(one: &Value, other: &Value) -> Vec<Value> {
    let mut only = Vec::new();
    for subject in as_items(&one["subjects"]) {
        let is = |own: &Value| {
            ["kind", "name", "namespace"]
                .iter()
                .all(|field| as_text(&own[*field]) == as_text(&subject[*field]))
        };
        if !as_items(&other["subjects"]).iter().any(is) && !only.iter().any(is) {
            only.push(subject.clone());
        }
    }
    only
}

/// What the object has goes before what the file has.
fn merge(object: &mut Value, wanted: &Value, field: &str) {
    let Some(given) = wanted["metadata"][field].as_object().filter(|given| !given.is_empty()) else { return };
    let own = &mut object["metadata"][field];
    if !own.is_object() {
        *own = Value::Object(Map::new());
    }
    if let Some(own) = own.as_object_mut() {
        for (key, value) in given {
            own.entry(key).or_insert_with(|| value.clone());
        }
    }
}

fn aggregate(object: &mut Value, present: &Value, wanted: &Value, removes: bool) {
    let selectors = |role: &Value| as_items(&role["aggregationRule"]["clusterRoleSelectors"]).to_vec();
    let (own, given) = (selectors(present), selectors(wanted));
    let missing: Vec<Value> = given.iter().filter(|one| !own.contains(one)).cloned().collect();
    let is_extra = own.iter().any(|one| !given.contains(one));
    if wanted["aggregationRule"].is_null() {
        if let Some(object) = object.as_object_mut() {
            object.remove("aggregationRule");
        }
    } else if removes && (is_extra || !missing.is_empty()) {
        object["aggregationRule"] = wanted["aggregationRule"].clone();
    } else if !missing.is_empty() {
        object["aggregationRule"]["clusterRoleSelectors"] = json!([own, missing].concat());
    }
}

fn tell_changes(plan: &Plan, target: &Target, args: &ReconcileArgs) {
    let step = match plan.step {
        Step::Nothing => return,
        Step::Create => "create",
        Step::Update => "update",
        Step::Recreate => "recreate",
    };
    let caveat = match plan.is_protected {
        true => ", but object opted out (rbac.authorization.kubernetes.io/autoupdate: false)",
        false => "",
    };
    tell(&format!("\treconciliation required {step}{caveat}"));
    let is_role = target.row.kind.ends_with("Role");
    let (noun, removes) = match is_role {
        true => ("rules", args.remove_extra_permissions),
        false => ("subjects", args.remove_extra_subjects),
    };
    let shown = if is_role { shown_rule } else { shown_subject };
    let extra = if removes { &plan.extra[..] } else { &[] };
    for (what, done, list) in [("missing", "added", &plan.missing[..]), ("extra", "removed", extra)] {
        if !list.is_empty() {
            tell(&format!("\t{what} {noun} {done}:"));
            list.iter().for_each(|one| tell(&format!("\t\t{}", shown(one))));
        }
    }
}

/// A rule as Go prints the structure.
fn shown_rule(rule: &Value) -> String {
    format!(
        "{{Verbs:{} APIGroups:{} Resources:{} ResourceNames:{} NonResourceURLs:{}}}",
        bracketed(&rule["verbs"]),
        bracketed(&rule["apiGroups"]),
        bracketed(&rule["resources"]),
        bracketed(&rule["resourceNames"]),
        bracketed(&rule["nonResourceURLs"])
    )
}

fn shown_subject(subject: &Value) -> String {
    let kind = as_text(&subject["kind"]);
    let group = as_text(&subject["apiGroup"]);
    let (name, namespace) = (as_text(&subject["name"]), as_text(&subject["namespace"]));
    format!("{{Kind:{kind} APIGroup:{group} Name:{name} Namespace:{namespace}}}")
}

#[cfg(test)]
mod tests;
