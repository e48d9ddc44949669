//! `kubectl debug`: an ephemeral container in a pod, a changed copy of it, or a pod in a node's own
//! namespaces.

mod made;

#[cfg(test)]
mod tests;

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::env::{Env, print_line, tell};
use crate::error::{Error, Result};
use crate::manifest::FileArgs;
use crate::rest::STRATEGIC_PATCH;
use crate::selection::{Selection, Target};
use crate::verbs::attach::{self, Wanted};
use crate::verbs::logs;
use crate::verbs::wait::follow;

/// Create debugging sessions for troubleshooting workloads and nodes
#[derive(Args)]
pub(crate) struct DebugArgs {
    /// POD | TYPE/NAME
    target: Option<String>,
    /// File, directory or - for standard input, which says what is debugged
    #[arg(short = 'f', long = "filename", value_delimiter = ',')]
    files: Vec<String>,
    /// The command of the container
    #[arg(last = true)]
    command: Vec<String>,
    /// What follows -- is the container's arguments, not its command
    #[arg(long)]
    arguments_only: bool,
    /// Wait for the container to run, then attach to it; the default with -i
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    attach: Option<bool>,
    /// Name of the debugging container
    #[arg(long, short = 'c')]
    container: Option<String>,
    /// Make a copy of the pod with this name
    #[arg(long)]
    copy_to: Option<String>,
    /// Delete the original of a copy
    #[arg(long)]
    replace: bool,
    /// NAME=VALUE, may be repeated
    #[arg(long)]
    env: Vec<String>,
    #[arg(long)]
    image: Option<String>,
    /// NAME=IMAGE,… of a copy; * is every container
    #[arg(long, value_delimiter = ',')]
    set_image: Vec<String>,
    /// Always, IfNotPresent or Never
    #[arg(long)]
    image_pull_policy: Option<String>,
    #[arg(long)]
    keep_labels: bool,
    #[arg(long)]
    keep_annotations: bool,
    #[arg(long)]
    keep_liveness: bool,
    #[arg(long)]
    keep_readiness: bool,
    #[arg(long)]
    keep_startup: bool,
    #[arg(long, default_value = "true")]
    keep_init_containers: bool,
    /// Keep stdin open, and attach to it
    #[arg(short = 'i', long)]
    stdin: bool,
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Put a copy on the original's node
    #[arg(long)]
    same_node: bool,
    /// The containers of a copy see each other's processes
    #[arg(long, default_value = "true")]
    share_processes: bool,
    /// The container whose processes an ephemeral container sees
    #[arg(long = "target")]
    target_container: Option<String>,
    /// Allocate a TTY for the debugging container
    #[arg(short = 't', long)]
    tty: bool,
    /// legacy, general, baseline, restricted, netadmin or sysadmin
    #[arg(long, default_value = "general")]
    profile: String,
    /// File of a part of a container (JSON or YAML) that changes what the profile gives
    #[arg(long)]
    custom: Option<String>,
    /// What the file says.
    #[arg(skip)]
    custom_container: Option<Value>,
}

impl DebugArgs {
    fn attaches(&self) -> bool {
        self.attach.unwrap_or(self.stdin)
    }

    fn check(&self) -> Result<()> {
        let wrong = |text: &str| Err(Error::message(text));
        if self.attach == Some(true) && self.image.is_none() && self.container.is_none() {
            return wrong(
                "you must specify --container or create a new container using --image in order to attach.",
            );
        }
        if self.copy_to.is_some() {
            if self.image.is_none() && self.set_image.is_empty() && self.command.is_empty() {
                return wrong("you must specify --image, --set-image or command arguments.");
            }
            if !self.command.is_empty() && self.container.is_none() && self.image.is_none() {
                return wrong("you must specify an existing container or a new image when specifying args.");
            }
            if self.target_container.is_some() {
                return wrong("--target is incompatible with --copy-to. Use --share-processes instead.");
            }
        } else {
            for (is_given, text) in [
                (self.replace, "--replace may only be used with --copy-to."),
                (self.same_node, "--same-node may only be used with --copy-to."),
                (!self.set_image.is_empty(), "--set-image may only be used with --copy-to."),
                (self.image.is_none(), "you must specify --image when not using --copy-to."),
            ] {
                if is_given {
                    return wrong(text);
                }
            }
        }
        if self.tty && !self.stdin {
            return wrong("-i/--stdin is required for containers with -t/--tty=true");
        }
        let policy = self.image_pull_policy.as_deref().unwrap_or("");
        if !matches!(policy, "" | "Always" | "IfNotPresent" | "Never") {
            return Err(Error::message(format!("invalid image pull policy: {policy}")));
        }
        made::check_profile(&self.profile)
    }
}

