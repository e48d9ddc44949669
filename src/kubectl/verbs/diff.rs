//! `kubectl diff`: the objects of files as they are, beside what applying the files would make of them.
//!
//! The server says what they would be (`dryRun=All`); both versions are written as YAML into two directories,
//! which `diff -u -N` or `KUBECTL_EXTERNAL_DIFF` compares. The exit code is the program's: 0 no differences,
//! 1 differences, more: it failed, or this command did.

mod masked;

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use serde_json::Value;

use super::apply::prune::{self, PruneArgs};
use super::apply::{MANAGER, last_applied, three_way};
use crate::env::{Env, tell};
use crate::error::{Error, Result};
use crate::manifest::FileArgs;
use crate::output::yaml;
use crate::rest::{APPLY_PATCH, MERGE_PATCH, STRATEGIC_PATCH};
use crate::selection::Target;

/// Diff the live version against a would-be applied version
#[derive(Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Only objects with these labels
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Compare with what an apply on the server would make of it
    #[arg(long)]
    server_side: bool,
    /// Take over fields of other managers
    #[arg(long)]
    force_conflicts: bool,
    /// Name of the manager of the fields
    #[arg(long)]
    field_manager: Option<String>,
    /// Compare managed fields, too
    #[arg(long)]
    show_managed_fields: bool,
    /// Do not mask the values of secrets
    #[arg(long)]
    show_secrets: bool,
    /// Accepted for compatibility; objects are compared one after another
    #[arg(long, default_value_t = 1, hide = true)]
    concurrency: i32,
    #[command(flatten)]
    prune: PruneArgs,
}

/// Attempts with a lock on the version that was read; then one without.
const ATTEMPTS: usize = 4;

pub(crate) async fn run(env: &Env, args: DiffArgs) -> Result<()> {
    match diff(env, &args).await {
        Err(error @ Error::Exit(_)) => Err(error),
        // 1 would say that there are differences.
        Err(error) => {
            tell(&error.to_string());
            Err(Error::Exit(2))
        }
        Ok(()) => Ok(()),
    }
}

async fn diff(env: &Env, args: &DiffArgs) -> Result<()> {
    if !args.files.given() {
        return Err(Error::message("must specify one of -f and -k"));
    }
    if args.force_conflicts && !args.server_side {
        return Err(Error::message("--force-conflicts only works with --server-side"));
    }
    let (live, merged) = (Folder::new("LIVE")?, Folder::new("MERGED")?);
    let mut targets = env.objects_of(&args.files).await?;
    super::apply::keep_selected(&mut targets, args.selector.as_deref())?;
    let mut visited = prune::Visited::default();
    for target in &targets {
        let (mut from, mut to) = versions(env, args, target).await?;
        if let Some(from) = &from {
            visited.note(target, from);
            warn_if_deleting(from);
        }
        if !args.show_managed_fields {
            from.iter_mut().chain([&mut to]).for_each(omit_managed_fields);
        }
        if !args.show_secrets && target.row.kind == "Secret" && target.row.api_version() == "v1" {
            masked::mask(from.as_mut(), &mut to);
        }
        let name = file_name(target);
        live.write(&name, from.as_ref())?;
        merged.write(&name, Some(&to))?;
    }
    if args.prune.prune {
        for (target, object) in
            prune::candidates(env, &args.prune, args.selector.as_deref(), &visited).await?
        {
            live.write(&file_name(&target), Some(&object))?;
        }
    }
    compare(&live, &merged)
}

