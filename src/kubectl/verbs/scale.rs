//! `kubectl scale`.

use clap::Args;
use serde_json::json;

use crate::age;
use crate::change::{ChangeArgs, DryRun};
use crate::env::Env;
use crate::error::{Error, Result, collect};
use crate::manifest::FileArgs;
use crate::rest::MERGE_PATCH;
use crate::selection::{SelectorArgs, Target};
use crate::verbs::wait::follow;

/// Set a new size for a deployment, replica set, or replication controller
#[derive(Args)]
pub(crate) struct ScaleArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    #[arg(long)]
    all: bool,
    /// The new size
    #[arg(long)]
    replicas: Option<i64>,
    /// Only if this is the present size
    #[arg(long, default_value_t = -1)]
    current_replicas: i64,
    /// Only if this is the present version
    #[arg(long)]
    resource_version: Option<String>,
    /// Wait this long for the new size
    #[arg(long, default_value = "0s")]
    timeout: String,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(crate) async fn run(env: &Env, args: ScaleArgs) -> Result<()> {
    let Some(replicas) = args.replicas.filter(|replicas| *replicas >= 0) else {
        return Err(Error::message(
            "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0",
        ));
    };
    let targets = env.targets(&args.resources, &args.files, &args.selector, args.all).await?;
    if targets.is_empty() {
        return Err(Error::message("no objects passed to scale"));
    }
    let mut errors = Vec::new();
    for target in &targets {
        if let Err(error) = scale(env, target, &args, replicas).await {
            errors.push(error);
        }
    }
    if errors.len() == targets.len() && errors.iter().all(Error::is_not_found) {
        let texts: Vec<String> =
            errors.iter().filter_map(|error| error.api().map(ToString::to_string)).collect();
        return Err(Error::message(format!("no objects passed to scale {}", texts.join(", "))));
    }
    collect(errors)
}

async fn scale(env: &Env, target: &Target, args: &ScaleArgs, replicas: i64) -> Result<()> {
    let rest = env.rest().await?;
    let path = target.sub_path("scale");
    let object = rest.get(&target.path()).await?;
    let mut patch = json!({"spec": {"replicas": replicas}});
    if args.current_replicas >= 0 || args.resource_version.is_some() {
        let scale = rest.get(&path).await?;
        let present = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if args.current_replicas >= 0 && present != args.current_replicas {
            return Err(Error::message(format!(
                "Expected replicas to be {}, was {present}",
                args.current_replicas
            )));
        }
        let version = scale["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if let Some(wanted) = args.resource_version.as_deref().filter(|wanted| *wanted != version) {
            return Err(Error::message(format!("Expected resource version to be {wanted}, was {version}")));
        }
        // Between this check and the write nobody else may change it.
        patch["metadata"] = json!({"resourceVersion": version});
    }
    if args.change.mode()? != DryRun::Client {
        let query = args.change.query("kubectl-scale", &[])?;
        rest.patch(&format!("{path}{query}"), MERGE_PATCH, &patch).await?;
        let limit = age::parse(&args.timeout)?;
        if !limit.is_zero() {
            let reached = follow(env, target, |object| {
                let status = object.map(|object| object["status"]["replicas"].as_i64().unwrap_or(0));
                Ok((status == Some(replicas)).then_some(()))
            });
            tokio::time::timeout(limit, reached)
                .await
                .map_err(|_| Error::message("timed out waiting for the condition"))??;
        }
    }
    args.change.report(&object, "scaled")
}
