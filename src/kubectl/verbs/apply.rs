//! `kubectl apply`: a three-way merge of what was applied before, what is wanted and what is there; or the
//! server's apply.

pub(crate) mod last_applied;
pub(crate) mod prune;
mod remembered;
mod server_side;
pub(crate) mod three_way;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::age;
use crate::change::{ChangeArgs, DryRun, ValidateArgs};
use crate::env::Env;
use crate::error::{Error, Result, collect};
use crate::manifest::FileArgs;
use crate::output::json;
use crate::rest::{MERGE_PATCH, STRATEGIC_PATCH};
use crate::selection::Target;
use crate::terminal::warn;
use crate::verbs::delete::propagation;

/// Apply a configuration to a resource by file name or stdin
#[derive(Args)]
pub(crate) struct ApplyArgs {
    #[command(subcommand)]
    command: Option<ApplyCommand>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    validate: ValidateArgs,
    /// Only objects with these labels
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Apply on the server, which keeps who owns which field
    #[arg(long)]
    server_side: bool,
    #[command(flatten)]
    prune: prune::PruneArgs,
    /// Prune among all objects, not those with some labels
    #[arg(long)]
    all: bool,
    /// Delete and create again what cannot be patched
    #[arg(long)]
    force: bool,
    /// Overwrite changes made by others
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    overwrite: String,
    /// Take over fields of other managers
    #[arg(long)]
    force_conflicts: bool,
    /// Wait for objects that are deleted by --force
    #[arg(long)]
    wait: bool,
    /// background, orphan or foreground: what happens to dependents of what is deleted
    #[arg(long, default_value = "background", num_args = 0..=1, require_equals = true, default_missing_value = "background")]
    cascade: String,
    /// Seconds to end gracefully what is deleted, with --force; negative means the object's own
    #[arg(long, default_value_t = -1)]
    grace_period: i64,
    /// How long to wait for what is deleted, with --force; 0 means without limit
    #[arg(long, default_value = "0s")]
    timeout: String,
    /// Make the patch from what is known of the kind; false: as for kinds that nothing is known of
    #[arg(long, default_value_t = true)]
    openapi_patch: bool,
    /// Subresource to apply to instead of the object, with --server-side
    #[arg(long)]
    subresource: Option<String>,
}

#[derive(Subcommand)]
enum ApplyCommand {
    /// View the latest last-applied-configuration annotations of an object
    #[command(name = "view-last-applied")]
    View(remembered::ViewArgs),
    /// Set the last-applied-configuration annotation on a live object to match the contents of a file
    #[command(name = "set-last-applied")]
    Set(remembered::SetArgs),
    /// Edit latest last-applied-configuration annotations of a resource/object
    #[command(name = "edit-last-applied")]
    Edit(remembered::EditArgs),
}

pub(crate) const MANAGER: &str = "kubectl-client-side-apply";
/// Attempts when someone else changes the object between reading and patching it.
const ATTEMPTS: usize = 5;

pub(crate) async fn run(env: &Env, mut args: ApplyArgs) -> Result<()> {
    match args.command.take() {
        Some(ApplyCommand::View(view)) => return remembered::view(env, view).await,
        Some(ApplyCommand::Set(set)) => return remembered::set(env, set).await,
        Some(ApplyCommand::Edit(edit)) => return remembered::edit(env, edit).await,
        None => {}
    }
    server_side::check(&args)?;
    check_deletion(&args)?;
    prune::check(&args)?;
    if !args.files.given() {
        return Err(Error::message("must specify one of -f and -k"));
    }
    let mut errors = Vec::new();
    let mut visited = prune::Visited::default();
    let mut targets = env.objects_of(&args.files).await?;
    keep_selected(&mut targets, args.selector.as_deref())?;
    for target in targets {
        let applied = match args.server_side {
            true => server_side::apply(env, &target, &args).await,
            false => apply_one(env, &target, &args).await,
        };
        match applied {
            Ok(object) => visited.note(&target, &object),
            Err(error) => errors.push(error),
        }
    }
    collect(errors)?;
    if args.prune.prune {
        prune::prune(env, &args, &visited).await?;
    }
    Ok(())
}

/// Flags of deletions, which only --force makes.
fn check_deletion(args: &ApplyArgs) -> Result<()> {
    propagation(&args.cascade)?;
    age::parse(&args.timeout)?;
    if args.subresource.is_some() && !args.server_side {
        return Err(Error::message("--subresource can only be used with --server-side"));
    }
    Ok(())
}

/// Drops the objects without the labels that are asked for.
pub(crate) fn keep_selected(targets: &mut Vec<Target>, selector: Option<&str>) -> Result<()> {
    if let Some(selector) = selector {
        let selector =
            api::LabelSelector::parse(selector).map_err(|error| Error::message(error.to_string()))?;
        targets.retain(|target| selector.matches(&labels_of(target)));
    }
    Ok(())
}

fn labels_of(target: &Target) -> std::collections::BTreeMap<String, String> {
    let labels = target.manifest.as_ref().map(|manifest| &manifest.object["metadata"]["labels"]);
    labels.and_then(|labels| serde_json::from_value(labels.clone()).ok()).unwrap_or_default()
}

