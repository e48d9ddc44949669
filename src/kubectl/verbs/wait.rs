//! `kubectl wait`, and waiting for deletion: read once, then watch; never poll.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use client::https::encode_component;

use crate::age;
use crate::env::{Env, print};
use crate::error::{Error, Result, collect};
use crate::manifest::FileArgs;
use crate::output::OutputArgs;
use crate::rest::JSON;
use crate::selection::{SelectorArgs, Target, collection};
use crate::verbs::get::watch::{Lines, next_event};
use api::jsonpath::{JsonPath, text_of};

/// Wait for a specific condition on one or many resources
#[derive(Args)]
pub(crate) struct WaitArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    /// All objects of the types given
    #[arg(long)]
    all: bool,
    /// create, delete, condition=NAME[=VALUE], or jsonpath='{EXPRESSION}'[=VALUE]; may be repeated
    #[arg(long = "for")]
    conditions: Vec<String>,
    /// Look at what files say, without asking the server
    #[arg(long)]
    local: bool,
    /// How long to wait; 0 looks once, negative means a week
    #[arg(long, default_value = "30s")]
    timeout: String,
    #[command(flatten)]
    output: OutputArgs,
}

enum Condition {
    Create,
    Delete,
    Status { name: String, value: String },
    Path { path: JsonPath, value: Option<String> },
}

impl Condition {
    fn parse(text: &str) -> Result<Self> {
        let lower = text.to_lowercase();
        match lower.as_str() {
            "create" => return Ok(Condition::Create),
            "delete" => return Ok(Condition::Delete),
            _ => {}
        }
        if lower.starts_with("condition=") {
            let rest = &text["condition=".len()..];
            let (name, value) = rest.split_once('=').unwrap_or((rest, "true"));
            return Ok(Condition::Status { name: name.to_string(), value: value.to_string() });
        }
        if lower.starts_with("jsonpath=") {
            let rest = text["jsonpath=".len()..].trim();
            // The expression may hold equals signs itself, so it ends with its brace.
            let (path, value) = match rest.rfind('}').filter(|_| rest.starts_with('{')) {
                Some(end) => {
                    let after = &rest[end + 1..];
                    (
                        &rest[..=end],
                        after.strip_prefix('=').map(|value| value.trim_matches(['\'', '"']).to_string()),
                    )
                }
                None => match rest.split_once('=') {
                    Some((path, value)) => (path, Some(value.trim_matches(['\'', '"']).to_string())),
                    None => (rest, None),
                },
            };
            if value.as_deref() == Some("") {
                return Err(Error::message(
                    "jsonpath wait has to have a value after equal sign, like --for=jsonpath='{.status.readyReplicas}'=3",
                ));
            }
            return Ok(Condition::Path { path: JsonPath::parse_relaxed(path)?, value });
        }
        Err(Error::message(format!("unrecognized condition: {text:?}")))
    }

