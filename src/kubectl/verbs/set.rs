//! `kubectl set image | env | resources | serviceaccount`: changes of pod templates; `subject` and `selector`
//! are in `subject`.

mod subject;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::change::{ChangeArgs, DryRun};
use crate::env::Env;
use crate::error::{Error, Result, collect};
use crate::manifest::FileArgs;
use crate::rest::STRATEGIC_PATCH;
use crate::selection::{SelectorArgs, Target};

/// Set specific features on objects
#[derive(Args)]
pub(crate) struct SetArgs {
    #[command(subcommand)]
    command: SetCommand,
}

#[derive(Subcommand)]
enum SetCommand {
    /// Update the image of a pod template: CONTAINER=IMAGE …
    Image(OnArgs),
    /// Update environment variables of a pod template: NAME=VALUE … NAME- …
    Env(OnArgs),
    /// Update resource requests and limits of a pod template
    Resources(OnArgs),
    /// Update the service account of a pod template
    #[command(name = "serviceaccount", alias = "sa")]
    ServiceAccount(OnArgs),
    Subject(subject::SubjectArgs),
    Selector(subject::SetSelectorArgs),
}

impl SetArgs {
    /// Changes a binding, whose flags name users.
    pub(crate) fn has_subjects(&self) -> bool {
        matches!(self.command, SetCommand::Subject(_))
    }
}

#[derive(Args)]
struct OnArgs {
    arguments: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    #[arg(long)]
    all: bool,
    /// Containers to change (env, resources); * means all
    #[arg(short = 'c', long, default_value = "*")]
    containers: String,
    /// RESOURCE=QUANTITY,… (resources)
    #[arg(long, value_delimiter = ',')]
    requests: Vec<String>,
    /// RESOURCE=QUANTITY,… (resources)
    #[arg(long, value_delimiter = ',')]
    limits: Vec<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Changes as they were typed, for containers or for the template as a whole.
enum Change {
    Image(Vec<(String, String)>),
    Env(Vec<(String, Option<String>)>),
    Resources { requests: Value, limits: Value },
    ServiceAccount(String),
}

pub(crate) async fn run(env: &Env, args: SetArgs) -> Result<()> {
    let (args, change, resources, done) = match args.command {
        SetCommand::Subject(args) => return subject::subject(env, args).await,
        SetCommand::Selector(args) => return subject::selector(env, args).await,
        SetCommand::Image(args) => {
            let (resources, pairs) = split(&args.arguments)?;
            let image = |(name, image): (String, Option<String>)| {
                image
                    .map(|image| (name, image))
                    .ok_or_else(|| Error::message("images are given as CONTAINER=IMAGE"))
            };
            let images: Vec<_> = pairs.into_iter().map(image).collect::<Result<_>>()?;
            if images.is_empty() {
                return Err(Error::message("at least one image update is required"));
            }
            (args, Change::Image(images), resources, "image updated")
        }
        SetCommand::Env(args) => {
            let (resources, pairs) = split(&args.arguments)?;
            if pairs.is_empty() {
                return Err(Error::message("at least one environment variable must be provided"));
            }
            (args, Change::Env(pairs), resources, "env updated")
        }
        SetCommand::Resources(args) => {
            let (requests, limits) = (quantities(&args.requests)?, quantities(&args.limits)?);
            if requests.is_null() && limits.is_null() {
                return Err(Error::message(
                    "you must specify an update to requests or limits (in the form of --requests/--limits)",
                ));
            }
            let resources = args.arguments.clone();
            (args, Change::Resources { requests, limits }, resources, "resource requirements updated")
        }
        SetCommand::ServiceAccount(args) => {
            let mut resources = args.arguments.clone();
            let name = resources.pop().ok_or_else(|| Error::message("serviceaccount is required"))?;
            (args, Change::ServiceAccount(name), resources, "serviceaccount updated")
        }
    };
    let mut errors = Vec::new();
    for target in env.targets(&resources, &args.files, &args.selector, args.all).await? {
        if let Err(error) = change_one(env, &target, &args, &change, done).await {
            errors.push(error);
        }
    }
    collect(errors)
}

type Pairs = Vec<(String, Option<String>)>;

fn split(arguments: &[String]) -> Result<(Vec<String>, Pairs)> {
    let is_pair = |text: &String| text.contains('=') || (text.ends_with('-') && text.len() > 1);
    let (pairs, resources): (Vec<&String>, Vec<&String>) = arguments.iter().partition(|text| is_pair(text));
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => (name.to_string(), Some(value.to_string())),
        None => (text.trim_end_matches('-').to_string(), None),
    };
    Ok((resources.into_iter().cloned().collect(), pairs.into_iter().map(pair).collect()))
}