/// What is debugged, by its name or by a file.
async fn targets(env: &Env, args: &DebugArgs) -> Result<Vec<Target>> {
    let missing = || Error::message("NAME or filename is required for debug");
    if !args.files.is_empty() {
        let files = FileArgs { files: args.files.clone(), ..FileArgs::default() };
        return env.objects_of(&files).await;
    }
    let name = args.target.as_deref().ok_or_else(missing)?;
    let reference = if name.contains('/') { name.to_string() } else { format!("pods/{name}") };
    match env.select(&[reference]).await? {
        Selection::Targets(targets) => Ok(targets),
        Selection::Collections(_) => Err(missing()),
    }
}

pub(crate) async fn run(env: &Env, mut args: DebugArgs) -> Result<()> {
    args.check()?;
    args.custom_container = args.custom.as_deref().map(made::custom).transpose()?;
    let targets = targets(env, &args).await?;
    let target = targets.first().ok_or_else(|| Error::message("one pod or node is needed"))?;
    let object = env.rest().await?.get(&target.path()).await?;
    let (pod, container) = match &*target.row.kind {
        "Pod" if args.copy_to.is_some() => copy(env, &args, target, &object).await?,
        "Pod" => ephemeral(env, &args, target, &object).await?,
        "Node" => on_node(env, &args, &object).await?,
        kind => return Err(Error::message(format!("{kind:?} not supported by debug"))),
    };
    if args.attaches() { talk(env, &args, &pod, &container).await } else { Ok(()) }
}

/// Adds an ephemeral container to a pod.
async fn ephemeral(env: &Env, args: &DebugArgs, target: &Target, pod: &Value) -> Result<(Target, String)> {
    if let Some(name) = args.target_container.as_deref().filter(|_| !args.quiet) {
        print_line(&format!(
            "Targeting container {name:?}. If you don't see processes from this container it may be because the container runtime doesn't support this feature."
        ))?;
    }
    let container = made::ephemeral(args, pod)?;
    let name = container["name"].as_str().unwrap_or_default().to_string();
    if args.container.is_none() && !args.quiet {
        tell(&format!("Defaulting debug container name to {name}."));
    }
    let body = json!({"spec": {"ephemeralContainers": [container]}});
    let rest = env.rest().await?;
    rest.patch(&target.sub_path("ephemeralcontainers"), STRATEGIC_PATCH, &body).await?;
    Ok((Target::new(env, env.resource("pods").await?, &target.name), name))
}

/// Makes a changed copy of a pod.
async fn copy(env: &Env, args: &DebugArgs, target: &Target, pod: &Value) -> Result<(Target, String)> {
    let (copy, container) = made::copy(args, pod)?;
    let rest = env.rest().await?;
    let made = rest.post(&target.collection(), &copy).await?;
    if args.replace {
        rest.delete(&target.path(), &json!({})).await?;
    }
    let name = made["metadata"]["name"].as_str().unwrap_or_default();
    Ok((Target::new(env, env.resource("pods").await?, name), container))
}

/// Makes a pod in a node's own namespaces.
async fn on_node(env: &Env, args: &DebugArgs, node: &Value) -> Result<(Target, String)> {
    let pod = made::on_node(args, node)?;
    let (name, node) = (&pod["metadata"]["name"], &node["metadata"]["name"]);
    let name = name.as_str().unwrap_or_default().to_string();
    if !args.quiet {
        let (container, node) = (&pod["spec"]["containers"][0]["name"], node.as_str().unwrap_or_default());
        let container = container.as_str().unwrap_or_default();
        print_line(&format!("Creating debugging pod {name} with container {container} on node {node}."))?;
    }
    let target = Target::new(env, env.resource("pods").await?, &name);
    env.rest().await?.post(&target.collection(), &pod).await?;
    let container = pod["spec"]["containers"][0]["name"].as_str().unwrap_or_default().to_string();
    Ok((target, container))
}

/// Waits for a container to run and attaches to it; shows the log of one that has ended.
async fn talk(env: &Env, args: &DebugArgs, target: &Target, container: &str) -> Result<()> {
    const LISTS: [&str; 3] = ["ephemeralContainerStatuses", "containerStatuses", "initContainerStatuses"];
    let state = |pod: &Value| {
        let mut all = LISTS.into_iter().flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
        all.find(|one| one["name"] == container).map(|one| one["state"].clone()).unwrap_or_default()
    };
    let found = |pod: Option<&Value>| match pod {
        Some(pod) => {
            let state = state(pod);
            let has_begun = state["running"].is_object() || state["terminated"].is_object();
            Ok(has_begun.then(|| pod.clone()))
        }
        None => Err(Error::message(format!("pods {:?} not found", target.name))),
    };
    let limit = Duration::from_secs(600);
    let pod = tokio::time::timeout(limit, follow(env, target, found)).await;
    let pod = pod.map_err(|_| Error::message("timed out waiting for the condition"))??;
    let namespace = target.namespace.as_deref().unwrap_or("default");
    if state(&pod)["terminated"].is_object() {
        return logs::written(env, namespace, &target.name, container).await;
    }
    let wanted = Wanted {
        container: Some(container),
        stdin: args.stdin,
        tty: args.tty,
        quiet: args.quiet,
        detach_keys: attach::DETACH_KEYS,
    };
    attach::to_pod(env, &pod, wanted).await
}
