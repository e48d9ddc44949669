//! `kubectl logs`.

use clap::Args;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::Value;

use client::ObjectRef;
use client::https::{encode_component, path_of};

use crate::age;
use crate::env::{Env, print, tell};
use crate::error::{Error, Result, collect};
use crate::pods;
use crate::selection::{Selection, SelectorArgs};
use crate::verbs::get::watch::Lines;

/// Print the logs for a container in a pod
#[derive(Args)]
pub(crate) struct LogsArgs {
    /// POD | TYPE/NAME, and perhaps a container
    resources: Vec<String>,
    /// Logs of all containers of the pod
    #[arg(long)]
    all_containers: bool,
    /// Logs of all pods of the object
    #[arg(long)]
    all_pods: bool,
    #[arg(short = 'c', long)]
    container: Option<String>,
    /// Go on with what is written from now on
    #[arg(short = 'f', long)]
    follow: bool,
    /// Continue after errors of one of several sources
    #[arg(long)]
    ignore_errors: bool,
    /// Do not verify the node's certificate
    #[arg(long)]
    insecure_skip_tls_verify_backend: bool,
    #[arg(long)]
    limit_bytes: Option<i64>,
    /// Most sources to follow at once
    #[arg(long, default_value_t = 5)]
    max_log_requests: usize,
    #[arg(long, default_value = "20s", hide = true)]
    pod_running_timeout: String,
    /// Put pod and container before each line
    #[arg(long)]
    prefix: bool,
    /// Logs of the previous instance of the container
    #[arg(short = 'p', long)]
    previous: bool,
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Not older than this duration
    #[arg(long)]
    since: Option<String>,
    /// Not older than this RFC 3339 time
    #[arg(long)]
    since_time: Option<String>,
    /// Lines to show from the end; -1 means all, and is the default without a selector
    #[arg(long)]
    tail: Option<i64>,
    #[arg(long)]
    timestamps: bool,
}

/// One container's log.
struct Source {
    pod: String,
    namespace: String,
    container: Option<String>,
}

pub(crate) async fn run(env: &Env, args: LogsArgs) -> Result<()> {
    let sources = sources(env, &args).await?;
    let query = query(&args, args.selector.is_some())?;
    if args.follow && sources.len() > 1 {
        if sources.len() > args.max_log_requests {
            return Err(Error::message(format!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use --max-log-requests to increase the limit",
                sources.len(),
                args.max_log_requests
            )));
        }
        return together(env, &args, &sources, &query).await;
    }
    for source in &sources {
        match copy(env, args.prefix, source, &query).await {
            Err(error) if args.ignore_errors && !error.is_broken_pipe() => tell(&error.to_string()),
            outcome => outcome?,
        }
    }
    Ok(())
}

async fn together(env: &Env, args: &LogsArgs, sources: &[Source], query: &str) -> Result<()> {
    let mut streams: FuturesUnordered<_> =
        sources.iter().map(|source| copy(env, args.prefix, source, query)).collect();
    let mut errors = Vec::new();
    while let Some(outcome) = streams.next().await {
        match outcome {
            Err(error) if args.ignore_errors && !error.is_broken_pipe() => tell(&error.to_string()),
            Err(error) => errors.push(error),
            Ok(()) => {}
        }
    }
    collect(errors)
}

fn query(args: &LogsArgs, by_selector: bool) -> Result<String> {
    let mut query = String::new();
    let mut add = |key: &str, value: &str| query.push_str(&format!("&{key}={}", encode_component(value)));
    for (key, set) in [
        ("follow", args.follow),
        ("previous", args.previous),
        ("timestamps", args.timestamps),
        ("insecureSkipTLSVerifyBackend", args.insecure_skip_tls_verify_backend),
    ] {
        if set {
            add(key, "true");
        }
    }
    match (&args.since, &args.since_time) {
        (Some(_), Some(_)) => {
            return Err(Error::message("at most one of `sinceTime` or `sinceSeconds` may be specified"));
        }
        (Some(since), None) => {
            let seconds = age::parse(since)?.as_secs_f64().ceil();
            add("sinceSeconds", &format!("{seconds:.0}"));
        }
        (None, Some(time)) => add("sinceTime", time),
        (None, None) => {}
    }
    match args.tail {
        Some(lines) if lines < -1 => {
            return Err(Error::message("--tail must be greater than or equal to -1"));
        }
        Some(lines) if lines >= 0 => add("tailLines", &lines.to_string()),
        None if by_selector => add("tailLines", "10"),
        _ => {}
    }
    if let Some(limit) = args.limit_bytes.filter(|limit| *limit > 0) {
        add("limitBytes", &limit.to_string());
    }
    Ok(query)
}

