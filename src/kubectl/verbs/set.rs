//! `kubectl set image | resources | serviceaccount`: changes of pod templates; `env` is in `environment`,
//! `subject` and `selector` are in `subject`.

mod environment;
mod subject;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::change::ChangeArgs;
use crate::env::Env;
use crate::error::{Error, Result, collect};
use crate::local::LocalArgs;
use crate::manifest::FileArgs;
use crate::rest::STRATEGIC_PATCH;
use crate::selection::{SelectorArgs, Target};
use crate::verbs::apply::three_way;

/// Set specific features on objects
#[derive(Args)]
pub(crate) struct SetArgs {
    #[command(subcommand)]
    command: SetCommand,
}

#[derive(Subcommand)]
enum SetCommand {
    Image(ImageArgs),
    Env(environment::EnvArgs),
    Resources(ResourcesArgs),
    #[command(name = "serviceaccount", alias = "sa")]
    ServiceAccount(ServiceAccountArgs),
    Subject(subject::SubjectArgs),
    Selector(subject::SetSelectorArgs),
}

/// Flags of every change of a pod template.
#[derive(Args)]
struct OnArgs {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    /// All objects of the types given
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    local: LocalArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Update the image of a pod template: CONTAINER=IMAGE …
#[derive(Args)]
struct ImageArgs {
    /// TYPE NAME CONTAINER=IMAGE …
    arguments: Vec<String>,
    #[command(flatten)]
    on: OnArgs,
}

/// Update resource requests and limits of a pod template
#[derive(Args)]
struct ResourcesArgs {
    /// TYPE NAME …
    resources: Vec<String>,
    /// Containers to change, perhaps with wildcards
    #[arg(short = 'c', long, default_value = "*")]
    containers: String,
    /// RESOURCE=QUANTITY,…
    #[arg(long, value_delimiter = ',')]
    requests: Vec<String>,
    /// RESOURCE=QUANTITY,…
    #[arg(long, value_delimiter = ',')]
    limits: Vec<String>,
    #[command(flatten)]
    on: OnArgs,
}

/// Update the service account of a pod template
#[derive(Args)]
struct ServiceAccountArgs {
    /// TYPE NAME SERVICE_ACCOUNT
    arguments: Vec<String>,
    #[command(flatten)]
    on: OnArgs,
}

/// Images by container, or by `*`.
type Images = Vec<(String, String)>;

/// Changes as they were typed, for containers or for the template as a whole.
enum Change {
    Image(Images),
    Resources { containers: String, requests: Value, limits: Value },
    ServiceAccount(String),
}

impl SetArgs {
    /// Changes a binding, whose flags name users.
    pub(crate) fn has_subjects(&self) -> bool {
        matches!(self.command, SetCommand::Subject(_))
    }
}

impl OnArgs {
    async fn targets(&self, env: &Env, resources: &[String]) -> Result<Vec<Target>> {
        if self.all && self.selector.selector.as_deref().is_some_and(|selector| !selector.is_empty()) {
            return Err(Error::message("cannot set --all and --selector at the same time"));
        }
        if resources.is_empty() && !self.files.given() {
            return Err(Error::message(
                "one or more resources must be specified as <resource> <name> or <resource>/<name>",
            ));
        }
        env.local_or_targets(&self.local, &self.change, resources, &self.files, &self.selector, self.all)
            .await
    }

