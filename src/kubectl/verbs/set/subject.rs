//! `kubectl set subject` and `kubectl set selector`: whom a binding is for, and which pods a service has.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::change::ChangeArgs;
use crate::env::Env;
use crate::error::{Error, Result, collect};
use crate::local::LocalArgs;
use crate::manifest::FileArgs;
use crate::rest::MERGE_PATCH;
use crate::selection::{SelectorArgs, Target};

/// Update the user, group, or service account in a role binding or cluster role binding
#[derive(Args)]
pub(crate) struct SubjectArgs {
    resources: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    #[arg(long)]
    all: bool,
    /// User to bind to the role, may be repeated
    #[arg(long = "user")]
    user: Vec<String>,
    /// Group to bind to the role, may be repeated
    #[arg(long)]
    group: Vec<String>,
    /// NAMESPACE:NAME of a service account to bind to the role, may be repeated
    #[arg(long)]
    serviceaccount: Vec<String>,
    #[command(flatten)]
    local: LocalArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Set the selector on a resource
#[derive(Args)]
pub(crate) struct SetSelectorArgs {
    /// TYPE NAME KEY=VALUE,…
    arguments: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    /// All services in the namespace
    #[arg(long)]
    all: bool,
    /// Only if this is the present version
    #[arg(long)]
    resource_version: Option<String>,
    #[command(flatten)]
    local: LocalArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) async fn subject(env: &Env, args: SubjectArgs) -> Result<()> {
    let added = subjects(&args, &env.namespace)?;
    let mut errors = Vec::new();
    let targets = env
        .local_or_targets(&args.local, &args.change, &args.resources, &args.files, &args.selector, args.all)
        .await?;
    for target in targets {
        errors.extend(bind(env, &target, &args, &added).await.err());
    }
    collect(errors)
}

fn subjects(args: &SubjectArgs, namespace: &str) -> Result<Vec<Value>> {
    if args.user.is_empty() && args.group.is_empty() && args.serviceaccount.is_empty() {
        return Err(Error::message("you must specify at least one value of user, group or serviceaccount"));
    }
    let sorted = |names: &[String]| names.iter().cloned().collect::<BTreeSet<String>>();
    let named = |kind: &str, name: String| json!({"kind": kind, "apiGroup": GROUP, "name": name});
    let mut subjects: Vec<Value> = sorted(&args.user).into_iter().map(|name| named("User", name)).collect();
    subjects.extend(sorted(&args.group).into_iter().map(|name| named("Group", name)));
    for account in sorted(&args.serviceaccount) {
        let (own, name) = account
            .split_once(':')
            .filter(|(_, name)| !name.is_empty() && !name.contains(':'))
            .ok_or_else(|| Error::message("serviceaccount must be <namespace>:<name>"))?;
        let own = if own.is_empty() { namespace } else { own };
        subjects.push(json!({"kind": "ServiceAccount", "namespace": own, "name": name}));
    }
    Ok(subjects)
}

async fn bind(env: &Env, target: &Target, args: &SubjectArgs, added: &[Value]) -> Result<()> {
    if target.row.group != GROUP || !target.row.kind.ends_with("RoleBinding") {
        return Err(Error::message("setting subjects is only supported for RoleBinding/ClusterRoleBinding"));
    }
    let object = env.present(target, &args.local).await?;
    let mut all = object["subjects"].as_array().cloned().unwrap_or_default();
    let before = all.len();
    all.extend(
        added
            .iter()
            .filter(|one| !object["subjects"].as_array().is_some_and(|own| own.contains(one)))
            .cloned(),
    );
    if all.len() == before {
        return Ok(());
    }
    // Nobody may have changed the list since it was read: it is sent whole.
    let mut patch = json!({"subjects": all});
    if !args.local.local {
        patch["metadata"] = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
    }
    send(env, target, (&args.local, &args.change), object, &patch, "subjects updated").await
}

pub(super) async fn selector(env: &Env, args: SetSelectorArgs) -> Result<()> {
    let Some((expressions, resources)) = args.arguments.split_last() else {
        return Err(Error::message("one selector is required"));
    };
    let none = SelectorArgs::default();
    let targets =
        env.local_or_targets(&args.local, &args.change, resources, &args.files, &none, args.all).await?;
    for target in targets {
        let wanted = labels(expressions)?;
        if target.row.kind != "Service" || !target.row.group.is_empty() {
            return Err(Error::message("setting a selector is only supported for Services"));
        }
        let object = env.present(&target, &args.local).await?;
        // A merge patch keeps keys that it does not name.
        let mut replaced = wanted;
        for key in object["spec"]["selector"].as_object().into_iter().flat_map(Map::keys) {
            replaced.entry(key.clone()).or_insert(Value::Null);
        }
        let mut patch = json!({"spec": {"selector": replaced}});
        if let Some(version) = &args.resource_version {
            patch["metadata"] = json!({"resourceVersion": version});
        }
        send(env, &target, (&args.local, &args.change), object, &patch, "selector updated").await?;
    }
    Ok(())
}

fn labels(text: &str) -> Result<Map<String, Value>> {
    let pair = |one: &str| match one.split_once('=') {
        Some((key, value)) if !key.is_empty() && !key.ends_with('!') => {
            Ok((key.to_string(), json!(value.trim_start_matches('='))))
        }
        _ => Err(Error::message(format!("match expression {one} not supported on this object"))),
    };
    text.split(',').map(pair).collect()
}

async fn send(
    env: &Env,
    target: &Target,
    (local, change): (&LocalArgs, &ChangeArgs),
    object: Value,
    patch: &Value,
    done: &str,
) -> Result<()> {
    let changed = match local.only_prints(change)? {
        true => {
            let mut changed = object;
            let patch = api::Patch::merge(patch.clone());
            api::patch::apply(None, &mut changed, &patch)
                .map_err(|error| Error::message(error.to_string()))?;
            changed
        }
        false => {
            let query = change.query("kubectl-set", &[])?;
            env.rest().await?.patch(&format!("{}{query}", target.path()), MERGE_PATCH, patch).await?
        }
    };
    change.report(&changed, done)
}

#[cfg(test)]
mod tests;