async fn sources(env: &Env, args: &LogsArgs) -> Result<Vec<Source>> {
    let mut container = args.container.clone();
    let pods: Vec<Value> = match (&args.resources[..], &args.selector) {
        ([], None) => {
            return Err(Error::message(
                "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command\nSee 'kubectl logs -h' for help and examples",
            ));
        }
        ([], Some(_)) => {
            let row = env.resource("pods").await?;
            let selector = SelectorArgs { selector: args.selector.clone(), ..SelectorArgs::default() };
            let pods = env.list(&row, Some(&env.namespace), &selector.query(), 500).await?;
            if pods.is_empty() {
                tell(&format!("No resources found in {} namespace.", env.namespace));
            }
            pods
        }
        (_, Some(_)) => return Err(Error::message("only a selector (-l) or a POD name is allowed")),
        ([first, rest @ ..], None) => {
            let reference = if first.contains('/') { first.clone() } else { format!("pods/{first}") };
            match rest {
                [] => {}
                [name] if container.is_none() => container = Some(name.clone()),
                [_] => return Err(Error::message("only one of -c or an inline [CONTAINER] arg is allowed")),
                _ => {
                    return Err(Error::message("expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'"));
                }
            }
            let Selection::Targets(targets) = env.select(&[reference]).await? else { return Ok(Vec::new()) };
            let Some(target) = targets.first() else { return Ok(Vec::new()) };
            let named = |error: Error| match error.api() {
                Some(api) if api.is_not_found() && target.row.kind == "Pod" => Error::message(format!(
                    "error from server (NotFound): {api} in namespace {:?}",
                    env.namespace
                )),
                _ => error,
            };
            if args.all_pods {
                pods::pods_of(env, target).await.map_err(named)?
            } else {
                vec![pods::one_pod_of(env, target).await.map_err(named)?]
            }
        }
    };
    if container.is_some() && args.all_containers {
        return Err(Error::message("--all-containers=true should not be specified with container name"));
    }
    let mut sources = Vec::new();
    for pod in &pods {
        add_sources(pod, container.as_deref(), args.all_containers, &mut sources)?;
    }
    Ok(sources)
}

fn add_sources(pod: &Value, container: Option<&str>, all: bool, sources: &mut Vec<Source>) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let (name, namespace) = (text(&pod["metadata"]["name"]), text(&pod["metadata"]["namespace"]));
    let known: Vec<String> = ["initContainers", "containers", "ephemeralContainers"]
        .iter()
        .flat_map(|kind| pods::container_names(pod, kind))
        .collect();
    let source =
        |container: Option<String>| Source { pod: name.clone(), namespace: namespace.clone(), container };
    match container {
        Some(container) if !known.iter().any(|own| own == container) => {
            Err(Error::message(format!("container {container} is not valid for pod {name}")))
        }
        Some(container) => {
            sources.push(source(Some(container.to_string())));
            Ok(())
        }
        None if all => {
            sources.extend(known.into_iter().map(|own| source(Some(own))));
            Ok(())
        }
        None => {
            sources.push(source(pods::default_container(pod)));
            Ok(())
        }
    }
}

/// What a container has written so far.
pub(crate) async fn written(env: &Env, namespace: &str, pod: &str, container: &str) -> Result<()> {
    let (pod, namespace, container) = (pod.to_string(), namespace.to_string(), Some(container.to_string()));
    copy(env, false, &Source { pod, namespace, container }, "").await
}

async fn copy(env: &Env, prefix: bool, from: &Source, query: &str) -> Result<()> {
    let at = ObjectRef::new(Some(&from.namespace), &from.pod).sub("log");
    let container = from.container.as_ref().map(|name| format!("&container={}", encode_component(name)));
    let parameters = format!("{}{query}", container.unwrap_or_default());
    let mut path = path_of(&api::kinds::POD, at);
    if !parameters.is_empty() {
        path.push('?');
        path.push_str(parameters.trim_start_matches('&'));
    }
    let rest = env.rest().await?;
    let body = rest.stream(&path, "application/json, */*").await?;
    let prefix = match (&from.container, prefix) {
        (Some(container), true) => format!("[pod/{}/{container}] ", from.pod),
        (None, true) => format!("[pod/{}] ", from.pod),
        (_, false) => String::new(),
    };
    let mut lines = Lines::new(rest, body);
    while let Some(line) = lines.next().await? {
        let text = String::from_utf8_lossy(&line);
        print(&format!("{prefix}{text}{}", if lines.at_unfinished_line() { "" } else { "\n" }))?;
    }
    Ok(())
}