    /// Sends what a change of the object is as a patch, and tells of it. Nothing to do is nothing to say.
    async fn send(&self, env: &Env, target: &Target, before: &Value, after: Value, done: &str) -> Result<()> {
        if *before == after {
            return Ok(());
        }
        if self.local.only_prints(&self.change)? {
            return self.change.report(&after, done);
        }
        let patch = three_way::patch(api::schema::for_kind(&target.row), before, &after, before);
        let query = self.change.query("kubectl-set", &[])?;
        let path = format!("{}{query}", target.path());
        let changed = env.rest().await?.patch(&path, STRATEGIC_PATCH, &patch).await?;
        self.change.report(&changed, done)
    }
}

pub(crate) async fn run(env: &Env, args: SetArgs) -> Result<()> {
    match args.command {
        SetCommand::Subject(args) => subject::subject(env, args).await,
        SetCommand::Selector(args) => subject::selector(env, args).await,
        SetCommand::Env(args) => environment::run(env, args).await,
        SetCommand::Image(args) => {
            let (resources, images) = images(&args.arguments)?;
            change_all(env, &args.on, &resources, &Change::Image(images), "image updated").await
        }
        SetCommand::Resources(args) => {
            let (requests, limits) = (quantities(&args.requests)?, quantities(&args.limits)?);
            if requests.is_null() && limits.is_null() {
                return Err(Error::message(
                    "you must specify an update to requests or limits (in the form of --requests/--limits)",
                ));
            }
            let change = Change::Resources { containers: args.containers, requests, limits };
            change_all(env, &args.on, &args.resources, &change, "resource requirements updated").await
        }
        SetCommand::ServiceAccount(args) => {
            let mut resources = args.arguments;
            let name = resources.pop().ok_or_else(|| Error::message("serviceaccount is required"))?;
            let change = Change::ServiceAccount(name);
            change_all(env, &args.on, &resources, &change, "serviceaccount updated").await
        }
    }
}

async fn change_all(env: &Env, on: &OnArgs, resources: &[String], change: &Change, done: &str) -> Result<()> {
    let mut errors = Vec::new();
    for target in on.targets(env, resources).await? {
        if let Err(error) = change_one(env, &target, on, change, done).await {
            errors.push(error);
        }
    }
    collect(errors)
}

/// Resources, and images by container: resources come first.
fn images(arguments: &[String]) -> Result<(Vec<String>, Images)> {
    let first = arguments.iter().position(|text| text.contains('=')).unwrap_or(arguments.len());
    let (resources, pairs) = arguments.split_at(first);
    let pair = |text: &String| {
        text.split_once('=').map(|(name, image)| (name.to_string(), image.to_string())).ok_or_else(|| {
            let all = arguments.join(" ");
            Error::message(format!("all resources must be specified before image changes: {all}"))
        })
    };
    let images: Images = pairs.iter().map(pair).collect::<Result<_>>()?;
    if images.is_empty() {
        return Err(Error::message("at least one image update is required"));
    }
    if images.len() > 1 && images.iter().any(|(name, _)| name == "*") {
        return Err(Error::message(
            "all containers are already specified by *, but saw more than one container_name=container_image pairs",
        ));
    }
    Ok((resources.to_vec(), images))
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

/// Whether `*` in a pattern can stand for what is left of a name.
fn is_chosen(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len()).any(|at| tail.get(at..).is_some_and(|tail| is_chosen(rest, tail)))
        }),
    }
}

/// Where the pods' specification is in an object of a kind.
fn spec_path(kind: &str) -> &'static str {
    match kind {
        "Pod" => "/spec",
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        _ => "/spec/template/spec",
    }
}

/// The pods' specification in an object.
fn pod_spec<'a>(target: &Target, object: &'a mut Value) -> Result<&'a mut Map<String, Value>> {
    let spec = object.pointer_mut(spec_path(&target.row.kind)).and_then(Value::as_object_mut);
    spec.ok_or_else(|| {
        let (row, name) = (&target.row, &target.name);
        Error::message(format!(
            "{}/{name} the object is not a pod or does not have a pod template: *{}.{}\n",
            row.plural, row.version, row.kind
        ))
    })
}

/// All containers, those that start before the others last, as kubectl goes through them.
fn containers(spec: &mut Map<String, Value>) -> Vec<&mut Map<String, Value>> {
    let (mut own, mut init) = (Vec::new(), Vec::new());
    for (key, list) in spec.iter_mut() {
        let found = list.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut);
        match key.as_str() {
            "containers" => own.extend(found),
            "initContainers" => init.extend(found),
            _ => {}
        }
    }
    own.extend(init);
    own
}

fn name_of(container: &Map<String, Value>) -> String {
    container.get("name").and_then(Value::as_str).unwrap_or_default().to_string()
}

async fn change_one(env: &Env, target: &Target, on: &OnArgs, change: &Change, done: &str) -> Result<()> {
    let before = env.present(target, &on.local).await?;
    let mut after = before.clone();
    let spec = pod_spec(target, &mut after)?;
    apply(spec, change)?;
    on.send(env, target, &before, after, done).await
}

fn apply(spec: &mut Map<String, Value>, change: &Change) -> Result<()> {
    match change {
        Change::ServiceAccount(name) => {
            spec.insert("serviceAccountName".to_string(), json!(name));
            if spec.contains_key("serviceAccount") {
                spec.insert("serviceAccount".to_string(), json!(name));
            }
        }
        Change::Image(images) => {
            let mut all = containers(spec);
            for (wanted, image) in images {
                let mut found = false;
                for container in all.iter_mut().filter(|one| wanted == "*" || name_of(one) == *wanted) {
                    container.insert("image".to_string(), json!(image));
                    found = true;
                }
                if !found && wanted != "*" {
                    return Err(Error::message(format!("unable to find container named {wanted:?}")));
                }
            }
        }
        Change::Resources { containers: chosen, requests, limits } => {
            let mut found = false;
            for container in containers(spec).into_iter().filter(|one| is_chosen(chosen, &name_of(one))) {
                found = true;
                for (key, values) in [("limits", limits), ("requests", requests)] {
                    let Some(values) = values.as_object() else { continue };
                    let resources = container.entry("resources").or_insert_with(|| json!({}));
                    for (name, quantity) in values {
                        resources[key][name] = quantity.clone();
                    }
                }
            }
            if !found {
                return Err(Error::message(format!("unable to find container named {chosen}")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
