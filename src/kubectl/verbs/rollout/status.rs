//! `kubectl rollout status`: what a rollout waits for, until it is done.

use clap::Args;
use serde_json::Value;

use crate::age;
use crate::env::{Env, print};
use crate::error::{Error, Result};
use crate::manifest::FileArgs;
use crate::selection::{SelectorArgs, Target};
use crate::verbs::wait::follow;

#[derive(Args)]
pub(super) struct StatusArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    /// Wait until the rollout is done
    #[arg(short = 'w', long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    watch: bool,
    /// How long to wait; 0 means without limit
    #[arg(long, default_value = "0s")]
    timeout: String,
    /// Only this revision; another one is an error
    #[arg(long, default_value_t = 0)]
    revision: i64,
}

/// A message and whether the rollout is done.
#[derive(Debug, PartialEq)]
struct Status {
    message: String,
    done: bool,
}

pub(super) async fn run(env: &Env, args: StatusArgs) -> Result<()> {
    if args.resources.is_empty() && !args.files.given() {
        return Err(Error::message("required resource not specified"));
    }
    let targets = super::all_of(env, &args.resources, &args.files, &args.selector).await?;
    let limit = age::parse(&args.timeout)?;
    for target in &targets {
        if limit.is_zero() {
            show(env, target, &args).await?;
            continue;
        }
        let shown = tokio::time::timeout(limit, show(env, target, &args)).await;
        shown.map_err(|_| Error::message("timed out waiting for the condition"))??;
    }
    Ok(())
}

async fn show(env: &Env, target: &Target, args: &StatusArgs) -> Result<()> {
    if !args.watch {
        let object = env.rest().await?.get(&target.path()).await?;
        return print(&status(target, &object, args.revision)?.message);
    }
    let existed = std::cell::Cell::new(false);
    let last = std::cell::RefCell::new(String::new());
    let missing = || api::ApiError::not_found(&target.row, &target.name);
    follow(env, target, |object| {
        let Some(object) = object else {
            return Err(if existed.get() {
                Error::message("object has been deleted")
            } else {
                missing().into()
            });
        };
        existed.set(true);
        let status = status(target, object, args.revision)?;
        // The same state may be told by several events.
        if *last.borrow() != status.message {
            print(&status.message)?;
            last.replace(status.message);
        }
        Ok(status.done.then_some(()))
    })
    .await
}

fn status(target: &Target, object: &Value, revision: i64) -> Result<Status> {
    match target.row.kind.as_ref() {
        "Deployment" => deployment(object, revision),
        "DaemonSet" => daemon_set(object),
        "StatefulSet" => stateful_set(object),
        _ => Err(Error::message(format!("no status viewer has been implemented for {}", target.row.kind))),
    }
}

fn pending(message: String) -> Result<Status> {
    Ok(Status { message, done: false })
}

fn observed(object: &Value) -> bool {
    object["metadata"]["generation"].as_i64().unwrap_or(0)
        <= object["status"]["observedGeneration"].as_i64().unwrap_or(0)
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn deployment(object: &Value, revision: i64) -> Result<Status> {
    if revision > 0 {
        let own =
            object["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str().unwrap_or("0");
        if own != revision.to_string() {
            return Err(Error::message(format!(
                "desired revision ({revision}) is different from the running revision ({own})"
            )));
        }
    }
    if !observed(object) {
        return pending("Waiting for deployment spec update to be observed...\n".to_string());
    }
    let status = &object["status"];
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut progressing = conditions.filter(|one| one["type"] == "Progressing");
    let name = name(object);
    if progressing.any(|one| one["reason"] == "ProgressDeadlineExceeded") {
        return Err(Error::message(format!("deployment {name:?} exceeded its progress deadline")));
    }
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let (updated, replicas, available) =
        (count("updatedReplicas"), count("replicas"), count("availableReplicas"));
    let waiting = format!("Waiting for deployment {name:?} rollout to finish:");
    if updated < wanted {
        return pending(format!("{waiting} {updated} out of {wanted} new replicas have been updated...\n"));
    }
    if replicas > updated {
        return pending(format!(
            "{waiting} {} old replicas are pending termination...\n",
            replicas - updated
        ));
    }
    if available < updated {
        return pending(format!("{waiting} {available} of {updated} updated replicas are available...\n"));
    }
    Ok(Status { message: format!("deployment {name:?} successfully rolled out\n"), done: true })
}

fn daemon_set(object: &Value) -> Result<Status> {
    if object["spec"]["updateStrategy"]["type"] != "RollingUpdate" {
        return Err(Error::message("rollout status is only available for RollingUpdate strategy type"));
    }
    if !observed(object) {
        return pending("Waiting for daemon set spec update to be observed...\n".to_string());
    }
    let count = |field: &str| object["status"][field].as_i64().unwrap_or(0);
    let (updated, wanted, available) =
        (count("updatedNumberScheduled"), count("desiredNumberScheduled"), count("numberAvailable"));
    let name = name(object);
    let waiting = format!("Waiting for daemon set {name:?} rollout to finish:");
    if updated < wanted {
        return pending(format!("{waiting} {updated} out of {wanted} new pods have been updated...\n"));
    }
    if available < wanted {
        return pending(format!("{waiting} {available} of {wanted} updated pods are available...\n"));
    }
    Ok(Status { message: format!("daemon set {name:?} successfully rolled out\n"), done: true })
}

fn stateful_set(object: &Value) -> Result<Status> {
    let (spec, status) = (&object["spec"], &object["status"]);
    if spec["updateStrategy"]["type"] != "RollingUpdate" {
        return Err(Error::message("rollout status is only available for RollingUpdate strategy type"));
    }
    if status["observedGeneration"].as_i64().unwrap_or(0) == 0 || !observed(object) {
        return pending("Waiting for statefulset spec update to be observed...\n".to_string());
    }
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    if count("readyReplicas") < wanted {
        return pending(format!("Waiting for {} pods to be ready...\n", wanted - count("readyReplicas")));
    }
    let updated = count("updatedReplicas");
    if let Some(partition) =
        spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64().filter(|part| *part > 0)
    {
        if updated < wanted - partition {
            return pending(format!(
                "Waiting for partitioned roll out to finish: {updated} out of {} new pods have been updated...\n",
                wanted - partition
            ));
        }
        return Ok(Status {
            message: format!("partitioned roll out complete: {updated} new pods have been updated...\n"),
            done: true,
        });
    }
    if status["updateRevision"] != status["currentRevision"] {
        return pending(format!(
            "waiting for statefulset rolling update to complete {updated} pods at revision {}...\n",
            status["updateRevision"].as_str().unwrap_or_default()
        ));
    }
    Ok(Status {
        message: format!(
            "statefulset rolling update complete {} pods at revision {}...\n",
            count("currentReplicas"),
            status["currentRevision"].as_str().unwrap_or_default()
        ),
        done: true,
    })
}

#[cfg(test)]
mod tests;
