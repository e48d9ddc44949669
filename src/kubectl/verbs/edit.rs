//! `kubectl edit`: the object as YAML in an editor; what was changed is sent as a patch.

pub(crate) mod editor;

use clap::Args;
use serde_json::Value;

use crate::change::ChangeArgs;
use crate::env::{Env, print, tell};
use crate::error::{Error, Result};
use crate::manifest::{FileArgs, parse_documents};
use crate::output::yaml;
use crate::rest::{MERGE_PATCH, STRATEGIC_PATCH};
use crate::selection::{SelectorArgs, Target};
use crate::verbs::apply::three_way;

use editor::Edited;

/// Edit a resource on the server
#[derive(Args)]
pub(crate) struct EditArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    /// Subresource to edit instead of the object
    #[arg(long)]
    subresource: Option<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(crate) async fn run(env: &Env, args: EditArgs) -> Result<()> {
    for target in env.targets(&args.resources, &args.files, &args.selector, false).await? {
        edit(env, &target, &args).await?;
    }
    Ok(())
}

async fn edit(env: &Env, target: &Target, args: &EditArgs) -> Result<()> {
    let rest = env.rest().await?;
    let path = match &args.subresource {
        Some(subresource) => target.sub_path(subresource),
        None => target.path(),
    };
    let mut original = rest.get(&path).await?;
    if let Some(metadata) = original.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let mut shown = yaml::to_yaml(&original);
    let mut reasons = String::new();
    loop {
        let body = match editor::edit(&shown, &reasons)? {
            Edited::Changed(body) => body,
            Edited::Same => {
                tell("Edit cancelled, no changes made.");
                return Ok(());
            }
        };
        if !reasons.is_empty() && body == shown {
            let kept = editor::keep(&body)?;
            tell(&format!("A copy of your changes has been stored to {:?}", kept.display().to_string()));
            return Err(Error::message("Edit cancelled, no valid changes were saved."));
        }
        match send(env, target, args, &path, &original, &body).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                reasons = error.to_string();
                tell(&reasons);
                shown = body;
            }
        }
    }
}

async fn send(
    env: &Env,
    target: &Target,
    args: &EditArgs,
    path: &str,
    original: &Value,
    body: &str,
) -> Result<()> {
    let documents = parse_documents(body)
        .map_err(|error| Error::message(format!("the edited file is not YAML: {error}")))?;
    let [edited] = &documents[..] else { return Err(Error::message("the edited file must hold one object")) };
    if edited["metadata"]["name"] != original["metadata"]["name"] {
        return Err(Error::message("At least one of apiVersion, kind and name was changed"));
    }
    let ty = api::schema::for_kind(&target.row);
    let patch = three_way::patch(ty, original, edited, original);
    if patch.as_object().is_none_or(serde_json::Map::is_empty) {
        return print(&format!("{} skipped\n", target.title()));
    }
    let media_type = if ty.is_some() { STRATEGIC_PATCH } else { MERGE_PATCH };
    let query = args.change.query("kubectl-edit", &["fieldValidation=Strict"])?;
    let changed = env.rest().await?.patch(&format!("{path}{query}"), media_type, &patch).await?;
    args.change.report(&changed, "edited")
}
