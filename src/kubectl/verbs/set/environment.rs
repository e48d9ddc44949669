//! `kubectl set env`: variables of containers, typed, from standard input, or from a config map or a secret.

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Map, Value, json};

use super::{OnArgs, containers, is_chosen, name_of, pod_spec};
use crate::change::DryRun;
use crate::env::{Env, print, tell};
use crate::error::{Error, Result, collect};
use crate::selection::{Selection, Target};
use crate::terminal::warn;

/// Update environment variables of a pod template: NAME=VALUE … NAME- …
#[derive(Args)]
pub(super) struct EnvArgs {
    /// TYPE NAME … NAME=VALUE … NAME- …, - reads NAME=VALUE lines from standard input
    arguments: Vec<String>,
    /// Containers to change, perhaps with wildcards
    #[arg(short = 'c', long, default_value = "*")]
    containers: String,
    /// NAME=VALUE, may be repeated
    #[arg(short = 'e', long)]
    env: Vec<String>,
    /// Config map or secret whose keys become variables
    #[arg(long)]
    from: Option<String>,
    /// Only these keys of --from
    #[arg(long, value_delimiter = ',')]
    keys: Vec<String>,
    /// Put before the names of variables
    #[arg(long)]
    prefix: Option<String>,
    /// Show the variables instead of changing objects
    #[arg(long)]
    list: bool,
    /// With --list: show what references lead to
    #[arg(long)]
    resolve: bool,
    /// Allow values to be replaced
    #[arg(long, default_value_t = true)]
    overwrite: bool,
    #[command(flatten)]
    on: OnArgs,
}

/// What is to be done: variables to set, in order, and names to remove.
#[derive(Debug, Default, PartialEq)]
struct Changes {
    set: Vec<Value>,
    remove: Vec<String>,
}

pub(super) async fn run(env: &Env, args: EnvArgs) -> Result<()> {
    let (resources, specs) = split(&args.arguments)?;
    let format = args.on.change.output.output.as_deref().unwrap_or_default();
    if args.list && !format.is_empty() {
        return Err(Error::message("--list and --output may not be specified together"));
    }
    if !args.keys.is_empty() && args.from.is_none() {
        return Err(Error::message(
            "when specifying --keys, a configmap or secret must be provided with --from",
        ));
    }
    let specs: Vec<String> = args.env.iter().cloned().chain(specs).collect();
    let mut changes = parse(&specs, || {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text)?;
        Ok(text)
    })?;
    if let Some(from) = args.from.as_deref().filter(|from| !from.is_empty()) {
        for target in sources(env, &args, from).await? {
            let object = env.rest().await?.get(&target.path()).await?;
            changes.set.extend(references(&object, &args.keys)?);
        }
    }
    if let Some(prefix) = &args.prefix {
        for variable in &mut changes.set {
            variable["name"] = json!(format!("{prefix}{}", variable["name"].as_str().unwrap_or_default()));
        }
    }
    let mut errors = Vec::new();
    for target in args.on.targets(env, &resources).await? {
        if let Err(error) = one(env, &target, &args, &changes).await {
            errors.push(error);
        }
    }
    collect(errors)
}

/// Resources come first; from the first `NAME=VALUE` or `NAME-` on everything is a change.
fn split(arguments: &[String]) -> Result<(Vec<String>, Vec<String>)> {
    let is_change = |text: &String| text.find('=').is_some_and(|at| at > 0) || text.ends_with('-');
    let first = arguments.iter().position(is_change).unwrap_or(arguments.len());
    let (resources, changes) = arguments.split_at(first);
    if !changes.iter().all(is_change) {
        let all = arguments.join(" ");
        return Err(Error::message(format!(
            "all resources must be specified before environment changes: {all}"
        )));
    }
    Ok((resources.to_vec(), changes.to_vec()))
}

fn parse(specs: &[String], input: impl FnOnce() -> Result<String>) -> Result<Changes> {
    let mut changes = Changes::default();
    let mut input = Some(input);
    for spec in specs {
        if spec == "-" {
            let text = input.take().map_or_else(|| Ok(String::new()), |input| input())?;
            for line in text.lines() {
                let line = line.split('#').next().unwrap_or_default();
                if let Some((name, value)) = line.split_once('=') {
                    changes.set.push(json!({"name": name, "value": value}));
                }
            }
        } else if let Some((name, value)) = spec.split_once('=') {
            if !is_name(name) {
                return Err(Error::message(format!(
                    "{name:?} is not a valid key name: a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '[-._a-zA-Z][-._a-zA-Z0-9]*')"
                )));
            }
            changes.set.push(json!({"name": name, "value": value}));
        } else if let Some(name) = spec.strip_suffix('-') {
            changes.remove.push(name.to_string());
        } else {
            return Err(Error::message(format!("unknown environment variable: {spec}")));
        }
    }
    if changes.set.iter().any(|one| changes.remove.iter().any(|name| one["name"] == name.as_str())) {
        return Err(Error::message(
            "can not both modify and remove the same environment variable in the same command",
        ));
    }
    Ok(changes)
}

