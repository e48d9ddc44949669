//! `kubectl rollout`: status, history, restart, undo, pause, resume.

mod history;
mod status;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::change::ChangeArgs;
use crate::env::Env;
use crate::error::{Error, Result, collect};
use crate::manifest::FileArgs;
use crate::rest::STRATEGIC_PATCH;
use crate::selection::{SelectorArgs, Target};

const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// Manage the rollout of one or many resources
#[derive(Args)]
pub(crate) struct RolloutArgs {
    #[command(subcommand)]
    command: RolloutCommand,
}

#[derive(Subcommand)]
enum RolloutCommand {
    /// View rollout history
    History(history::HistoryArgs),
    /// Mark the resource as paused
    Pause(OnArgs),
    /// Restart a resource
    Restart(OnArgs),
    /// Resume a paused resource
    Resume(OnArgs),
    /// Show the status of the rollout
    Status(status::StatusArgs),
    /// Undo a previous rollout
    Undo(history::UndoArgs),
}

#[derive(Args)]
struct OnArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(crate) async fn run(env: &Env, args: RolloutArgs) -> Result<()> {
    match args.command {
        RolloutCommand::Status(args) => status::run(env, args).await,
        RolloutCommand::History(args) => history::show(env, args).await,
        RolloutCommand::Undo(args) => history::undo(env, args).await,
        RolloutCommand::Restart(args) => each(env, &args, "restarted", restart).await,
        RolloutCommand::Pause(args) => each(env, &args, "paused", pause).await,
        RolloutCommand::Resume(args) => each(env, &args, "resumed", resume).await,
    }
}

async fn each(
    env: &Env,
    args: &OnArgs,
    done: &str,
    plan: fn(&Target, &Value) -> Result<Value>,
) -> Result<()> {
    if args.resources.is_empty() && !args.files.given() {
        return Err(Error::message("required resource not specified"));
    }
    let rest = env.rest().await?;
    let mut errors = Vec::new();
    for target in all_of(env, &args.resources, &args.files, &args.selector).await? {
        let outcome = async {
            let object = rest.get(&target.path()).await?;
            let patch = plan(&target, &object)?;
            let query = args.change.query("kubectl-rollout", &[])?;
            let changed = if args.change.mode()? == crate::change::DryRun::Client {
                object
            } else {
                rest.patch(&format!("{}{query}", target.path()), STRATEGIC_PATCH, &patch).await?
            };
            args.change.report(&changed, done)
        };
        if let Err(error) = outcome.await {
            errors.push(error);
        }
    }
    collect(errors)
}

/// Named objects, or all of the types given.
async fn all_of(
    env: &Env,
    resources: &[String],
    files: &FileArgs,
    selector: &SelectorArgs,
) -> Result<Vec<Target>> {
    let by_type = resources.len() == 1 && !resources[0].contains('/') && !selector.given();
    env.targets(resources, files, selector, by_type).await
}

fn restart(target: &Target, object: &Value) -> Result<Value> {
    match target.row.kind.as_ref() {
        "Deployment" | "DaemonSet" | "StatefulSet" => {}
        _ => {
            return Err(Error::message(format!(
                "{} {:?} restarting is not supported",
                target.row.group_resource(),
                target.name
            )));
        }
    }
    if object["spec"]["paused"] == true {
        return Err(Error::message(format!(
            "{} {:?} can't restart paused deployment (run rollout resume first)",
            target.row.group_resource(),
            target.name
        )));
    }
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    if object["spec"]["template"]["metadata"]["annotations"][RESTARTED] == now.as_str() {
        return Err(Error::message(format!(
            "failed to create patch for {}: if restart has already been triggered within the past second, please wait before attempting to trigger another",
            target.name
        )));
    }
    let annotations = json!({RESTARTED: now});
    Ok(json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}))
}

fn only_deployments(target: &Target, doing: &str) -> Result<()> {
    if target.row.kind == "Deployment" {
        return Ok(());
    }
    Err(Error::message(format!("{} {:?} {doing} is not supported", target.row.group_resource(), target.name)))
}

fn pause(target: &Target, object: &Value) -> Result<Value> {
    only_deployments(target, "pausing")?;
    if object["spec"]["paused"] == true {
        return Err(Error::message(format!(
            "{} {:?} is already paused",
            target.row.group_resource(),
            target.name
        )));
    }
    Ok(json!({"spec": {"paused": true}}))
}

fn resume(target: &Target, object: &Value) -> Result<Value> {
    only_deployments(target, "resuming")?;
    if object["spec"]["paused"] != true {
        return Err(Error::message(format!(
            "{} {:?} is not paused",
            target.row.group_resource(),
            target.name
        )));
    }
    Ok(json!({"spec": {"paused": null}}))
}
