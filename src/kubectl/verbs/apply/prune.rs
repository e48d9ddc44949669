//! `--prune`: what was applied before, is not given any more, and has the labels, goes.
//!
//! Only objects with the last-applied annotation are looked at: in the namespaces that were given objects of,
//! and those of no namespace. Which kinds is upstream's list, or `--prune-allowlist`. Absent: ApplySets.

use std::collections::BTreeSet;

use clap::Args;
use client::https::encode_component;
use serde_json::{Value, json};

use super::last_applied;
use crate::change::DryRun;
use crate::discovery::Row;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::selection::Target;
use crate::terminal::warn;
use crate::verbs::apply::ApplyArgs;
use crate::verbs::delete::propagation;

#[derive(Args, Default)]
pub(crate) struct PruneArgs {
    /// Delete objects that were applied before and are no longer given
    #[arg(long)]
    pub(crate) prune: bool,
    /// GROUP/VERSION/KIND to prune instead of the usual ones; may be repeated
    #[arg(long)]
    pub(crate) prune_allowlist: Vec<String>,
}

/// Group, version and kind of what is pruned if nothing else is said.
const USUAL: [(&str, &str, &str); 16] = [
    ("", "v1", "ConfigMap"),
    ("", "v1", "Endpoints"),
    ("", "v1", "PersistentVolumeClaim"),
    ("", "v1", "Pod"),
    ("", "v1", "ReplicationController"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("batch", "v1", "Job"),
    ("batch", "v1", "CronJob"),
    ("networking.k8s.io", "v1", "Ingress"),
    ("apps", "v1", "DaemonSet"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ReplicaSet"),
    ("apps", "v1", "StatefulSet"),
    ("", "v1", "Namespace"),
    ("", "v1", "PersistentVolume"),
];

/// Objects that were given, and the namespaces they are in.
#[derive(Default)]
pub(crate) struct Visited {
    uids: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl Visited {
    pub(crate) fn note(&mut self, target: &Target, object: &Value) {
        self.namespaces.extend(target.namespace.clone());
        self.uids.extend(object["metadata"]["uid"].as_str().map(str::to_string));
    }
}

/// Flags that do not go together.
pub(super) fn check(args: &ApplyArgs) -> Result<()> {
    if !args.prune.prune {
        return Ok(());
    }
    if args.force {
        return Err(Error::message("--force cannot be used with --prune"));
    }
    if args.selector.as_deref().unwrap_or_default().is_empty() && !args.all {
        return Err(Error::message(
            "all resources selected for prune without explicitly passing --all. To prune all resources, pass the --all flag. If you did not mean to prune all resources, specify a label selector",
        ));
    }
    if args.server_side {
        return Err(Error::message(
            "--prune is in alpha and doesn't currently work on objects created by server-side apply",
        ));
    }
    Ok(())
}

async fn rows(env: &Env, args: &PruneArgs) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if args.prune_allowlist.is_empty() {
        for (group, version, kind) in USUAL {
            rows.push(env.kind_of(&api_version(group, version), kind).await?);
        }
        return Ok(rows);
    }
    for given in &args.prune_allowlist {
        let parts: Vec<&str> = given.split('/').collect();
        let [group, version, kind] = parts[..] else {
            return Err(Error::message(format!(
                "invalid GroupVersionKind format: {given}, please follow <group/version/kind>"
            )));
        };
        let group = if group == "core" { "" } else { group };
        rows.push(env.kind_of(&api_version(group, version), kind).await?);
    }
    Ok(rows)
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_string() } else { format!("{group}/{version}") }
}

/// What is to go, kind by kind.
pub(crate) async fn candidates(
    env: &Env,
    args: &PruneArgs,
    selector: Option<&str>,
    visited: &Visited,
) -> Result<Vec<(Target, Value)>> {
    if args.prune_allowlist.is_empty() {
        warn(
            "Deprecated: kubectl apply will no longer prune non-namespaced resources by default when used with the --namespace flag in a future release. To preserve the current behaviour, list the resources you want to target explicitly in the --prune-allowlist flag.",
        );
    }
    let query = match selector.filter(|selector| !selector.is_empty()) {
        Some(selector) => format!("labelSelector={}&", encode_component(selector)),
        None => String::new(),
    };
    let rows = rows(env, args).await?;
    let mut places: Vec<(&Row, Option<&str>)> = Vec::new();
    for namespace in &visited.namespaces {
        places.extend(rows.iter().filter(|row| row.namespaced()).map(|row| (row, Some(namespace.as_str()))));
    }
    places.extend(rows.iter().filter(|row| !row.namespaced()).map(|row| (row, None)));
    let mut found = Vec::new();
    for (row, namespace) in places {
        for object in env.list(row, namespace, &query, 500).await? {
            let is_given = object["metadata"]["uid"].as_str().is_some_and(|uid| visited.uids.contains(uid));
            if is_given || object["metadata"]["annotations"][last_applied::ANNOTATION].is_null() {
                continue;
            }
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_string();
            let namespace = namespace.map(str::to_string);
            found.push((Target { row: row.clone(), namespace, name, manifest: None }, object));
        }
    }
    Ok(found)
}

pub(super) async fn prune(env: &Env, args: &ApplyArgs, visited: &Visited) -> Result<()> {
    let mode = args.change.mode()?;
    for (target, object) in candidates(env, &args.prune, args.selector.as_deref(), visited).await? {
        if mode != DryRun::Client {
            let mut options = json!({
                "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation(&args.cascade)?,
            });
            if mode == DryRun::Server {
                options["dryRun"] = json!(["All"]);
            }
            env.rest().await?.delete(&target.path(), &options).await?;
        }
        args.change.report(&object, "pruned")?;
    }
    Ok(())
}
