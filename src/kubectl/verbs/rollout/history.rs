//! `kubectl rollout history` and `undo` of deployments: their replica sets are the history.

use clap::Args;
use serde_json::{Value, json};

use crate::change::{ChangeArgs, DryRun};
use crate::env::{Env, print};
use crate::error::{Error, Result};
use crate::manifest::FileArgs;
use crate::pods::selector_of;
use crate::rest::JSON_PATCH;
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

/// Revisions of a deployment in ascending order, each with its replica set.
async fn revisions(env: &Env, target: &Target) -> Result<(Value, Vec<(i64, Value)>)> {
    if target.row.kind != "Deployment" {
        return Err(Error::message(format!(
            "no history viewer has been implemented for {:?}",
            target.row.kind
        )));
    }
    let deployment = env.rest().await?.get(&target.path()).await?;
    let row = env.resource("replicasets.apps").await?;
    let selector = SelectorArgs { selector: Some(selector_of(&deployment)?), ..SelectorArgs::default() };
    let sets = env.list(&row, target.namespace.as_deref(), &selector.query(), 500).await?;
    let uid = &deployment["metadata"]["uid"];
    let owned = |set: &Value| {
        set["metadata"]["ownerReferences"].as_array().into_iter().flatten().any(|owner| owner["uid"] == *uid)
    };
    let numbered = |set: Value| {
        let number = set["metadata"]["annotations"][REVISION].as_str()?.parse().ok()?;
        Some((number, set))
    };
    let mut found: Vec<(i64, Value)> = sets.into_iter().filter(owned).filter_map(numbered).collect();
    found.sort_by_key(|(number, _)| *number);
    Ok((deployment, found))
}

pub(super) async fn show(env: &Env, args: HistoryArgs) -> Result<()> {
    if args.resources.is_empty() && !args.files.given() {
        return Err(Error::message("required resource not specified"));
    }
    for target in super::all_of(env, &args.resources, &args.files, &args.selector).await? {
        let (_, found) = revisions(env, &target).await?;
        if args.revision > 0 {
            let Some((_, set)) = found.iter().find(|(number, _)| *number == args.revision) else {
                return Err(Error::message("unable to find the specified revision"));
            };
            let mut template = set["spec"]["template"].clone();
            if let Some(cause) = set["metadata"]["annotations"][CAUSE].as_str() {
                template["metadata"]["annotations"][CAUSE] = json!(cause);
            }
            print(&format!(
                "{} with revision #{}\n{}\n",
                target.title(),
                args.revision,
                template_text(&template)
            ))?;
            continue;
        }
        let mut lines = format!("{:<10}CHANGE-CAUSE\n", "REVISION");
        for (number, set) in &found {
            let cause = set["metadata"]["annotations"][CAUSE].as_str().unwrap_or("<none>");
            lines.push_str(&format!("{number:<10}{cause}\n"));
        }
        print(&format!("{} \n{}\n", target.title(), lines))?;
    }
    Ok(())
}

pub(super) async fn undo(env: &Env, args: UndoArgs) -> Result<()> {
    if args.resources.is_empty() && !args.files.given() {
        return Err(Error::message("required resource not specified"));
    }
    for target in super::all_of(env, &args.resources, &args.files, &args.selector).await? {
        let (deployment, found) = revisions(env, &target).await?;
        if deployment["spec"]["paused"] == true {
            return Err(Error::message(format!(
                "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume {}' and try again",
                target.title()
            )));
        }
        let wanted = match args.to_revision {
            0 => found.len().checked_sub(2).and_then(|index| found.get(index)),
            revision => found.iter().find(|(number, _)| *number == revision),
        };
        let Some((_, set)) = wanted else {
            return Err(Error::message(match args.to_revision {
                0 => format!("no rollout history found for deployment {:?}", target.name),
                revision => format!("unable to find specified revision {revision} in history"),
            }));
        };
        let mut template = set["spec"]["template"].clone();
        if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
            labels.remove(HASH);
        }
        if template == deployment["spec"]["template"] {
            print(&format!(
                "{} skipped rollback (current template already matches revision {})\n",
                target.title(),
                wanted.map(|(number, _)| *number).unwrap_or_default()
            ))?;
            continue;
        }
        if args.change.mode()? == DryRun::Client {
            args.change.report(&deployment, "rolled back")?;
            continue;
        }
        let patch = json!([{"op": "replace", "path": "/spec/template", "value": template}]);
        let query = args.change.query("kubectl-rollout", &[])?;
        let changed =
            env.rest().await?.patch(&format!("{}{query}", target.path()), JSON_PATCH, &patch).await?;
        args.change.report(&changed, "rolled back")?;
    }
    Ok(())
}
