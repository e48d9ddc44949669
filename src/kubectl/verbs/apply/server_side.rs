//! `kubectl apply --server-side`: the manifest is sent as it is, and the server says what becomes of the
//! object.
//!
//! Fields that kubectl has applied itself before become those of its new way; upstream's kubectl does the
//! same after the first apply that finds them.

use api::apply::ANNOTATION;
use api::managed::{self, Entry, Fields, Operation};
use serde_json::{Value, json};

use super::{ApplyArgs, MANAGER as CLIENT_SIDE};
use crate::change::DryRun;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::rest::{APPLY_PATCH, JSON_PATCH};
use crate::selection::Target;
use crate::terminal::warn;

const MANAGER: &str = "kubectl";
/// The manager that owns the annotation of client-side applies.
const ANNOTATION_MANAGER: &str = "kubectl-last-applied";

const WAYS_OUT: &str = "\
Please review the fields above--they currently have other managers. Here
are the ways you can resolve this warning:
* If you intend to manage all of these fields, please re-run the apply
  command with the `--force-conflicts` flag.
* If you do not intend to manage all of the fields, please edit your
  manifest to remove references to the fields that should keep their
  current managers.
* You may co-own fields by updating your manifest to match the existing
  value; in this case, you'll become the manager if the other manager(s)
  stop managing the field (remove it from their configuration).
See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts";

/// Flags that do not go together.
pub(super) fn check(args: &ApplyArgs) -> Result<()> {
    let refuse = |why: &str| Err(Error::message(why));
    if args.force_conflicts && !args.server_side {
        return refuse("--force-conflicts only works with --server-side");
    }
    if args.server_side && args.force {
        return refuse("--force cannot be used with --server-side");
    }
    if args.server_side && args.change.mode()? == DryRun::Client {
        return refuse(
            "--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)",
        );
    }
    // What cannot be patched would really be deleted.
    if args.force && args.change.mode()? == DryRun::Server {
        return refuse("--dry-run=server cannot be used with --force");
    }
    if args.all && args.selector.as_deref().is_some_and(|selector| !selector.is_empty()) {
        return refuse("cannot set --all and --selector at the same time");
    }
    Ok(())
}

pub(super) async fn apply(env: &Env, target: &Target, args: &ApplyArgs) -> Result<Value> {
    let Some(manifest) = &target.manifest else { return Ok(Value::Null) };
    if target.name.is_empty() {
        return Err(Error::message("metadata.name: Required value: name is required"));
    }
    let force = format!("force={}", args.force_conflicts);
    let query = args.change.query(MANAGER, &[args.validate.parameter()?, &force])?;
    let at = args.subresource.as_deref().map_or_else(|| target.path(), |part| target.sub_path(part));
    let path = format!("{at}{query}");
    let rest = env.rest().await?;
    let send = || rest.patch(&path, APPLY_PATCH, &manifest.object);
    let mut applied = send().await.map_err(|error| match error.api() {
        Some(api) if api.is_conflict() && api.message().starts_with("Apply failed") => {
            Error::message(format!("{}\n{WAYS_OUT}", api.message()))
        }
        _ => error,
    })?;
    let manager = args.change.field_manager.as_deref().unwrap_or(MANAGER);
    if args.change.mode()? == DryRun::No && args.subresource.is_none() {
        match take_over(env, target, manager, &applied).await {
            Ok(false) => {}
            Ok(true) => applied = send().await?,
            Err(error) => warn(&format!(
                "server rejected managed fields migration to Server-Side Apply. This is non-fatal and will be retried next time you apply. Error: {error}"
            )),
        }
    }
    args.change.report(&applied, "serverside-applied")?;
    Ok(applied)
}

/// Makes what kubectl has applied itself part of what `manager` applies; whether there was anything.
async fn take_over(env: &Env, target: &Target, manager: &str, applied: &Value) -> Result<bool> {
    let rest = env.rest().await?;
    let to = |manager: &str| {
        format!("{}?fieldManager={}", target.path(), client::https::encode_component(manager))
    };
    // Whoever applies without the annotation would drop it otherwise.
    let kept = match kept_annotation(applied) {
        Some(annotation) if manager == MANAGER => {
            Some(rest.patch(&to(ANNOTATION_MANAGER), APPLY_PATCH, &annotation).await?)
        }
        _ => None,
    };
    let Some(change) = taken_over(kept.as_ref().unwrap_or(applied), manager) else { return Ok(false) };
    rest.patch(&to(manager), JSON_PATCH, &change).await?;
    Ok(true)
}

/// The object's last-applied annotation as a configuration of its own, if nobody applies it yet.
fn kept_annotation(object: &Value) -> Option<Value> {
    let metadata = object.get("metadata")?;
    let annotation = metadata.get("annotations")?.get(ANNOTATION)?;
    let entries = managed::accept(metadata.get("managedFields")?).ok()?;
    let path = Fields::of_path(&["metadata", "annotations", ANNOTATION]);
    let is_applied =
        entries.iter().any(|entry| entry.operation == Operation::Apply && entry.fields.covers(&path));
    if is_applied {
        return None;
    }
    let mut kept = json!({
        "apiVersion": object.get("apiVersion")?, "kind": object.get("kind")?,
        "metadata": { "name": metadata.get("name")?, "annotations": { ANNOTATION: annotation } },
    });
    if let Some(namespace) = metadata.get("namespace") {
        kept["metadata"]["namespace"] = namespace.clone();
    }
    Some(kept)
}

/// The change by which what kubectl has applied itself becomes what `manager` applies; none if there is
/// nothing.
fn taken_over(object: &Value, manager: &str) -> Option<Value> {
    let metadata = object.get("metadata")?;
    let entries = managed::accept(metadata.get("managedFields")?).ok()?;
    let is_former = |entry: &Entry| {
        entry.manager == CLIENT_SIDE && entry.operation == Operation::Update && entry.subresource.is_empty()
    };
    let (former, mut entries): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(is_former);
    let first = former.first()?;
    let is_own = |entry: &Entry| {
        entry.manager == manager && entry.operation == Operation::Apply && entry.subresource.is_empty()
    };
    if !entries.iter().any(is_own) {
        let own = Entry { manager: manager.to_string(), operation: Operation::Apply, ..first.clone() };
        entries.push(own);
    }
    let own = entries.iter_mut().find(|entry| is_own(entry))?;
    for entry in former {
        own.fields.unite(entry.fields);
    }
    let entries: Value = serde_json::from_slice(&managed::encode(&entries)?).ok()?;
    Some(json!([
        { "op": "replace", "path": "/metadata/managedFields", "value": entries },
        { "op": "replace", "path": "/metadata/resourceVersion", "value": metadata.get("resourceVersion")? },
    ]))
}

#[cfg(test)]
mod tests;