fn quantities(list: &[String]) -> Result<Value> {
    if list.is_empty() {
        return Ok(Value::Null);
    }
    let pair = |text: &String| {
        let (name, quantity) = text.split_once('=').ok_or_else(|| {
            Error::message(format!("Invalid argument syntax {text}, expected <resource>=<value>"))
        })?;
        Ok((name.to_string(), json!(quantity)))
    };
    list.iter().map(pair).collect::<Result<Map<String, Value>>>().map(Value::Object)
}

fn wildcard_matches(pattern: &str, name: &str) -> bool {
    pattern.split(',').any(|one| one == "*" || one == name)
}

fn container_patch(change: &Change, container: &Value, chosen: &str) -> Option<Value> {
    let name = container["name"].as_str().unwrap_or_default();
    let mut patch = json!({"name": name});
    match change {
        Change::Image(images) => {
            let (_, image) = images.iter().find(|(pattern, _)| pattern == "*" || pattern == name)?;
            patch["image"] = json!(image);
        }
        Change::Env(pairs) if wildcard_matches(chosen, name) => {
            let one = |(name, value): &(String, Option<String>)| match value {
                Some(value) => json!({"name": name, "value": value, "valueFrom": null}),
                None => json!({"name": name, "$patch": "delete"}),
            };
            patch["env"] = Value::Array(pairs.iter().map(one).collect());
        }
        Change::Resources { requests, limits } if wildcard_matches(chosen, name) => {
            for (key, value) in [("requests", requests), ("limits", limits)] {
                if !value.is_null() {
                    patch["resources"][key] = value.clone();
                }
            }
        }
        _ => return None,
    }
    Some(patch)
}

async fn change_one(env: &Env, target: &Target, args: &OnArgs, change: &Change, done: &str) -> Result<()> {
    let rest = env.rest().await?;
    let object = rest.get(&target.path()).await?;
    let spec = match target.row.kind.as_ref() {
        "Pod" => &object["spec"],
        "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        _ => &object["spec"]["template"]["spec"],
    };
    if !spec.is_object() {
        return Err(Error::message(format!("{} {:?} has no pod template", target.row.plural, target.name)));
    }
    let mut patch = json!({});
    if let Change::ServiceAccount(name) = change {
        patch["serviceAccountName"] = json!(name);
    }
    let mut found: Vec<String> = Vec::new();
    for list in ["containers", "initContainers"] {
        let containers = spec[list].as_array().into_iter().flatten();
        found.extend(containers.clone().filter_map(|one| one["name"].as_str().map(str::to_string)));
        let changed: Vec<Value> =
            containers.filter_map(|one| container_patch(change, one, &args.containers)).collect();
        if !changed.is_empty() {
            patch[list] = Value::Array(changed);
        }
    }
    if let Change::Image(images) = change
        && let Some((name, _)) = images.iter().find(|(name, _)| name != "*" && !found.contains(name))
    {
        return Err(Error::message(format!("unable to find container named {name:?}")));
    }
    let patch = match target.row.kind.as_ref() {
        "Pod" => json!({"spec": patch}),
        "CronJob" => json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": patch}}}}}),
        _ => json!({"spec": {"template": {"spec": patch}}}),
    };
    let mut changed = object.clone();
    api::patch::apply(
        api::schema::for_kind(&target.row),
        &mut changed,
        &api::Patch::strategic(patch.clone()),
    )
    .map_err(|error| Error::message(error.to_string()))?;
    if changed == object {
        // Nothing to do, and nothing to say, as kubectl has it.
        return Ok(());
    }
    if args.change.mode()? != DryRun::Client {
        let query = args.change.query("kubectl-set", &[])?;
        changed = rest.patch(&format!("{}{query}", target.path()), STRATEGIC_PATCH, &patch).await?;
    }
    args.change.report(&changed, done)
}
