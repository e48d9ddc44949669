//! Candidates from the server and from the kubeconfig. What cannot be asked gives none.

use std::ffi::OsString;

use clap::{Arg, Command};
use client::kubeconfig::{Loaded, Places};
use serde_json::Value;

use super::{Candidates, plain, waiting};
use crate::cli;
use crate::command_line;
use crate::env::Env;
use crate::error::Result;
use crate::global::Global;
use crate::pods;
use crate::selection::{Selection, collection};

/// Names of the objects of a kind.
pub(super) async fn names(root: &Command, before: &[String], kind: &str) -> Candidates {
    const NAMES: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    let found = async {
        let env = env(root, before)?;
        let Selection::Collections(rows) = env.select(&[kind.to_string()]).await? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for row in rows {
            let namespace = row.namespaced().then_some(env.namespace.as_str());
            let list = env.rest().await?.get_as(&collection(&row, namespace), NAMES).await?;
            let items = list["items"].as_array().into_iter().flatten();
            found.extend(items.filter_map(|item| item["metadata"]["name"].as_str().map(str::to_string)));
        }
        Result::Ok(found)
    };
    plain(found.await.unwrap_or_default())
}

/// The pod of a reference, or the best one of an object.
async fn pod(root: &Command, before: &[String], reference: &str) -> Result<Option<Value>> {
    let env = env(root, before)?;
    let reference = if reference.contains('/') { reference.to_string() } else { format!("pods/{reference}") };
    let Selection::Targets(targets) = env.select(&[reference]).await? else { return Ok(None) };
    match targets.first() {
        Some(target) => Ok(pods::pods_of(&env, target).await?.into_iter().next()),
        None => Ok(None),
    }
}

pub(super) async fn containers(root: &Command, before: &[String], reference: &str) -> Candidates {
    let Ok(Some(pod)) = pod(root, before, reference).await else { return Vec::new() };
    let kinds = ["initContainers", "containers"];
    kinds
        .into_iter()
        .flat_map(|kind| pods::container_names(&pod, kind))
        .map(|name| (name, String::new()))
        .collect()
}

/// `LOCAL:REMOTE` for each port; the local one is the remote one, or what is typed.
pub(super) async fn ports(root: &Command, before: &[String], reference: &str, prefix: &str) -> Candidates {
    let is_service = matches!(reference.split_once('/'), Some(("service" | "services" | "svc", _)));
    let numbers: Vec<i64> = if is_service {
        let object = async {
            let env = env(root, before)?;
            let Selection::Targets(targets) = env.select(&[reference.to_string()]).await? else {
                return Ok(Value::Null);
            };
            match targets.first() {
                Some(target) => env.rest().await?.get(&target.path()).await,
                None => Ok(Value::Null),
            }
        };
        let object = object.await.unwrap_or_default();
        let ports = object["spec"]["ports"].as_array().into_iter().flatten();
        ports.filter_map(|port| port["port"].as_i64()).collect()
    } else {
        let Ok(Some(pod)) = pod(root, before, reference).await else { return Vec::new() };
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let ports = containers.flat_map(|one| one["ports"].as_array().into_iter().flatten());
        ports.filter_map(|port| port["containerPort"].as_i64()).collect()
    };
    let typed = prefix.split(':').next().unwrap_or_default();
    let one = |number: i64| match typed {
        "" => format!("{number}:{number}"),
        typed => format!("{typed}:{number}"),
    };
    plain(numbers.into_iter().map(one))
}

pub(super) fn entries<T>(list: &[T], name: impl Fn(&T) -> &String) -> Vec<String> {
    list.iter().map(|one| name(one).clone()).collect()
}

/// Names from the kubeconfig.
pub(super) fn config(root: &Command, before: &[String], of: impl Fn(&Loaded) -> Vec<String>) -> Candidates {
    let global = global(root, before);
    let places = Places::from_environment(global.kubeconfig.as_deref());
    plain(Loaded::load(&places).map(|loaded| of(&loaded)).unwrap_or_default())
}

pub(super) fn env(root: &Command, before: &[String]) -> Result<Env> {
    Env::new(global(root, before))
}

/// The flags of a line that every command takes; the rest of it need not make sense yet.
pub(super) fn global(root: &Command, before: &[String]) -> Global {
    let own: Vec<&Arg> = root.get_arguments().filter(|arg| !arg.is_positional()).collect();
    let named = command_line::find(root, before);
    let all = command_line::flags(root, &named.path);
    let mut words: Vec<OsString> = vec!["kubectl".into(), "options".into()];
    let mut at = 0;
    while let Some(word) = before.get(at) {
        let value = waiting(&all, word).is_some();
        let is_own = match word.strip_prefix("--") {
            Some(name) => {
                let name = name.split('=').next();
                own.iter().any(|arg| arg.get_long() == name)
            }
            None => {
                let letter = word.strip_prefix('-').and_then(|rest| rest.chars().next());
                letter.is_some() && own.iter().any(|arg| arg.get_short() == letter)
            }
        };
        // The value of the last one is what is completed.
        if is_own && (!value || at + 1 < before.len()) {
            words.push(word.into());
            words.extend(before.get(at + 1).filter(|_| value).map(Into::into));
        }
        at += 1 + usize::from(value);
    }
    cli::parse(words).map(|cli| cli.global).unwrap_or_default()
}
