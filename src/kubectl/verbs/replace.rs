//! `kubectl replace`.

use clap::Args;
use serde_json::{Value, json};

use crate::age;
use crate::change::{ChangeArgs, DryRun, ValidateArgs};
use crate::env::{Env, print};
use crate::error::{Error, Result, collect};
use crate::manifest::FileArgs;
use crate::selection::{Target, qualified};
use crate::verbs::apply::last_applied;
use crate::verbs::delete::propagation;
use crate::verbs::wait::until_gone_within;

/// Replace a resource by file name or stdin
#[derive(Args)]
pub(crate) struct ReplaceArgs {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    validate: ValidateArgs,
    /// Delete the object and create it again
    #[arg(long)]
    force: bool,
    /// Seconds to end gracefully, with --force
    #[arg(long, default_value_t = -1)]
    grace_period: i64,
    /// background, orphan or foreground: what happens to dependents, with --force
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "background", default_missing_value = "background")]
    cascade: String,
    /// How long to wait for the object to be gone, with --force; 0 means without limit
    #[arg(long, default_value = "0s")]
    timeout: String,
    /// Wait for the object to be gone; --force always does
    #[arg(long)]
    wait: bool,
    /// Subresource to replace instead of the object
    #[arg(long)]
    subresource: Option<String>,
    /// Remember the configuration for kubectl apply
    #[arg(long)]
    save_config: bool,
    /// Path to put to as it is
    #[arg(long)]
    raw: Option<String>,
}

/// Flags that do not go together.
fn check(args: &ReplaceArgs) -> Result<()> {
    let refuse = |why: &str| Err(Error::message(why));
    if args.grace_period >= 0 && !args.force {
        return refuse("--grace-period must have --force specified");
    }
    if !age::parse(&args.timeout)?.is_zero() && !args.force {
        return refuse("--timeout must have --force specified");
    }
    // The object would really be deleted before the server is asked what would come of it.
    if args.force && args.change.mode()? != DryRun::No {
        return refuse("--dry-run can not be used when --force is set");
    }
    Ok(())
}

pub(crate) async fn run(env: &Env, args: ReplaceArgs) -> Result<()> {
    check(&args)?;
    if let Some(path) = &args.raw {
        let [manifest] = &args.files.read()?[..] else {
            return Err(Error::message("--raw can only use a single local file or stdin"));
        };
        let answer = env.rest().await?.put(path, &manifest.object).await?;
        return crate::env::print_line(&answer.to_string());
    }
    if !args.files.given() {
        return Err(Error::message("must specify one of -f and -k"));
    }
    let mut errors = Vec::new();
    for target in env.objects_of(&args.files).await? {
        if let Err(error) = replace(env, &target, &args).await {
            let source = target.manifest.as_ref().map(|manifest| manifest.source.clone()).unwrap_or_default();
            errors.push(error.doing(format!("error when replacing {source:?}")));
        }
    }
    collect(errors)
}

async fn replace(env: &Env, target: &Target, args: &ReplaceArgs) -> Result<()> {
    let rest = env.rest().await?;
    let mut object = target.manifest.as_ref().map(|manifest| manifest.object.clone()).unwrap_or_default();
    // An object that `apply` manages goes on remembering what it was made from.
    let remembers =
        args.save_config || object["metadata"]["annotations"].get(last_applied::ANNOTATION).is_some();
    if remembers {
        last_applied::annotate(&mut object)?;
    }
    if args.change.mode()? == DryRun::Client {
        return args.change.report(&object, "replaced");
    }
    let query = args.change.query("kubectl-replace", &[args.validate.parameter()?])?;
    if args.force {
        delete_first(env, target, args).await?;
        let created = rest.post(&format!("{}{query}", target.collection()), &object).await?;
        return args.change.report(&created, "replaced");
    }
    let path = match &args.subresource {
        Some(subresource) => target.sub_path(subresource),
        None => target.path(),
    };
    let replaced: Value = rest.put(&format!("{path}{query}"), &object).await?;
    args.change.report(&replaced, "replaced")
}

async fn delete_first(env: &Env, target: &Target, args: &ReplaceArgs) -> Result<()> {
    let policy = propagation(&args.cascade)?;
    let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
    if args.grace_period >= 0 {
        options["gracePeriodSeconds"] = json!(args.grace_period);
    }
    match env.rest().await?.delete(&target.path(), &options).await {
        Ok(answer) => {
            let place =
                target.namespace.as_ref().map(|name| format!(" from {name} namespace")).unwrap_or_default();
            print(&format!("{} {:?} deleted{place}\n", qualified(&target.row), target.name))?;
            let uid = answer["metadata"]["uid"].as_str();
            until_gone_within(env, target, uid, age::parse(&args.timeout)?).await
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
