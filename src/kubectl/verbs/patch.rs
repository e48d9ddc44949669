//! `kubectl patch`.

use clap::Args;

use crate::change::{ChangeArgs, DryRun};
use crate::env::{Env, print};
use crate::error::{Error, Result, collect};
use crate::local::LocalArgs;
use crate::manifest::{FileArgs, parse_yaml};
use crate::output::title;
use crate::rest::{JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH};
use crate::selection::SelectorArgs;

/// Update fields of a resource
#[derive(Args)]
pub(crate) struct PatchArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    /// The patch, JSON or YAML
    #[arg(short = 'p', long)]
    patch: Option<String>,
    /// File of the patch
    #[arg(long)]
    patch_file: Option<String>,
    /// strategic, merge or json
    #[arg(long = "type", default_value = "strategic")]
    kind: String,
    /// Subresource to patch instead of the object
    #[arg(long)]
    subresource: Option<String>,
    #[command(flatten)]
    local: LocalArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(crate) async fn run(env: &Env, args: PatchArgs) -> Result<()> {
    let (media_type, kind) = match args.kind.as_str() {
        "strategic" => (STRATEGIC_PATCH, api::PatchKind::Strategic),
        "merge" => (MERGE_PATCH, api::PatchKind::Merge),
        "json" => (JSON_PATCH, api::PatchKind::Json),
        other => {
            return Err(Error::message(format!(
                "--type must be one of [json merge strategic], not {other:?}"
            )));
        }
    };
    let text = match (&args.patch, &args.patch_file) {
        (Some(text), None) => text.clone(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map_err(|error| Error::message(format!("unable to read patch file: open {path}: {error}")))?,
        (Some(_), Some(_)) => return Err(Error::message("cannot specify --patch and --patch-file together")),
        (None, None) => {
            return Err(Error::message(
                "must specify --patch or --patch-file containing the contents of the patch",
            ));
        }
    };
    let body =
        parse_yaml(&text).map_err(|error| Error::message(format!("unable to parse {text:?}: {error}")))?;
    let mut errors = Vec::new();
    let none = SelectorArgs::default();
    let targets =
        env.local_or_targets(&args.local, &args.change, &args.resources, &args.files, &none, false).await?;
    for target in targets {
        let outcome = async {
            let path = match &args.subresource {
                Some(subresource) => target.sub_path(subresource),
                None => target.path(),
            };
            let before = match args.local.local {
                true => env.present(&target, &args.local).await?,
                false => env.rest().await?.get(&path).await?,
            };
            let after = if args.local.only_prints(&args.change)? {
                let mut changed = before.clone();
                let patch = api::Patch::new(kind, body.clone());
                api::patch::apply(api::schema::for_kind(&target.row), &mut changed, &patch)
                    .map_err(|error| Error::message(error.to_string()))?;
                changed
            } else {
                let query = args.change.query("kubectl-patch", &[])?;
                env.rest().await?.patch(&format!("{path}{query}"), media_type, &body).await?
            };
            let done = if before == after { "patched (no change)" } else { "patched" };
            // What would be patched is said as if it were, as kubectl has it.
            match args.change.mode()? == DryRun::Client && args.change.output.format()?.is_human() {
                true => print(&format!("{} {done}\n", title(&after))),
                false => args.change.report(&after, done),
            }
        };
        if let Err(error) = outcome.await {
            errors.push(error);
        }
    }
    collect(errors)
}
