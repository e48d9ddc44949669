//! `kubectl delete`.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::age;
use crate::env::{Env, print, tell};
use crate::error::{Error, Result, collect};
use crate::manifest::FileArgs;
use crate::selection::{Selection, SelectorArgs, Target, qualified};
use crate::terminal::warn;
use crate::verbs::wait::until_gone;

/// Delete resources by file names, stdin, resources and names, or by resources and label selector
#[derive(Args)]
pub(crate) struct DeleteArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    /// All objects of the types given
    #[arg(long)]
    all: bool,
    /// background, orphan or foreground: what happens to dependents
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "background", default_missing_value = "background")]
    cascade: String,
    /// none, client or server
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "none", default_missing_value = "client")]
    dry_run: String,
    /// Delete at once and without confirmation
    #[arg(long)]
    force: bool,
    /// Seconds to end gracefully; negative means the object's own
    #[arg(long, default_value_t = -1)]
    grace_period: i64,
    /// Succeed if the object does not exist
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ignore_not_found: Option<bool>,
    /// Ask before deleting
    #[arg(short = 'i', long)]
    interactive: bool,
    /// The same as --grace-period=1
    #[arg(long)]
    now: bool,
    /// name: print only names
    #[arg(short = 'o', long)]
    output: Option<String>,
    /// How long to wait for objects to be gone; 0 takes it from the object
    #[arg(long, default_value = "0s")]
    timeout: String,
    /// Wait for objects to be gone
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    wait: bool,
    /// Path to delete as it is
    #[arg(long)]
    raw: Option<String>,
}

impl DeleteArgs {
    #[cfg(test)]
    pub(crate) fn waits(&self) -> bool {
        self.wait
    }
}

pub(crate) async fn run(env: &Env, mut args: DeleteArgs) -> Result<()> {
    settle(&mut args)?;
    if args.raw.is_some() && args.interactive {
        return Err(Error::message("--interactive can not be used with --raw"));
    }
    if let Some(path) = &args.raw {
        let answer = env.rest().await?.delete(path, &options(&args)?).await?;
        return crate::env::print_line(&answer.to_string());
    }
    let (targets, named) = select(env, &args).await?;
    if env.namespace_is_explicit() && targets.iter().any(|target| !target.row.namespaced()) {
        warn("deleting cluster-scoped resources, not scoped to the provided namespace");
    }
    if targets.is_empty() {
        if !args.ignore_not_found.unwrap_or(false) && !named {
            tell("No resources found");
        }
        return Ok(());
    }
    if args.interactive && !confirmed(&targets)? {
        return Ok(());
    }
    let mut errors = Vec::new();
    let mut deleted = Vec::new();
    for target in targets {
        match delete_one(env, &target, &args).await {
            Ok(uid) => deleted.push((target, uid)),
            // Objects of a selector may go by themselves between the list and the call.
            Err(error) if error.is_not_found() && (args.ignore_not_found.unwrap_or(!named)) => {}
            Err(error) => errors.push(match &target.manifest {
                Some(manifest) => error.doing(format!("error when deleting {:?}", manifest.source)),
                None => error,
            }),
        }
    }
    if args.wait && args.dry_run == "none" {
        let limit = Some(age::parse(&args.timeout)?).filter(|limit| !limit.is_zero());
        wait_all(env, &deleted, limit).await?;
    }
    collect(errors)
}

/// Checks flags against each other and makes implied values explicit.
fn settle(args: &mut DeleteArgs) -> Result<()> {
    if !matches!(args.dry_run.as_str(), "none" | "client" | "server") {
        return Err(Error::message(format!(
            "Invalid dry-run value ({}). Must be \"none\", \"server\", or \"client\".",
            args.dry_run
        )));
    }
    if !matches!(args.output.as_deref(), None | Some("name" | "")) {
        return Err(Error::message("unexpected -o output mode: only '-o name' is supported"));
    }
    if args.all && args.selector.given() {
        return Err(Error::message("setting 'all' parameter but found a non empty selector. "));
    }
    if args.now {
        if args.grace_period != -1 {
            return Err(Error::message("--now and --grace-period cannot be specified together"));
        }
        args.grace_period = 1;
    }
    if args.force && args.grace_period > 0 {
        return Err(Error::message("--force and --grace-period greater than 0 cannot be specified together"));
    }
    if args.grace_period == 0 && !args.force {
        // Kept from old versions: only --force deletes without any grace.
        args.grace_period = 1;
    }
    if args.force && args.grace_period < 0 {
        args.grace_period = 0;
    }
    if args.force && args.grace_period == 0 && args.dry_run == "none" {
        warn(
            "Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely.",
        );
    }
    Ok(())
}

