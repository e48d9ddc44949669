//! What `label` and `annotate` share: `KEY=VALUE` and `KEY-` arguments become a merge patch of a map in the
//! metadata.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::change::ChangeArgs;
use crate::env::{Env, print, tell};
use crate::error::{Error, Result, collect};
use crate::local::LocalArgs;
use crate::manifest::FileArgs;
use crate::output::title;
use crate::rest::MERGE_PATCH;
use crate::selection::SelectorArgs;

#[derive(Args)]
pub(crate) struct MetadataArgs {
    /// TYPE NAME … KEY=VALUE … KEY- …
    arguments: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    /// All objects of the types given
    #[arg(long)]
    all: bool,
    /// Allow values to be replaced
    #[arg(long)]
    overwrite: bool,
    /// Show what the objects have
    #[arg(long)]
    list: bool,
    /// Only if this is the present version
    #[arg(long)]
    resource_version: Option<String>,
    #[command(flatten)]
    local: LocalArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// `label` or `annotate`.
pub(crate) struct MetadataKind {
    pub(crate) field: &'static str,
    pub(crate) noun: &'static str,
    pub(crate) done: &'static str,
    pub(crate) undone: &'static str,
    pub(crate) manager: &'static str,
}

type Changes = Vec<(String, Option<String>)>;

/// Resources come first; from the first `KEY=VALUE` or `KEY-` on everything is a change.
fn split(arguments: &[String], noun: &str) -> Result<(Vec<String>, Changes)> {
    let is_change = |text: &String| {
        (text.contains('=') && !text.starts_with('=')) || (text.ends_with('-') && text.len() > 1)
    };
    let first = arguments.iter().position(is_change).unwrap_or(arguments.len());
    let mut changes = Changes::new();
    for text in &arguments[first..] {
        let change = match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) => (key.to_string(), Some(value.to_string())),
            (None, Some(key)) => (key.to_string(), None),
            (None, None) => {
                return Err(Error::message(format!(
                    "all resources must be specified before {noun} changes: {text}"
                )));
            }
        };
        if changes.iter().any(|(key, value)| *key == change.0 && value.is_some() != change.1.is_some()) {
            return Err(Error::message(format!(
                "can not both modify and remove {} {noun} in the same command",
                noun_article(noun)
            )));
        }
        changes.push(change);
    }
    Ok((arguments[..first].to_vec(), changes))
}

fn noun_article(noun: &str) -> &'static str {
    if noun.starts_with('a') { "an" } else { "a" }
}

pub(crate) async fn run(env: &Env, args: MetadataArgs, what: &MetadataKind) -> Result<()> {
    let (resources, changes) = split(&args.arguments, what.noun)?;
    if resources.is_empty() && !args.files.given() {
        return Err(Error::message(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        ));
    }
    if changes.is_empty() && !args.list {
        return Err(Error::message(format!("at least one {} update is required", what.noun)));
    }
    let mut errors = Vec::new();
    let targets = env
        .local_or_targets(&args.local, &args.change, &resources, &args.files, &args.selector, args.all)
        .await?;
    let several = targets.len() > 1;
    for target in targets {
        let outcome = async {
            let object = env.present(&target, &args.local).await?;
            change(env, &args, what, &changes, &target.path(), object, several).await
        };
        if let Err(error) = outcome.await {
            errors.push(error);
        }
    }
    collect(errors)
}

/// `--list`: what the object has now, in place of the line that says what was done.
fn list(object: &Value, what: &MetadataKind, several: bool) -> Result<()> {
    if several {
        let about = title(object);
        tell(&format!("Listing {}s for {about}:", what.noun));
    }
    let indent = if several { " " } else { "" };
    for (key, value) in object["metadata"][what.field].as_object().into_iter().flatten() {
        print(&format!("{indent}{key}={}\n", value.as_str().unwrap_or_default()))?;
    }
    Ok(())
}

async fn change(
    env: &Env,
    args: &MetadataArgs,
    what: &MetadataKind,
    changes: &Changes,
    path: &str,
    object: Value,
    several: bool,
) -> Result<()> {
    let present = object["metadata"][what.field].as_object().cloned().unwrap_or_default();
    let mut patch = Map::new();
    let (mut set, mut removed) = (false, false);
    let quiet = args.list || args.local.only_prints(&args.change)?;
    for (key, value) in changes {
        let old = present.get(key).and_then(Value::as_str);
        match value {
            Some(value) => {
                if old.is_some_and(|old| old != value) && !args.overwrite {
                    let old = old.unwrap_or_default();
                    let text = format!("'{key}' already has a value ({old})");
                    return Err(Error::message(if what.field == "labels" {
                        format!("{text}, and --overwrite is false")
                    } else {
                        format!("--overwrite is false but found the following declared annotation(s): {text}")
                    }));
                }
                if old != Some(value.as_str()) {
                    patch.insert(key.clone(), json!(value));
                    set = true;
                }
            }
            None if old.is_none() && quiet => {}
            None if old.is_none() => tell(&format!("{} {key:?} not found.", what.noun)),
            None => {
                patch.insert(key.clone(), Value::Null);
                removed = true;
            }
        }
    }
    let done = match (set, removed) {
        (false, true) => what.undone.to_string(),
        (false, false) if what.field == "labels" => format!("not {}", what.done),
        _ => what.done.to_string(),
    };
    let report = |object: &Value| {
        if args.list { list(object, what, several) } else { args.change.report(object, &done) }
    };
    if patch.is_empty() && args.resource_version.is_none() {
        return report(&object);
    }
    let mut metadata = json!({what.field: patch});
    if let Some(version) = &args.resource_version {
        metadata["resourceVersion"] = json!(version);
    }
    let body = json!({"metadata": metadata});
    if args.local.only_prints(&args.change)? {
        let mut changed = object;
        api::patch::merge_patch(&mut changed, &body).map_err(|error| Error::message(error.to_string()))?;
        return report(&changed);
    }
    let query = args.change.query(what.manager, &[])?;
    let changed = env.rest().await?.patch(&format!("{path}{query}"), MERGE_PATCH, &body).await?;
    report(&changed)
}

#[cfg(test)]
mod tests;
