//! A pod that is run to be talked to: wait for it, attach to it, end as it ended.

use std::time::Duration;

use serde_json::{Value, json};

use super::RunArgs;
use crate::age;
use crate::env::{Env, print_line, tell};
use crate::error::{Error, Result};
use crate::pods;
use crate::selection::Target;
use crate::verbs::attach::{self, Wanted};
use crate::verbs::logs;
use crate::verbs::wait::follow;

/// Attaches to the pod and gives its exit code, if it is of a kind that ends.
pub(super) async fn run(env: &Env, args: &RunArgs) -> Result<()> {
    let limit = age::parse(&args.pod_running_timeout)?;
    let target = Target::new(env, env.resource("pods").await?, &args.name);
    let pod = wait(env, &target, limit, |pod| is_ended(pod) || is_ready(pod)).await?;
    talk(env, args, &pod).await?;
    let restart = args.restart();
    if args.leave_stdin_open || restart == "Always" {
        return Ok(());
    }
    let enough = |pod: &Value| match pod["status"]["phase"].as_str() {
        Some("Succeeded") => true,
        Some("Failed") => restart == "Never",
        _ => false,
    };
    ended(&wait(env, &target, limit, enough).await?)
}

/// What the pod says, in a session or, if it has ended already, from its log.
async fn talk(env: &Env, args: &RunArgs, pod: &Value) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let container = pods::container_of(pod, None, args.quiet)?;
    if is_ended(pod) {
        return logs::written(env, &namespace, &name, &container).await;
    }
    if let Err(error) = logs::written(env, &namespace, &name, &container).await {
        tell(&format!("warning: couldn't fetch pre-attach logs: {error}"));
    }
    let wanted = Wanted {
        container: Some(&container),
        stdin: args.stdin,
        tty: args.tty,
        quiet: args.quiet,
        detach_keys: &args.detach_keys,
    };
    match attach::to_pod(env, pod, wanted).await {
        Err(error @ Error::Exit(_)) => Err(error),
        Err(error) => {
            tell(&format!("warning: couldn't attach to pod/{name}, falling back to streaming logs: {error}"));
            logs::written(env, &namespace, &name, &container).await
        }
        Ok(()) => Ok(()),
    }
}

async fn wait(
    env: &Env,
    target: &Target,
    limit: Duration,
    is_enough: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let gone = || Error::message(format!("pods {:?} not found", target.name));
    let found = |pod: Option<&Value>| match pod {
        Some(pod) if is_enough(pod) => Ok(Some(pod.clone())),
        Some(_) => Ok(None),
        None => Err(gone()),
    };
    let waited = tokio::time::timeout(limit, follow(env, target, found)).await;
    waited.map_err(|_| Error::message("timed out waiting for the condition"))?
}

fn is_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    pod["status"]["phase"] == "Running"
        && conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// The pod's end as an exit code.
fn ended(pod: &Value) -> Result<()> {
    if pod["status"]["phase"] == "Succeeded" {
        return Ok(());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let about = format!("pod {}/{}", text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let end = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    match end["exitCode"].as_i64().and_then(|code| i32::try_from(code).ok()) {
        None | Some(0) => Err(Error::message(format!("{about} failed with unknown exit code"))),
        Some(code) => {
            tell(&format!("{about} terminated ({})\n{}", text(&end["reason"]), text(&end["message"])));
            Err(Error::Exit(code))
        }
    }
}

/// Deletes what was made; it may be gone already.
pub(super) async fn remove(env: &Env, target: &Target, quiet: bool) -> Result<()> {
    match env.rest().await?.delete(&target.path(), &json!({})).await {
        Ok(_) if quiet => Ok(()),
        Ok(_) => {
            let kind = &target.row.singular;
            let place = target.namespace.as_deref().map(|name| format!(" from {name} namespace"));
            print_line(&format!("{kind} {:?} deleted{}", target.name, place.unwrap_or_default()))
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
