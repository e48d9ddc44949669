//! `kubectl cordon` and `uncordon`.

use clap::Args;
use serde_json::json;

use crate::change::{ChangeArgs, DryRun};
use crate::env::Env;
use crate::error::{Error, Result, collect};
use crate::rest::STRATEGIC_PATCH;
use crate::selection::{SelectorArgs, Target};

/// Mark a node as unschedulable, or schedulable again
#[derive(Args)]
pub(crate) struct CordonArgs {
    nodes: Vec<String>,
    #[command(flatten)]
    selector: SelectorArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// The nodes of names (with or without `node/`) or of a selector.
pub(crate) async fn nodes(
    env: &Env,
    names: &[String],
    selector: &SelectorArgs,
    usage: &str,
) -> Result<Vec<Target>> {
    if names.is_empty() && !selector.given() {
        return Err(Error::message(format!("USAGE: {usage} NODE [flags]")));
    }
    let row = env.resource("nodes").await?;
    if names.is_empty() {
        return env.members(&row, selector).await;
    }
    if selector.given() {
        return Err(Error::message("error: cannot specify both a node name and a --selector option"));
    }
    let bare = |name: &String| name.rsplit('/').next().unwrap_or_default().to_string();
    Ok(names.iter().map(|name| Target::new(env, row.clone(), &bare(name))).collect())
}

pub(crate) async fn run(env: &Env, args: CordonArgs, wanted: bool) -> Result<()> {
    let usage = if wanted { "cordon" } else { "uncordon" };
    let mut errors = Vec::new();
    for node in nodes(env, &args.nodes, &args.selector, usage).await? {
        if let Err(error) = mark(env, &node, &args.change, wanted).await {
            errors.push(error);
        }
    }
    collect(errors)
}

pub(crate) async fn mark(env: &Env, node: &Target, change: &ChangeArgs, wanted: bool) -> Result<()> {
    let rest = env.rest().await?;
    let object = rest.get(&node.path()).await?;
    let done = if wanted { "cordoned" } else { "uncordoned" };
    if (object["spec"]["unschedulable"] == true) == wanted {
        return change.report(&object, &format!("already {done}"));
    }
    if change.mode()? == DryRun::Client {
        return change.report(&object, done);
    }
    let value = if wanted { json!(true) } else { json!(null) };
    let query = change.query(&format!("kubectl-{}", done.trim_end_matches("ed")), &[])?;
    let patch = json!({"spec": {"unschedulable": value}});
    let changed = rest.patch(&format!("{}{query}", node.path()), STRATEGIC_PATCH, &patch).await?;
    change.report(&changed, done)
}