    /// Whether an object that exists meets it.
    fn met(&self, object: &Value) -> Result<bool> {
        match self {
            Condition::Create => Ok(true),
            Condition::Delete => Ok(false),
            Condition::Status { name, value } => {
                let conditions = object["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
                let found = conditions
                    .iter()
                    .find(|one| one["type"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case(name)));
                let current = |found: &Value| {
                    // A condition that speaks of an older generation says nothing about this one.
                    let observed = found["observedGeneration"]
                        .as_i64()
                        .or(object["status"]["observedGeneration"].as_i64());
                    observed.is_none_or(|observed| {
                        object["metadata"]["generation"].as_i64().is_none_or(|own| observed >= own)
                    })
                };
                Ok(found.is_some_and(|found| {
                    current(found)
                        && found["status"].as_str().is_some_and(|status| status.eq_ignore_ascii_case(value))
                }))
            }
            Condition::Path { path, value } => {
                let Ok(values) = path.values(object) else { return Ok(false) };
                match (&values[..], value) {
                    ([], _) => Ok(false),
                    ([_], None) => Ok(true),
                    ([one], Some(value)) if one.is_object() || one.is_array() => {
                        Err(Error::message(format!(
                            "jsonpath leads to a nested object or list, not to a value to compare with {value:?}"
                        )))
                    }
                    ([one], Some(value)) => Ok(text_of(one) == *value),
                    _ => Err(Error::message("given jsonpath expression matches more than one value")),
                }
            }
        }
    }
}

pub(crate) async fn run(env: &Env, args: WaitArgs) -> Result<()> {
    if args.conditions.is_empty() {
        return Err(Error::message("--for must be specified"));
    }
    let conditions: Vec<Condition> =
        args.conditions.iter().map(|one| Condition::parse(one)).collect::<Result<_>>()?;
    let (negative, limit) = age::parse_signed(&args.timeout)?;
    let limit = if negative { Duration::from_secs(7 * 24 * 3600) } else { limit };
    let deadline = tokio::time::Instant::now() + limit;
    let waits_for_none = conditions.iter().all(|one| matches!(one, Condition::Delete));
    if args.local {
        return look(env, &args, &conditions);
    }
    let targets = env.targets(&args.resources, &args.files, &args.selector, args.all).await?;
    if targets.is_empty() {
        return if waits_for_none { Ok(()) } else { Err(Error::message("no matching resources found")) };
    }
    let mut errors = Vec::new();
    for condition in &conditions {
        for target in &targets {
            match until(env, target, condition, deadline, limit.is_zero()).await {
                Ok(Some(object)) => report(&args, target, &object)?,
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
    }
    collect(errors)
}

/// `--local`: whether files meet the conditions; nothing changes them.
fn look(env: &Env, args: &WaitArgs, conditions: &[Condition]) -> Result<()> {
    let mut errors = Vec::new();
    for target in env.local_targets(&args.resources, &args.files)? {
        let object = target.manifest.as_ref().map(|manifest| manifest.object.clone()).unwrap_or_default();
        for condition in conditions {
            match condition.met(&object)? {
                true => report(args, &target, &object)?,
                false => errors.push(Error::message(format!(
                    "timed out waiting for the condition on {}/{}",
                    target.row.plural, target.name
                ))),
            }
        }
    }
    collect(errors)
}

fn report(args: &WaitArgs, target: &Target, object: &Value) -> Result<()> {
    let format = args.output.format()?;
    if format.is_human() {
        return print(&format!("{} condition met\n", target.title()));
    }
    print(&format.text(object, args.output.show_managed_fields, false)?)
}

/// Waits for one object. None if there was nothing to wait for.
async fn until(
    env: &Env,
    target: &Target,
    condition: &Condition,
    deadline: tokio::time::Instant,
    once: bool,
) -> Result<Option<Value>> {
    let what = format!("{}/{}", target.row.plural, target.name);
    let timed_out = || Error::message(format!("timed out waiting for the condition on {what}"));
    match condition {
        Condition::Delete => {
            let current = match env.rest().await?.get(&target.path()).await {
                Ok(current) => current,
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            };
            if once {
                return Err(Error::message(format!("condition not met for {what}")));
            }
            let uid = current["metadata"]["uid"].as_str();
            let gone = tokio::time::timeout_at(deadline, until_gone(env, target, uid, Some(&current))).await;
            gone.map_err(|_| timed_out())??;
            Ok(Some(current))
        }
        _ => {
            if !matches!(condition, Condition::Create) {
                let current = env.rest().await?.get(&target.path()).await?;
                if condition.met(&current)? {
                    return Ok(Some(current));
                }
            }
            if once {
                return Err(Error::message(format!("condition not met for {what}")));
            }
            let work = follow(env, target, |object| match object {
                Some(object) if condition.met(object)? => Ok(Some(object.clone())),
                _ => Ok(None),
            });
            tokio::time::timeout_at(deadline, work).await.map_err(|_| timed_out())?.map(Some)
        }
    }
}

/// Waits until an object is gone or another has taken its name. `known` is its last known state, if it was
/// just read.
pub(crate) async fn until_gone(
    env: &Env,
    target: &Target,
    uid: Option<&str>,
    known: Option<&Value>,
) -> Result<()> {
    if known.is_none() {
        match env.rest().await?.get(&target.path()).await {
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
            Ok(current) if uid.is_some_and(|uid| current["metadata"]["uid"] != uid) => return Ok(()),
            Ok(_) => {}
        }
    }
    let gone = |object: Option<&Value>| {
        let other = object.is_some_and(|object| uid.is_some_and(|uid| object["metadata"]["uid"] != uid));
        Ok((object.is_none() || other).then_some(()))
    };
    follow(env, target, gone).await
}

/// As [`until_gone`], for no longer than a limit; zero means without one.
pub(crate) async fn until_gone_within(
    env: &Env,
    target: &Target,
    uid: Option<&str>,
    limit: Duration,
) -> Result<()> {
    let work = until_gone(env, target, uid, None);
    if limit.is_zero() {
        return work.await;
    }
    let timed_out = |_| Error::message("timed out waiting for the condition");
    tokio::time::timeout(limit, work).await.map_err(timed_out)?
}

/// Lists and watches one object until `found` gives something; `None` is given when the object is not there.
/// A watch that ends is opened again.
pub(crate) async fn follow<T>(
    env: &Env,
    target: &Target,
    found: impl Fn(Option<&Value>) -> Result<Option<T>>,
) -> Result<T> {
    let rest = env.rest().await?;
    let selector = format!("fieldSelector={}", encode_component(&format!("metadata.name={}", target.name)));
    let path = collection(&target.row, target.namespace.as_deref());
    loop {
        let mut list = rest.get(&format!("{path}?{selector}")).await?;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_string();
        let first = list["items"].as_array_mut().and_then(Vec::pop);
        if let Some(result) = found(first.as_ref())? {
            return Ok(result);
        }
        let watch = format!("{path}?{selector}&watch=true&resourceVersion={version}");
        let opened = rest.stream(&watch, JSON).await;
        let mut lines = match opened {
            Err(error) if error.api().is_some_and(api::ApiError::is_expired) => continue,
            opened => Lines::new(rest, opened?),
        };
        loop {
            match next_event(&mut lines).await {
                Ok(Some((kind, object))) => {
                    let object = (kind != "DELETED").then_some(&object);
                    if let Some(result) = found(object)? {
                        return Ok(result);
                    }
                }
                Ok(None) => break,
                Err(error) if error.api().is_some_and(api::ApiError::is_expired) => break,
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests;
