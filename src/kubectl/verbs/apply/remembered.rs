//! `kubectl apply view-last-applied | set-last-applied | edit-last-applied`: the annotation that remembers
//! what was applied.

use clap::Args;
use serde_json::{Value, json};

use super::last_applied;
use crate::change::{ChangeArgs, DryRun, ValidateArgs};
use crate::env::{Env, print, tell};
use crate::error::{Error, Result};
use crate::manifest::{FileArgs, parse_documents};
use crate::output::{json as json_output, yaml};
use crate::rest::MERGE_PATCH;
use crate::selection::{SelectorArgs, Target};
use crate::verbs::edit::editor::{self, Edited, Style};

#[derive(Args)]
pub(super) struct ViewArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    /// All objects of the types given
    #[arg(long)]
    all: bool,
    /// yaml or json
    #[arg(short = 'o', long, default_value = "yaml")]
    output: String,
}

#[derive(Args)]
pub(super) struct SetArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Make the annotation if an object has none
    #[arg(long)]
    create_annotation: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Args)]
pub(super) struct EditArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    /// Lines end as on Windows
    #[arg(long)]
    windows_line_endings: bool,
    #[command(flatten)]
    validate: ValidateArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

fn missing(target: &Target) -> Error {
    Error::message(format!("no last-applied-configuration annotation found on resource: {}", target.name))
}

pub(super) async fn view(env: &Env, args: ViewArgs) -> Result<()> {
    for target in env.targets(&args.resources, &args.files, &args.selector, args.all).await? {
        let current = env.rest().await?.get(&target.path()).await?;
        let applied = last_applied::read(&current).ok_or_else(|| missing(&target))?;
        let text = match args.output.as_str() {
            "json" => json_output::pretty(&applied),
            "yaml" => yaml::to_yaml(&applied),
            other => {
                return Err(Error::message(format!(
                    "Unexpected -o output mode: {other}, the flag 'output' must be one of yaml|json"
                )));
            }
        };
        print(&text)?;
    }
    Ok(())
}

/// All objects are looked at before the first is changed.
pub(super) async fn set(env: &Env, args: SetArgs) -> Result<()> {
    let mut changes = Vec::new();
    for target in env.objects_of(&args.files).await? {
        let Some(manifest) = &target.manifest else { continue };
        let current = env.rest().await?.get(&target.path()).await?;
        let known = last_applied::read(&current);
        if known.is_none() && !args.create_annotation {
            return Err(Error::message(format!(
                "no last-applied-configuration annotation found on resource: {}, to create the annotation, run the command with --create-annotation",
                target.name
            )));
        }
        let mut wanted = manifest.object.clone();
        last_applied::annotate(&mut wanted)?;
        if last_applied::read(&wanted) == known {
            print(&format!("set-last-applied {}: no changes required.\n", target.name))?;
            continue;
        }
        changes.push((target, current, wanted));
    }
    for (target, current, wanted) in changes {
        remember(env, &args.change, &target, current, &wanted).await?;
    }
    Ok(())
}

/// Writes the annotation that `wanted` has.
async fn remember(
    env: &Env,
    change: &ChangeArgs,
    target: &Target,
    current: Value,
    wanted: &Value,
) -> Result<()> {
    let annotation = &wanted["metadata"]["annotations"][last_applied::ANNOTATION];
    let patch = json!({"metadata": {"annotations": {last_applied::ANNOTATION: annotation}}});
    let changed = match change.mode()? {
        DryRun::Client => current,
        _ => {
            let query = change.query(super::MANAGER, &[])?;
            env.rest().await?.patch(&format!("{}{query}", target.path()), MERGE_PATCH, &patch).await?
        }
    };
    change.report(&changed, "configured")
}

pub(super) async fn edit(env: &Env, args: EditArgs) -> Result<()> {
    args.validate.parameter()?;
    for target in env.targets(&args.resources, &args.files, &SelectorArgs::default(), false).await? {
        let current = env.rest().await?.get(&target.path()).await?;
        let applied = last_applied::read(&current).ok_or_else(|| missing(&target))?;
        let is_json = args.change.output.output.as_deref() == Some("json");
        let style = Style { json: is_json, windows: args.windows_line_endings };
        let mut shown = if is_json { json_output::pretty(&applied) } else { yaml::to_yaml(&applied) };
        let mut reasons = String::new();
        loop {
            let body = match editor::edit(&shown, &reasons, style)? {
                Edited::Changed(body) => body,
                Edited::Same => {
                    tell("Edit cancelled, no changes made.");
                    break;
                }
                Edited::Empty => {
                    tell("Edit cancelled, saved file was empty.");
                    break;
                }
            };
            match changed(&body, &applied) {
                Ok(mut wanted) => {
                    last_applied::annotate(&mut wanted)?;
                    remember(env, &args.change, &target, current, &wanted).await?;
                    break;
                }
                Err(error) if body == shown => return Err(error),
                Err(error) => (shown, reasons) = (body, error.to_string()),
            }
        }
    }
    Ok(())
}

/// The edited configuration, if it is still of the same object.
fn changed(body: &str, applied: &Value) -> Result<Value> {
    let documents = parse_documents(body)
        .map_err(|error| Error::message(format!("the edited file is not YAML: {error}")))?;
    let [edited] = &documents[..] else { return Err(Error::message("the edited file must hold one object")) };
    let is_same = |path: &str| edited.pointer(path) == applied.pointer(path);
    if ["/apiVersion", "/kind", "/metadata/name"].iter().all(|path| is_same(path)) {
        return Ok(edited.clone());
    }
    Err(Error::message("At least one of apiVersion, kind and name was changed"))
}
