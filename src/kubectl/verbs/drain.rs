//! `kubectl drain`: cordon a node, evict its pods, wait until they are gone.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use client::https::encode_component;

use crate::age;
use crate::change::{ChangeArgs, DryRun};
use crate::env::{Env, print, tell};
use crate::error::{Error, Result};
use crate::selection::{SelectorArgs, Target};
use crate::terminal::warn;
use crate::verbs::cordon::{mark, nodes};
use crate::verbs::wait::until_gone;

/// Drain a node in preparation for maintenance
#[derive(Args)]
pub(crate) struct DrainArgs {
    nodes: Vec<String>,
    #[command(flatten)]
    selector: SelectorArgs,
    /// Go on although pods have emptyDir volumes
    #[arg(long, alias = "delete-local-data")]
    delete_emptydir_data: bool,
    /// Delete instead of evicting
    #[arg(long)]
    disable_eviction: bool,
    /// Go on although pods have no controller
    #[arg(long)]
    force: bool,
    /// Seconds to end gracefully; negative means the pod's own
    #[arg(long, default_value_t = -1)]
    grace_period: i64,
    /// Leave pods of daemon sets alone
    #[arg(long)]
    ignore_daemonsets: bool,
    /// Only pods with these labels
    #[arg(long)]
    pod_selector: Option<String>,
    /// Pods that have been going for more than so many seconds are not waited for; 0 waits for all
    #[arg(long, default_value_t = 0)]
    skip_wait_for_delete_timeout: i64,
    /// Items per request of large lists (0: all at once)
    #[arg(long, default_value_t = 500)]
    chunk_size: usize,
    /// How long to wait; 0 means without limit
    #[arg(long, default_value = "0s")]
    timeout: String,
    #[command(flatten)]
    change: ChangeArgs,
}

/// How long to wait before an eviction that a disruption budget refused is tried again.
const RETRY: Duration = Duration::from_secs(5);

pub(crate) async fn run(env: &Env, args: DrainArgs) -> Result<()> {
    let targets = nodes(env, &args.nodes, &args.selector, "drain").await?;
    let limit = age::parse(&args.timeout)?;
    for node in &targets {
        mark(env, node, &args.change, true).await?;
        let work = drain(env, node, &args);
        if limit.is_zero() {
            work.await?;
        } else {
            let late = || {
                Error::message(format!(
                    "unable to drain node {:?}: global timeout reached: {}",
                    node.name, args.timeout
                ))
            };
            tokio::time::timeout(limit, work).await.map_err(|_| late())??;
        }
        args.change.report(
            &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name}}),
            "drained",
        )?;
    }
    Ok(())
}

/// What to do with a pod of the node.
enum Fate {
    Evict,
    Leave(Option<String>),
    Refuse(&'static str),
}

fn fate(pod: &Value, args: &DrainArgs) -> Fate {
    let finished = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some() {
        return Fate::Leave(None);
    }
    let owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let controller = owners.into_iter().find(|owner| owner["controller"] == true);
    if controller.is_some_and(|owner| owner["kind"] == "DaemonSet") && !finished {
        return if args.ignore_daemonsets {
            Fate::Leave(Some("ignoring DaemonSet-managed Pods".to_string()))
        } else {
            Fate::Refuse("cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)")
        };
    }
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    if volumes.into_iter().any(|volume| volume["emptyDir"].is_object())
        && !finished
        && !args.delete_emptydir_data
    {
        return Fate::Refuse(
            "cannot delete Pods with local storage (use --delete-emptydir-data to override)",
        );
    }
    if controller.is_none() && !finished && !args.force {
        return Fate::Refuse("cannot delete Pods that declare no controller (use --force to override)");
    }
    Fate::Evict
}

async fn drain(env: &Env, node: &Target, args: &DrainArgs) -> Result<()> {
    let row = env.resource("pods").await?;
    let mut query = format!("fieldSelector={}&", encode_component(&format!("spec.nodeName={}", node.name)));
    if let Some(selector) = &args.pod_selector {
        query.push_str(&format!("labelSelector={}&", encode_component(selector)));
    }
    let pods = env.list(&row, None, &query, args.chunk_size).await?;
    let mut evicted = Vec::new();
    let mut refused: Vec<(&'static str, Vec<String>)> = Vec::new();
    for pod in &pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        match fate(pod, args) {
            Fate::Evict => {
                let mut target = Target::new(env, row.clone(), name);
                target.namespace = Some(namespace.to_string());
                evicted.push((target, pod));
            }
            Fate::Leave(why) => {
                if let Some(why) = why {
                    warn(&format!("{why}: {namespace}/{name}"));
                }
            }
            Fate::Refuse(why) => match refused.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(format!("{namespace}/{name}")),
                None => refused.push((why, vec![format!("{namespace}/{name}")])),
            },
        }
    }
    if !refused.is_empty() {
        let reasons: Vec<String> =
            refused.iter().map(|(why, names)| format!("{why}: {}", names.join(", "))).collect();
        let list = reasons.join(", ");
        return Err(Error::message(format!(
            "unable to drain node {:?} due to error: {list}, continuing command...\nThere are pending nodes to be drained:\n {}\n{list}",
            node.name, node.name
        )));
    }
    for (target, pod) in &evicted {
        evict(env, target, pod, args).await?;
    }
    if args.change.mode()? == DryRun::No {
        let waited = |pod: &Value| {
            let since =
                pod["metadata"]["deletionTimestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
            let limit = args.skip_wait_for_delete_timeout;
            limit <= 0 || since.is_none_or(|since| Timestamp::now().as_second() - since.as_second() <= limit)
        };
        for (target, pod) in evicted.iter().filter(|(_, pod)| waited(pod)) {
            until_gone(env, target, pod["metadata"]["uid"].as_str(), None).await?;
            let done = if args.disable_eviction { "deleted" } else { "evicted" };
            print(&format!("pod/{} {done}\n", target.name))?;
        }
    }
    Ok(())
}

async fn evict(env: &Env, target: &Target, pod: &Value, args: &DrainArgs) -> Result<()> {
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let doing = if args.disable_eviction { "deleting" } else { "evicting" };
    print(&format!("{doing} pod {namespace}/{}{}\n", target.name, args.change.suffix()?))?;
    if args.change.mode()? == DryRun::Client {
        return Ok(());
    }
    let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    if args.grace_period >= 0 {
        options["gracePeriodSeconds"] = json!(args.grace_period);
    }
    if args.change.mode()? == DryRun::Server {
        options["dryRun"] = json!(["All"]);
    }
    let rest = env.rest().await?;
    if args.disable_eviction {
        return match rest.delete(&target.path(), &options).await {
            Err(error) if error.is_not_found() => Ok(()),
            outcome => outcome.map(|_| ()),
        };
    }
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": target.name, "namespace": pod["metadata"]["namespace"]}, "deleteOptions": options,
    });
    loop {
        match rest.post(&target.sub_path("eviction"), &eviction).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) if error.api().is_some_and(|error| error.code() == 429) => {
                tell(&format!(
                    "error when evicting pods/{:?} -n {namespace:?} (will retry after 5s): {}",
                    target.name,
                    error.api().map(ToString::to_string).unwrap_or_default()
                ));
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => {
                return Err(
                    error.doing(format!("error when evicting pods/{:?} -n {namespace:?}", target.name))
                );
            }
        }
    }
}
