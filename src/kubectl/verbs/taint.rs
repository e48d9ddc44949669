//! `kubectl taint`.

use clap::Args;
use serde_json::{Value, json};

use crate::change::{ChangeArgs, DryRun, ValidateArgs};
use crate::env::Env;
use crate::error::{Error, Result, collect};
use crate::rest::MERGE_PATCH;
use crate::selection::{SelectorArgs, Target};

/// Update the taints on one or more nodes
#[derive(Args)]
pub(crate) struct TaintArgs {
    /// node NAME … KEY[=VALUE]:EFFECT … KEY[:EFFECT]- …
    arguments: Vec<String>,
    #[command(flatten)]
    selector: SelectorArgs,
    /// All nodes
    #[arg(long)]
    all: bool,
    /// Allow taints to be replaced
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    validate: ValidateArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, PartialEq)]
enum Change {
    Add { key: String, value: String, effect: String },
    Remove { key: String, effect: Option<String> },
}

fn parse(text: &str) -> Result<Change> {
    if let Some(rest) = text.strip_suffix('-') {
        let (pair, effect) = rest.split_once(':').map_or((rest, None), |(pair, effect)| (pair, Some(effect)));
        let key = pair.split('=').next().unwrap_or_default().to_string();
        return Ok(Change::Remove { key, effect: effect.map(str::to_string) });
    }
    let wrong = || Error::message(format!("invalid taint spec: {text}"));
    let (pair, effect) = text.split_once(':').ok_or_else(wrong)?;
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(Error::usage(
            "kubectl taint",
            format!("invalid taint effect: {effect}, unsupported taint effect"),
        ));
    }
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    Ok(Change::Add { key: key.to_string(), value: value.to_string(), effect: effect.to_string() })
}

pub(crate) async fn run(env: &Env, args: TaintArgs) -> Result<()> {
    let is_change = |text: &String| text.contains('=') || text.contains(':') || text.ends_with('-');
    let first = args.arguments.iter().position(is_change).unwrap_or(args.arguments.len());
    let (resources, changes) = args.arguments.split_at(first);
    if changes.is_empty() {
        return Err(Error::message("at least one taint update is required"));
    }
    let changes: Vec<Change> = changes.iter().map(|one| parse(one)).collect::<Result<_>>()?;
    let targets = env.targets(resources, &Default::default(), &args.selector, args.all).await?;
    let mut errors = Vec::new();
    for target in targets {
        if target.row.kind != "Node" {
            return Err(Error::message(format!(
                "invalid resource type {}, only node is supported",
                target.row.plural
            )));
        }
        if let Err(error) = taint(env, &target, &args, &changes).await {
            errors.push(error);
        }
    }
    collect(errors)
}

async fn taint(env: &Env, node: &Target, args: &TaintArgs, changes: &[Change]) -> Result<()> {
    let rest = env.rest().await?;
    let object = rest.get(&node.path()).await?;
    let mut taints: Vec<Value> = object["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let (mut added, mut removed) = (false, false);
    for change in changes {
        match change {
            Change::Add { key, value, effect } => {
                let same = |one: &Value| one["key"] == key.as_str() && one["effect"] == effect.as_str();
                if taints.iter().any(same) && !args.overwrite {
                    return Err(Error::message(format!(
                        "node {} already has {key} taint(s) with same effect(s) and --overwrite is false",
                        node.name
                    )));
                }
                taints.retain(|one| !same(one));
                let mut taint = json!({"key": key, "effect": effect});
                if !value.is_empty() {
                    taint["value"] = json!(value);
                }
                taints.push(taint);
                added = true;
            }
            Change::Remove { key, effect } => {
                let before = taints.len();
                taints.retain(|one| {
                    one["key"] != key.as_str()
                        || effect.as_deref().is_some_and(|effect| one["effect"] != effect)
                });
                if taints.len() == before {
                    let shown =
                        effect.as_ref().map_or_else(|| key.clone(), |effect| format!("{key}:{effect}"));
                    return Err(Error::message(format!("taint {shown:?} not found")));
                }
                removed = true;
            }
        }
    }
    let done = match (added, removed) {
        (true, true) => "modified",
        (false, true) => "untainted",
        _ => "tainted",
    };
    if args.change.mode()? == DryRun::Client {
        return args.change.report(&object, done);
    }
    // The version makes sure that no taint set by a controller meanwhile is lost.
    let patch = json!({"metadata": {"resourceVersion": object["metadata"]["resourceVersion"]}, "spec": {"taints": taints}});
    let query = args.change.query("kubectl-taint", &[args.validate.parameter()?])?;
    let changed = rest.patch(&format!("{}{query}", node.path()), MERGE_PATCH, &patch).await?;
    args.change.report(&changed, done)
}
