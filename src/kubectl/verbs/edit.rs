//! `kubectl edit`: the object as YAML in an editor; what was changed is sent as a patch.

use std::io::Write;
use std::process::Command;

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

const HEAD: &str = "# Please edit the object below. Lines beginning with a '#' will be ignored,\n# and an empty file will abort the edit. If an error occurs while saving this file will be\n# reopened with the relevant failures.\n#\n";

pub(crate) async fn run(env: &Env, args: EditArgs) -> Result<()> {
    for target in env.targets(&args.resources, &args.files, &args.selector, false).await? {
        edit(env, &target, &args).await?;
    }
    Ok(())
}

fn editor() -> String {
    let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    of("KUBE_EDITOR").or_else(|| of("EDITOR")).unwrap_or_else(|| "vi".to_string())
}

/// Lets the user change a text; the file stays if it is to be kept.
fn in_editor(path: &std::path::Path, text: &str) -> Result<String> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    let editor = editor();
    // As kubectl, so that an editor with arguments works.
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status();
    match status {
        Ok(status) if status.success() => Ok(std::fs::read_to_string(path)?),
        Ok(status) => {
            Err(Error::message(format!("there was a problem with the editor {editor:?}: {status}")))
        }
        Err(error) => Err(Error::message(format!("there was a problem with the editor {editor:?}: {error}"))),
    }
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
    let name = format!("kubectl-edit-{}.yaml", std::process::id());
    let file = std::env::temp_dir().join(name);
    let shown = yaml::to_yaml(&original);
    let mut text = format!("{HEAD}{shown}");
    let mut last = String::new();
    loop {
        let edited = in_editor(&file, &text)?;
        let body: String =
            edited.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        if body.trim().is_empty() || body == shown {
            let _ = std::fs::remove_file(&file);
            tell("Edit cancelled, no changes made.");
            return Ok(());
        }
        if body == last {
            tell(&format!("A copy of your changes has been stored to {:?}", file.display().to_string()));
            return Err(Error::message("Edit cancelled, no valid changes were saved."));
        }
        match send(env, target, args, &path, &original, &body).await {
            Ok(()) => {
                let _ = std::fs::remove_file(&file);
                return Ok(());
            }
            Err(error) => {
                tell(&error.to_string());
                let reasons: String = error.to_string().lines().map(|line| format!("# {line}\n")).collect();
                text = format!("{HEAD}{reasons}#\n{body}");
                last = body;
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