/// The object as it is, if it is, and as it would be.
async fn versions(env: &Env, args: &DiffArgs, target: &Target) -> Result<(Option<Value>, Value)> {
    let Some(manifest) = &target.manifest else { return Err(Error::message("no objects passed to diff")) };
    let rest = env.rest().await?;
    let manager = args.field_manager.as_deref().unwrap_or(if args.server_side { "kubectl" } else { MANAGER });
    let query = format!("?dryRun=All&fieldManager={}", client::https::encode_component(manager));
    let mut attempt = 0;
    loop {
        attempt += 1;
        let live = match rest.get(&target.path()).await {
            Ok(live) => Some(live),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let outcome = if args.server_side {
            let path = format!("{}{query}&force={}", target.path(), args.force_conflicts);
            rest.patch(&path, APPLY_PATCH, &manifest.object).await
        } else if let Some(live) = &live {
            // Without the annotation that an apply would add: it would repeat every difference.
            let mut modified = manifest.object.clone();
            last_applied::forget(&mut modified);
            let original = last_applied::read(live).unwrap_or(Value::Null);
            let ty = api::schema::for_kind(&target.row);
            let mut patch = three_way::patch(ty, &original, &modified, live);
            if attempt < ATTEMPTS {
                patch["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
            } else {
                tell(&format!(
                    "Warning: object ({}: {}) keeps changing, diffing without lock",
                    target.row.kind, target.name
                ));
            }
            let media_type = if ty.is_some() { STRATEGIC_PATCH } else { MERGE_PATCH };
            rest.patch(&format!("{}{query}", target.path()), media_type, &patch).await
        } else {
            rest.post(&format!("{}{query}", target.collection()), &manifest.object).await
        };
        match outcome {
            Ok(merged) => return Ok((live, merged)),
            Err(error) if attempt < ATTEMPTS && error.api().is_some_and(api::ApiError::is_conflict) => {}
            Err(error) => return Err(error),
        }
    }
}

fn warn_if_deleting(object: &Value) {
    if object["metadata"]["deletionTimestamp"].is_string() {
        tell(&format!(
            "Warning: Detected changes to resource {} which is currently being deleted.",
            object["metadata"]["name"].as_str().unwrap_or_default()
        ));
    }
}

fn omit_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// `apps.v1.Deployment.default.web`, `v1.Node..one`.
fn file_name(target: &Target) -> String {
    let row = &target.row;
    let group = if row.group.is_empty() { String::new() } else { format!("{}.", row.group) };
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let name = format!("{group}{}.{}.{namespace}.{}", row.version, row.kind, target.name);
    // The name of an object that is not there yet is the user's.
    name.replace('/', "%2f")
}

/// A directory for one version of everything; it goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(prefix: &str) -> Result<Self> {
        let mut number = 0;
        loop {
            let path = std::env::temp_dir().join(format!("{prefix}-{}-{number}", std::process::id()));
            number += 1;
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Folder(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A file; an empty one for what is not there.
    fn write(&self, name: &str, object: Option<&Value>) -> Result<()> {
        let path = self.0.join(name);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(path)?;
        let text = object.map(yaml::to_yaml).unwrap_or_default();
        Ok(file.write_all(text.as_bytes())?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program and its arguments. Of a program that the user names, arguments with other signs than letters,
/// digits, `-` and `=` are dropped, as upstream does.
fn program(external: Option<&str>) -> (String, Vec<String>) {
    let Some(external) = external.filter(|external| !external.is_empty()) else {
        return ("diff".to_string(), vec!["-u".to_string(), "-N".to_string()]);
    };
    let mut words = external.split(' ');
    let program = words.next().unwrap_or_default().to_string();
    let is_plain =
        |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-=".contains(c));
    (program, words.filter(is_plain).map(str::to_string).collect())
}

fn compare(live: &Folder, merged: &Folder) -> Result<()> {
    let (program, arguments) = program(std::env::var("KUBECTL_EXTERNAL_DIFF").ok().as_deref());
    let mut command = Command::new(&program);
    // Upstream gives the directories first where the user names the program; every diff takes both orders.
    command.args(arguments).args([&live.0, &merged.0]);
    let failed = |why: String| Error::message(format!("failed to run {program:?}: {why}"));
    let status = command.status().map_err(|error| failed(error.to_string()))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(1) => Err(Error::Exit(1)),
        _ => Err(failed(status.to_string())),
    }
}

#[cfg(test)]
mod tests;
