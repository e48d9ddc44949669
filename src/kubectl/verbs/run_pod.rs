//! `kubectl run`: a pod from flags.

mod session;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::change::{ChangeArgs, DryRun};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::verbs::apply::last_applied;
use crate::verbs::attach;

/// Create and run a particular image in a pod
#[derive(Args)]
pub(crate) struct RunArgs {
    name: String,
    /// Arguments of the container (the command, with --command)
    args: Vec<String>,
    /// The same, after --
    #[arg(last = true)]
    rest: Vec<String>,
    #[arg(long)]
    image: String,
    /// Always, IfNotPresent or Never
    #[arg(long)]
    image_pull_policy: Option<String>,
    /// NAME=VALUE, may be repeated
    #[arg(long, short = 'e')]
    env: Vec<String>,
    /// KEY=VALUE,…
    #[arg(short = 'l', long)]
    labels: Option<String>,
    /// KEY=VALUE, may be repeated
    #[arg(long)]
    annotations: Vec<String>,
    /// Port that the container exposes
    #[arg(long)]
    port: Option<i32>,
    /// Create a service for the port too
    #[arg(long)]
    expose: bool,
    /// Always, OnFailure or Never; Always unless the pod is interactive, else OnFailure
    #[arg(long)]
    restart: Option<String>,
    /// Take the arguments as the command
    #[arg(long)]
    command: bool,
    /// JSON to merge into the pod
    #[arg(long)]
    overrides: Option<String>,
    /// merge, strategic or json: how to take --overrides
    #[arg(long, default_value = "merge")]
    override_type: String,
    /// Keep stdin open, and attach to it
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Allocate a TTY for the container
    #[arg(short = 't', long)]
    tty: bool,
    /// Wait for the pod to run, then attach to it
    #[arg(long)]
    attach: bool,
    /// Let the container live on after the first attachment to its stdin has ended
    #[arg(long)]
    leave_stdin_open: bool,
    /// Keys that detach from the container
    #[arg(long, default_value = attach::DETACH_KEYS)]
    detach_keys: String,
    /// How long to wait until the pod runs
    #[arg(long, default_value = "1m0s")]
    pod_running_timeout: String,
    /// Delete the pod after it was attached to
    #[arg(long)]
    rm: bool,
    #[arg(long)]
    privileged: bool,
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Remember the configuration for kubectl apply
    #[arg(long)]
    save_config: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(crate) async fn run(env: &Env, args: RunArgs) -> Result<()> {
    let attached = args.attach || args.stdin;
    let wrong = |text: &str| Err(Error::usage("kubectl run", text));
    if args.tty && !args.stdin {
        return wrong("-i/--stdin is required for containers with -t/--tty=true");
    }
    if !matches!(args.restart(), "Always" | "OnFailure" | "Never") {
        return wrong(&format!("invalid restart policy: {}", args.restart()));
    }
    if args.rm && !attached {
        return wrong("--rm should only be used for attached containers");
    }
    if attached && args.change.mode()? != DryRun::No {
        return wrong(
            "--dry-run=[server|client] can't be used with attached containers options (--attach, --stdin, or --tty)",
        );
    }
    if args.expose && args.port.is_none() {
        return Err(Error::message("--port must be set when exposing a service"));
    }
    let mut objects = vec![pod(&args)?];
    if args.expose {
        objects.push(service(&args)?);
    }
    let mut made = Vec::new();
    for mut object in objects {
        if args.save_config {
            last_applied::annotate(&mut object)?;
        }
        if args.change.mode()? == DryRun::Client {
            if env.namespace_is_explicit() {
                object["metadata"]["namespace"] = json!(env.namespace);
            }
            args.change.report(&object, "created")?;
            continue;
        }
        let target = env.place(Manifest { source: String::new(), object }).await?;
        let object = target.manifest.as_ref().map(|manifest| &manifest.object).unwrap_or(&Value::Null);
        let query = args.change.query("kubectl-run", &[])?;
        let created = env.rest().await?.post(&format!("{}{query}", target.collection()), object).await?;
        if attached {
            made.push(target);
        } else {
            args.change.report(&created, "created")?;
        }
    }
    if !attached {
        return Ok(());
    }
    let outcome = session::run(env, &args).await;
    if args.rm {
        for target in &made {
            session::remove(env, target, args.quiet).await?;
        }
    }
    outcome
}

impl RunArgs {
    fn restart(&self) -> &str {
        self.restart.as_deref().unwrap_or(if self.stdin { "OnFailure" } else { "Always" })
    }
}

fn pairs<'a>(texts: impl IntoIterator<Item = &'a str>, what: &str) -> Result<Map<String, Value>> {
    let pair = |text: &str| {
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Error::message(format!("unexpected {what} spec: {text}")))?;
        Ok((key.to_string(), json!(value)))
    };
    texts.into_iter().map(pair).collect()
}