/// `--cascade` as the server calls it.
pub(crate) fn propagation(cascade: &str) -> Result<&'static str> {
    match cascade {
        "background" | "true" => Ok("Background"),
        "orphan" | "false" => Ok("Orphan"),
        "foreground" => Ok("Foreground"),
        other => Err(Error::message(format!(
            "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
        ))),
    }
}

fn options(args: &DeleteArgs) -> Result<Value> {
    let policy = propagation(&args.cascade)?;
    let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
    if args.grace_period >= 0 {
        options["gracePeriodSeconds"] = json!(args.grace_period);
    }
    if args.dry_run == "server" {
        options["dryRun"] = json!(["All"]);
    }
    Ok(options)
}

/// The objects, and whether they were named (as opposed to found by a selector).
async fn select(env: &Env, args: &DeleteArgs) -> Result<(Vec<Target>, bool)> {
    if args.files.given() || args.resources.is_empty() {
        let targets = env.targets(&args.resources, &args.files, &args.selector, args.all).await?;
        return Ok((targets, true));
    }
    match env.select(&args.resources).await? {
        Selection::Targets(_) if args.selector.given() => {
            Err(Error::message("name cannot be provided when a selector is specified"))
        }
        Selection::Targets(_) if args.all => {
            Err(Error::message("name cannot be provided when a selector is specified"))
        }
        Selection::Targets(_) if args.selector.all_namespaces => {
            Err(Error::message("a resource cannot be retrieved by name across all namespaces"))
        }
        Selection::Targets(targets) => Ok((targets, true)),
        Selection::Collections(_) if !args.all && !args.selector.given() => {
            Err(Error::message("resource(s) were provided, but no name was specified"))
        }
        Selection::Collections(rows) => {
            let mut targets = Vec::new();
            for row in rows {
                targets.extend(env.members(&row, &args.selector).await?);
            }
            Ok((targets, false))
        }
    }
}

fn confirmed(targets: &[Target]) -> Result<bool> {
    print(&format!("You are about to delete the following {} resource(s):\n", targets.len()))?;
    for target in targets {
        print(&format!("{}\n", target.title()))?;
    }
    print("Do you want to continue? (y/N): ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    let yes = answer.trim().eq_ignore_ascii_case("y");
    if !yes {
        print("deletion is cancelled\n")?;
    }
    Ok(yes)
}

/// Deletes and says so; gives the object's uid if the server told it.
async fn delete_one(env: &Env, target: &Target, args: &DeleteArgs) -> Result<Option<String>> {
    let rest = env.rest().await?;
    let answer = if args.dry_run == "client" {
        rest.get(&target.path()).await?
    } else {
        rest.delete(&target.path(), &options(args)?).await?
    };
    if args.output.as_deref() == Some("name") {
        print(&format!("{}\n", target.title()))?;
    } else {
        let force = if args.grace_period == 0 { "force deleted" } else { "deleted" };
        let place =
            target.namespace.as_ref().map(|name| format!(" from {name} namespace")).unwrap_or_default();
        let dry = match args.dry_run.as_str() {
            "client" => " (dry run)",
            "server" => " (server dry run)",
            _ => "",
        };
        print(&format!("{} {:?} {force}{place}{dry}\n", qualified(&target.row), target.name))?;
    }
    let uid = if answer["kind"] == "Status" { &answer["details"]["uid"] } else { &answer["metadata"]["uid"] };
    Ok(uid.as_str().map(str::to_string))
}

/// Waits for every object to be gone, or replaced by another of its name.
async fn wait_all(env: &Env, deleted: &[(Target, Option<String>)], limit: Option<Duration>) -> Result<()> {
    let work = async {
        for (target, uid) in deleted {
            until_gone(env, target, uid.as_deref(), None).await?;
        }
        Ok(())
    };
    let Some(limit) = limit else { return work.await };
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let first =
                deleted.first().map(|(target, _)| format!(" on {}/{}", target.row.plural, target.name));
            Err(Error::message(format!("timed out waiting for the condition{}", first.unwrap_or_default())))
        }
    }
}
