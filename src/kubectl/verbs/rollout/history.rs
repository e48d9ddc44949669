//! `kubectl rollout history` and `undo`: a deployment's replica sets are its history, controller revisions
//! that of daemon sets and stateful sets.

use clap::Args;
use serde_json::{Value, json};

use crate::change::{ChangeArgs, DryRun};
use crate::env::{Env, print};
use crate::error::{Error, Result};
use crate::manifest::FileArgs;
use crate::output::OutputArgs;
use crate::pods::selector_of;
use crate::rest::{JSON_PATCH, STRATEGIC_PATCH};
use crate::selection::{SelectorArgs, Target};
use crate::verbs::describe::template_text;

const REVISION: &str = "deployment.kubernetes.io/revision";
const CAUSE: &str = "kubernetes.io/change-cause";
const HASH: &str = "pod-template-hash";

#[derive(Args)]
pub(super) struct HistoryArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    /// Details of this revision
    #[arg(long, default_value_t = 0)]
    revision: i64,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
pub(super) struct UndoArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    /// The revision to go back to; 0 means the one before
    #[arg(long, default_value_t = 0)]
    to_revision: i64,
    #[command(flatten)]
    change: ChangeArgs,
}

/// A state that an object has had.
struct Revision {
    number: i64,
    cause: Option<String>,
    /// The replica set, or the object as it was then.
    object: Value,
    template: Value,
    /// What brings it back.
    patch: (&'static str, Value),
}

/// An object and its revisions in ascending order.
async fn revisions(env: &Env, target: &Target) -> Result<(Value, Vec<Revision>)> {
    let plural = match &*target.row.kind {
        "Deployment" => "replicasets.apps",
        "DaemonSet" | "StatefulSet" => "controllerrevisions.apps",
        kind => {
            let group = &target.row.group;
            return Err(Error::message(format!(
                "error retrieving history for {kind:?}, no visitor method exists for {{{group} {kind}}}"
            )));
        }
    };
    let object = env.rest().await?.get(&target.path()).await?;
    let row = env.resource(plural).await?;
    let selector = SelectorArgs { selector: Some(selector_of(&object)?), ..SelectorArgs::default() };
    let all = env.list(&row, target.namespace.as_deref(), &selector.query(), 500).await?;
    let uid = &object["metadata"]["uid"];
    let owned = |one: &Value| {
        one["metadata"]["ownerReferences"].as_array().into_iter().flatten().any(|owner| owner["uid"] == *uid)
    };
    let mut found = Vec::new();
    for one in all.into_iter().filter(owned) {
        let revision = match plural {
            "replicasets.apps" => of_replica_set(one),
            _ => Some(of_controller_revision(target, &object, &one)?),
        };
        found.extend(revision);
    }
    found.sort_by_key(|revision| revision.number);
    Ok((object, found))
}

fn cause_of(object: &Value) -> Option<String> {
    object["metadata"]["annotations"][CAUSE].as_str().map(str::to_string)
}

fn of_replica_set(set: Value) -> Option<Revision> {
    let number = set["metadata"]["annotations"][REVISION].as_str()?.parse().ok()?;
    let mut template = set["spec"]["template"].clone();
    let mut restored = template.clone();
    if let Some(labels) = restored["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH);
    }
    let cause = cause_of(&set);
    if let Some(cause) = &cause {
        template["metadata"]["annotations"][CAUSE] = json!(cause);
    }
    let patch = json!([{"op": "replace", "path": "/spec/template", "value": restored}]);
    Some(Revision { number, cause, object: set, template, patch: (JSON_PATCH, patch) })
}

/// A controller revision holds a patch that makes the object what it was.
fn of_controller_revision(target: &Target, object: &Value, revision: &Value) -> Result<Revision> {
    let patch = revision["data"].clone();
    let mut restored = object.clone();
    let ty = api::schema::for_kind(&target.row);
    api::patch::apply(ty, &mut restored, &api::Patch::strategic(patch.clone()))
        .map_err(|error| Error::message(error.to_string()))?;
    Ok(Revision {
        number: revision["revision"].as_i64().unwrap_or_default(),
        cause: cause_of(revision),
        template: restored["spec"]["template"].clone(),
        object: restored,
        patch: (STRATEGIC_PATCH, patch),
    })
}

pub(super) async fn show(env: &Env, args: HistoryArgs) -> Result<()> {
    if args.resources.is_empty() && !args.files.given() {
        return Err(Error::message("required resource not specified"));
    }
    let format = args.output.format()?;
    for target in super::all_of(env, &args.resources, &args.files, &args.selector).await? {
        let (_, found) = revisions(env, &target).await?;
        if !format.is_human() {
            let wanted = |one: &&Revision| args.revision == 0 || one.number == args.revision;
            for one in found.iter().filter(wanted) {
                print(&format.text(&one.object, args.output.show_managed_fields, false)?)?;
            }
            continue;
        }
        if args.revision > 0 {
            let Some(revision) = found.iter().find(|one| one.number == args.revision) else {
                return Err(Error::message("unable to find the specified revision"));
            };
            let (title, number) = (target.title(), args.revision);
            let text = template_text(&revision.template);
            print(&format!("{title} with revision #{number}\n{text}\n"))?;
            continue;
        }
        let mut lines = format!("{:<10}CHANGE-CAUSE\n", "REVISION");
        for one in &found {
            let cause = one.cause.as_deref().unwrap_or("<none>");
            lines.push_str(&format!("{:<10}{cause}\n", one.number));
        }
        print(&format!("{} \n{lines}\n", target.title()))?;
    }
    Ok(())
}

pub(super) async fn undo(env: &Env, args: UndoArgs) -> Result<()> {
    if args.resources.is_empty() && !args.files.given() {
        return Err(Error::message("required resource not specified"));
    }
    for target in super::all_of(env, &args.resources, &args.files, &args.selector).await? {
        undo_one(env, &args, &target).await?;
    }
    Ok(())
}

async fn undo_one(env: &Env, args: &UndoArgs, target: &Target) -> Result<()> {
    let (object, found) = revisions(env, target).await?;
    let title = target.title();
    if object["spec"]["paused"] == true {
        return Err(Error::message(format!(
            "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume {title}' and try again"
        )));
    }
    let wanted = match args.to_revision {
        0 => found.len().checked_sub(2).and_then(|index| found.get(index)),
        revision => found.iter().find(|one| one.number == revision),
    };
    let Some(wanted) = wanted else {
        return Err(Error::message(match args.to_revision {
            0 if target.row.kind == "Deployment" => {
                format!("no rollout history found for deployment {:?}", target.name)
            }
            0 => "no last revision to roll back to".to_string(),
            revision => format!("unable to find specified revision {revision} in history"),
        }));
    };
    let restored = match &wanted.patch {
        (JSON_PATCH, patch) => &patch[0]["value"],
        _ => &wanted.template,
    };
    if *restored == object["spec"]["template"] {
        let number = wanted.number;
        return print(&format!(
            "{title} skipped rollback (current template already matches revision {number})\n"
        ));
    }
    if args.change.mode()? == DryRun::Client {
        return args.change.report(&object, "rolled back");
    }
    let (media_type, patch) = &wanted.patch;
    let query = args.change.query("kubectl-rollout", &[])?;
    let changed = env.rest().await?.patch(&format!("{}{query}", target.path()), media_type, patch).await?;
    args.change.report(&changed, "rolled back")
}