fn labels(args: &RunArgs) -> Result<Value> {
    match &args.labels {
        Some(labels) => Ok(Value::Object(pairs(labels.split(','), "label")?)),
        None => Ok(json!({"run": args.name})),
    }
}

fn pod(args: &RunArgs) -> Result<Value> {
    let mut container = json!({"name": args.name, "image": args.image, "resources": {}});
    if let Some(policy) = &args.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    let words: Vec<&String> = args.args.iter().chain(&args.rest).collect();
    if !words.is_empty() {
        container[if args.command { "command" } else { "args" }] = json!(words);
    }
    if !args.env.is_empty() {
        let one = |text: &String| {
            let (name, value) = text
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| Error::message(format!("invalid env: {text}")))?;
            Ok(json!({"name": name, "value": value}))
        };
        container["env"] = Value::Array(args.env.iter().map(one).collect::<Result<_>>()?);
    }
    if let Some(port) = args.port {
        container["ports"] = json!([{"containerPort": port}]);
    }
    if args.stdin {
        container["stdin"] = json!(true);
        if !args.leave_stdin_open {
            container["stdinOnce"] = json!(true);
        }
    }
    if args.tty {
        container["tty"] = json!(true);
    }
    if args.privileged {
        container["securityContext"] = json!({"privileged": true});
    }
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": args.name, "labels": labels(args)?},
        "spec": {"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": args.restart()},
        "status": {},
    });
    if !args.annotations.is_empty() {
        let annotations = pairs(args.annotations.iter().map(String::as_str), "annotation")?;
        pod["metadata"]["annotations"] = Value::Object(annotations);
    }
    if let Some(overrides) = &args.overrides {
        put_over(&mut pod, &api::kinds::POD, overrides, &args.override_type)?;
    }
    Ok(pod)
}

/// `--overrides`: a patch, of one of three kinds, of what flags have made.
pub(crate) fn put_over(
    object: &mut Value,
    row: &api::KindRow,
    overrides: &str,
    override_type: &str,
) -> Result<()> {
    let body = crate::manifest::parse_yaml(overrides)
        .map_err(|error| Error::message(format!("Invalid JSON Patch: {error}")))?;
    let kind = match override_type {
        "merge" => api::PatchKind::Merge,
        "strategic" => api::PatchKind::Strategic,
        "json" => api::PatchKind::Json,
        other => return Err(Error::message(format!("invalid override type: {other}"))),
    };
    api::patch::apply(api::schema::for_kind(row), object, &api::Patch::new(kind, body))
        .map_err(|error| Error::message(error.to_string()))
}

fn service(args: &RunArgs) -> Result<Value> {
    Ok(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": args.name},
        "spec": {
            "ports": [{"port": args.port, "protocol": "TCP", "targetPort": args.port}],
            "selector": labels(args)?,
        },
        "status": {"loadBalancer": {}},
    }))
}