fn is_name(name: &str) -> bool {
    let is_other = |c: char| matches!(c, '-' | '.' | '_');
    name.starts_with(|c: char| c.is_ascii_alphabetic() || is_other(c))
        && name.chars().all(|c| c.is_ascii_alphanumeric() || is_other(c))
        && !matches!(name, "." | "..")
}

/// The objects of `--from`.
async fn sources(env: &Env, args: &EnvArgs, from: &str) -> Result<Vec<Target>> {
    let words: Vec<String> = from.split_whitespace().map(str::to_string).collect();
    match env.select(&words).await? {
        Selection::Targets(targets) => Ok(targets),
        Selection::Collections(rows) => {
            if !args.on.all && !args.on.selector.given() {
                return Err(Error::message("resource(s) were provided, but no name was specified"));
            }
            let mut targets = Vec::new();
            for row in rows {
                targets.extend(env.members(&row, &args.on.selector).await?);
            }
            Ok(targets)
        }
    }
}

/// A variable for each key of a config map or a secret.
fn references(object: &Value, keys: &[String]) -> Result<Vec<Value>> {
    let reference = match object["kind"].as_str() {
        Some("ConfigMap") => "configMapKeyRef",
        Some("Secret") => "secretKeyRef",
        _ => return Err(Error::message("unsupported resource specified in --from")),
    };
    let data = object["data"].as_object().into_iter().flat_map(Map::keys);
    let chosen = data.filter(|key| keys.is_empty() || keys.contains(key));
    let variable = |key: &String| {
        let name: String = key
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_uppercase() } else { '_' })
            .collect();
        if name != *key {
            warn(&format!("key {key} transferred to {name}"));
        }
        json!({"name": name, "valueFrom": {reference: {"name": object["metadata"]["name"], "key": key}}})
    };
    Ok(chosen.map(variable).collect())
}

/// The variables of a container after a change: those it has stay in their places, new ones follow.
fn updated(existing: &[Value], changes: &Changes) -> Vec<Value> {
    let newer = |name: &Value| changes.set.iter().find(|one| one["name"] == *name);
    let mut covered: Vec<&Value> = Vec::new();
    let mut out = Vec::new();
    for variable in existing {
        let name = &variable["name"];
        if covered.contains(&name) || changes.remove.iter().any(|removed| *name == removed.as_str()) {
            continue;
        }
        match newer(name) {
            Some(newer) => {
                covered.push(name);
                out.push(newer.clone());
            }
            None => out.push(variable.clone()),
        }
    }
    for variable in &changes.set {
        if !covered.contains(&&variable["name"]) {
            covered.push(&variable["name"]);
            out.push(variable.clone());
        }
    }
    out
}

async fn one(env: &Env, target: &Target, args: &EnvArgs, changes: &Changes) -> Result<()> {
    let before = env.present(target, &args.on.local).await?;
    let mut after = before.clone();
    let spec = pod_spec(target, &mut after)?;
    let kind = &target.row.kind;
    let mut found = false;
    let mut listed = Vec::new();
    for container in containers(spec).into_iter().filter(|one| is_chosen(&args.containers, &name_of(one))) {
        found = true;
        let existing = container.get("env").and_then(Value::as_array).cloned().unwrap_or_default();
        if !args.overwrite {
            check_overwrites(&existing, changes).map_err(|error| match error {
                Error::Message(text) => {
                    Error::message(format!("{}/{} {text}\n", target.row.plural, target.name))
                }
                other => other,
            })?;
        }
        let variables = updated(&existing, changes);
        listed.push((name_of(container), variables.clone(), Value::Object(container.clone())));
        match variables.is_empty() {
            true => drop(container.remove("env")),
            false => drop(container.insert("env".to_string(), Value::Array(variables))),
        }
    }
    if !found {
        warn(&format!("{kind}/{} does not have any containers matching {:?}", target.name, args.containers));
    }
    if args.list {
        let mut failed = false;
        for (name, variables, container) in listed {
            print(&format!("# {kind} {}, container {name}\n", target.name))?;
            failed |= !list(env, args, &before, &container, &variables).await?;
        }
        return if failed { Err(Error::message("failed to retrieve valueFrom references")) } else { Ok(()) };
    }
    args.on.send(env, target, &before, after, "env updated").await
}