/// The object as it is then; as it is now where nothing is sent.
async fn apply_one(env: &Env, target: &Target, args: &ApplyArgs) -> Result<Value> {
    let Some(manifest) = &target.manifest else { return Ok(Value::Null) };
    if target.name.is_empty() {
        return Err(Error::message(format!(
            "error when retrieving current configuration of:\n{}\nfrom server for: {:?}: resource name may not be empty",
            about(target),
            manifest.source
        )));
    }
    let mut modified = manifest.object.clone();
    last_applied::annotate(&mut modified)?;
    let rest = env.rest().await?;
    let current = match rest.get(&target.path()).await {
        Ok(current) => current,
        Err(error) if error.is_not_found() => {
            return create(env, target, args, &modified, &manifest.source).await;
        }
        Err(error) => {
            let doing = format!(
                "error when retrieving current configuration of:\n{}\nfrom server for: {:?}",
                about(target),
                manifest.source
            );
            return Err(error.doing(doing));
        }
    };
    if last_applied::read(&current).is_none() {
        warn(&format!(
            "resource {}/{} is missing the kubectl.kubernetes.io/last-applied-configuration annotation which is required by kubectl apply. kubectl apply should only be used on resources created declaratively by either kubectl create --save-config or kubectl apply. The missing annotation will be patched automatically.",
            target.row.plural, target.name
        ));
    }
    patch(env, target, args, &modified, current).await
}

fn about(target: &Target) -> String {
    let row = &target.row;
    let version = format!("{}/{}", row.group, row.version);
    format!(
        "Resource: \"{version}, Resource={}\", GroupVersionKind: \"{version}, Kind={}\"\nName: {:?}, Namespace: {:?}",
        row.plural,
        row.kind,
        target.name,
        target.namespace.as_deref().unwrap_or_default()
    )
}

async fn create(env: &Env, target: &Target, args: &ApplyArgs, object: &Value, source: &str) -> Result<Value> {
    if args.change.mode()? == DryRun::Client {
        args.change.report(object, "created")?;
        return Ok(object.clone());
    }
    let query = args.change.query(MANAGER, &[args.validate.parameter()?])?;
    let created = env.rest().await?.post(&format!("{}{query}", target.collection()), object).await;
    let created = created.map_err(|error| error.doing(format!("error when creating {source:?}")))?;
    args.change.report(&created, "created")?;
    Ok(created)
}

async fn patch(
    env: &Env,
    target: &Target,
    args: &ApplyArgs,
    modified: &Value,
    mut current: Value,
) -> Result<Value> {
    for attempt in 1.. {
        let original = last_applied::read(&current).unwrap_or(Value::Null);
        let ty = api::schema::for_kind(&target.row).filter(|_| args.openapi_patch);
        let patch = three_way::patch(ty, &original, modified, &current);
        if patch.as_object().is_none_or(serde_json::Map::is_empty) {
            args.change.report(&current, "unchanged")?;
            return Ok(current);
        }
        if args.change.mode()? == DryRun::Client {
            args.change.report(modified, "configured")?;
            return Ok(current);
        }
        let media_type = if ty.is_some() { STRATEGIC_PATCH } else { MERGE_PATCH };
        let query = args.change.query(MANAGER, &[args.validate.parameter()?])?;
        let rest = env.rest().await?;
        match rest.patch(&format!("{}{query}", target.path()), media_type, &patch).await {
            Ok(changed) => {
                args.change.report(&changed, "configured")?;
                return Ok(changed);
            }
            Err(error) if error.api().is_some_and(api::ApiError::is_conflict) && attempt < ATTEMPTS => {
                current = rest.get(&target.path()).await?;
            }
            Err(error) if args.force && error.api().is_some_and(|error| error.reason() == "Invalid") => {
                return recreate(env, target, args, modified).await;
            }
            Err(error) => {
                let source =
                    target.manifest.as_ref().map(|manifest| manifest.source.as_str()).unwrap_or_default();
                return Err(error.doing(format!(
                    "error when applying patch:\n{}\nto:\n{}\nfor: {source:?}: error when patching {source:?}",
                    json::compact(&patch),
                    about(target)
                )));
            }
        }
    }
    Ok(current)
}

/// `--force`: what cannot be patched is deleted and made anew.
async fn recreate(env: &Env, target: &Target, args: &ApplyArgs, object: &Value) -> Result<Value> {
    let options = json!({
        "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": args.grace_period.max(0),
        "propagationPolicy": propagation(&args.cascade)?,
    });
    env.rest().await?.delete(&target.path(), &options).await?;
    crate::verbs::wait::until_gone_within(env, target, None, age::parse(&args.timeout)?).await?;
    let source = target.manifest.as_ref().map(|manifest| manifest.source.clone()).unwrap_or_default();
    let query = args.change.query(MANAGER, &[args.validate.parameter()?])?;
    let created = env.rest().await?.post(&format!("{}{query}", target.collection()), object).await;
    let created = created.map_err(|error| error.doing(format!("error when creating {source:?}")))?;
    args.change.report(&created, "configured")?;
    Ok(created)
}