fn check_overwrites(existing: &[Value], changes: &Changes) -> Result<()> {
    for variable in &changes.set {
        let (name, wanted) = (variable["name"].as_str().unwrap_or_default(), text(&variable["value"]));
        let present = existing.iter().find(|one| one["name"] == name).map(|one| text(&one["value"]));
        if let Some(present) = present.filter(|present| *present != wanted) {
            return Err(Error::message(format!(
                "'{name}' already has a value ({present}), and --overwrite is false"
            )));
        }
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Prints variables; answers whether every reference that was to be resolved was.
async fn list(
    env: &Env,
    args: &EnvArgs,
    object: &Value,
    container: &Value,
    variables: &[Value],
) -> Result<bool> {
    let mut failures: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for variable in variables {
        let name = text(&variable["name"]);
        let from = &variable["valueFrom"];
        if from.is_null() {
            print(&format!("{name}={}\n", text(&variable["value"])))?;
            continue;
        }
        if args.resolve && args.on.change.mode()? != DryRun::Server {
            match resolved(env, object, container, from).await {
                Ok(value) => {
                    print(&format!("{name}={value}\n"))?;
                    continue;
                }
                Err(error) => {
                    let why = match &error {
                        Error::Message(text) => text.clone(),
                        other => {
                            other.api().map_or_else(|| other.to_string(), |api| api.message().to_string())
                        }
                    };
                    failures.entry(why).or_default().push(name.to_string());
                }
            }
        }
        print(&format!("# {name} from {}\n", shown(from)))?;
    }
    for (why, mut names) in failures.iter().map(|(why, names)| (why, names.clone())) {
        names.sort();
        tell(&format!("error retrieving reference for {}: {why}", names.join(", ")));
    }
    Ok(failures.is_empty())
}

/// A reference in words.
fn shown(from: &Value) -> String {
    let of = |key: &str| &from[key];
    if from["configMapKeyRef"].is_object() {
        let reference = of("configMapKeyRef");
        format!("configmap {}, key {}", text(&reference["name"]), text(&reference["key"]))
    } else if from["secretKeyRef"].is_object() {
        let reference = of("secretKeyRef");
        format!("secret {}, key {}", text(&reference["name"]), text(&reference["key"]))
    } else if from["fieldRef"].is_object() {
        format!("field path {}", text(&from["fieldRef"]["fieldPath"]))
    } else if from["resourceFieldRef"].is_object() {
        let reference = of("resourceFieldRef");
        let container = reference["containerName"].as_str().filter(|name| !name.is_empty());
        let prefix = container.map(|name| format!("{name}/")).unwrap_or_default();
        format!("resource field {prefix}{}", text(&reference["resource"]))
    } else {
        "invalid valueFrom".to_string()
    }
}

/// What a reference leads to.
async fn resolved(env: &Env, object: &Value, container: &Value, from: &Value) -> Result<String> {
    let get = async |path: String| env.rest().await?.get(&path).await;
    let collection = |plural: &str| format!("/api/v1/namespaces/{}/{plural}", env.namespace);
    if let Some(reference) = from["secretKeyRef"].as_object() {
        let (name, key) = (text(&reference["name"]), text(&reference["key"]));
        let secret = get(format!("{}/{name}", collection("secrets"))).await?;
        let value = secret["data"][key].as_str().and_then(|value| STANDARD.decode(value).ok());
        return value
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .ok_or_else(|| Error::message(format!("key {key} not found in secret {name}")));
    }
    if let Some(reference) = from["configMapKeyRef"].as_object() {
        let (name, key) = (text(&reference["name"]), text(&reference["key"]));
        let map = get(format!("{}/{name}", collection("configmaps"))).await?;
        let value = map["data"][key].as_str().map(str::to_string);
        return value.ok_or_else(|| Error::message(format!("key {key} not found in config map {name}")));
    }
    if let Some(path) = from["fieldRef"]["fieldPath"].as_str() {
        return field(object, path);
    }
    resource(container, &from["resourceFieldRef"])
}

fn field(object: &Value, path: &str) -> Result<String> {
    let metadata = &object["metadata"];
    if let Some((name, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        return match name {
            "metadata.annotations" | "metadata.labels" => {
                Ok(text(&metadata[name.trim_start_matches("metadata.")][key]).to_string())
            }
            _ => Err(Error::message(format!("fieldPath {path:?} does not support subscript"))),
        };
    }
    match path {
        "metadata.annotations" | "metadata.labels" => {
            let map = metadata[path.trim_start_matches("metadata.")].as_object().into_iter().flatten();
            let mut lines: Vec<String> = map.map(|(key, value)| format!("{key}={:?}", text(value))).collect();
            lines.sort();
            Ok(lines.join("\n"))
        }
        "metadata.name" | "metadata.namespace" | "metadata.uid" => {
            Ok(text(&metadata[path.trim_start_matches("metadata.")]).to_string())
        }
        _ => Err(Error::message(format!("unsupported fieldPath: {path}"))),
    }
}

/// A request or limit in units of the divisor, rounded up.
fn resource(container: &Value, reference: &Value) -> Result<String> {
    let resource = text(&reference["resource"]);
    let unsupported = || Error::message(format!("Unsupported container resource : {resource}"));
    let (list, name) = resource.split_once('.').ok_or_else(unsupported)?;
    if !matches!(list, "limits" | "requests") {
        return Err(unsupported());
    }
    let quantity = |value: &Value, or: &str| {
        value
            .as_str()
            .unwrap_or(or)
            .parse::<api::quantity::Quantity>()
            .map_err(|error| Error::message(error.to_string()))
    };
    let amount = quantity(&container["resources"][list][name], "0")?;
    let divisor = quantity(&reference["divisor"], "1")?;
    let (amount, divisor) = (amount.milli_value(), divisor.milli_value().max(1));
    Ok((amount / divisor + i64::from(amount % divisor != 0)).to_string())
}

#[cfg(test)]
mod tests;
