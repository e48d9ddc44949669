//! Ingresses: hosts and paths with the endpoints behind them.

use std::collections::BTreeSet;

use api::json::{as_items, as_text};
use api::kinds::SERVICE;
use client::ObjectRef;
use client::https::path_of;
use serde_json::Value;

use super::cluster::{endpoint_slices, endpoints, joined};
use super::sheet::Sheet;
use crate::env::Env;
use crate::error::Result;

pub(super) async fn describe(env: &Env, sheet: &mut Sheet, object: &Value) -> Result<()> {
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    let namespace = as_text(&metadata["namespace"]);
    sheet.line(0, &format!("Name:\t{}", as_text(&metadata["name"])));
    sheet.labels(0, "Labels", &metadata["labels"]);
    sheet.line(0, &format!("Namespace:\t{namespace}"));
    let addresses: BTreeSet<&str> = as_items(&object["status"]["loadBalancer"]["ingress"])
        .iter()
        .filter_map(|one| one["ip"].as_str().or(one["hostname"].as_str()))
        .collect();
    let addresses: Vec<&str> = addresses.into_iter().collect();
    sheet.line(0, &format!("Address:\t{}", addresses.join(",")));
    let class = spec["ingressClassName"].as_str().unwrap_or("<none>");
    sheet.line(0, &format!("Ingress Class:\t{class}"));
    let default = match &spec["defaultBackend"] {
        Value::Null => "<default>".to_string(),
        given => backend(env, namespace, given).await?,
    };
    sheet.line(0, &format!("Default backend:\t{default}"));
    let tls = as_items(&spec["tls"]);
    if !tls.is_empty() {
        sheet.line(0, "TLS:");
    }
    for one in tls {
        let hosts = joined(&one["hosts"]);
        match as_text(&one["secretName"]) {
            "" => sheet.line(1, &format!("SNI routes {hosts}")),
            secret => sheet.line(1, &format!("{secret} terminates {hosts}")),
        }
    }
    sheet.line(0, "Rules:");
    sheet.line(1, "Host\tPath\tBackends");
    sheet.line(1, "----\t----\t--------");
    let mut rules = as_items(&spec["rules"]).iter().filter(|rule| !rule["http"].is_null()).peekable();
    if rules.peek().is_none() {
        sheet.line(1, &format!("*\t*\t{default}"));
    }
    for rule in rules {
        let host = rule["host"].as_str().filter(|host| !host.is_empty()).unwrap_or("*");
        sheet.line(1, &format!("{host}\t"));
        for path in as_items(&rule["http"]["paths"]) {
            let backend = backend(env, namespace, &path["backend"]).await?;
            sheet.line(2, &format!("\t{} \t{backend}", as_text(&path["path"])));
        }
    }
    sheet.annotations(0, "Annotations", &metadata["annotations"]);
    Ok(())
}

/// A backend with its first endpoints.
async fn backend(env: &Env, namespace: &str, backend: &Value) -> Result<String> {
    let service = &backend["service"];
    if service.is_null() {
        let resource = &backend["resource"];
        let group = resource["apiGroup"].as_str().unwrap_or("<none>");
        let (kind, name) = (as_text(&resource["kind"]), as_text(&resource["name"]));
        return Ok(format!("APIGroup: {group}, Kind: {kind}, Name: {name}"));
    }
    let (name, number, port) =
        (as_text(&service["name"]), service["port"]["number"].as_i64(), as_text(&service["port"]["name"]));
    let shown = match number.filter(|number| *number != 0) {
        Some(number) => format!("{name}:{number}"),
        None => format!("{name}:{port}"),
    };
    let path = path_of(&SERVICE, ObjectRef::new(Some(namespace), name));
    let found = match env.rest().await?.get(&path).await {
        Ok(found) => found,
        Err(error) => match error.api() {
            Some(why) => return Ok(format!("{shown} (<error: {}>)", why.message())),
            None => return Err(error),
        },
    };
    let is_meant = |it: &&Value| match number.filter(|number| *number != 0) {
        Some(number) => it["port"] == number,
        None => it["name"] == port,
    };
    let meant = as_items(&found["spec"]["ports"]).iter().rfind(is_meant);
    let slices = endpoint_slices(env, namespace, name).await?;
    let endpoints = match slices.is_empty() {
        true => "<none>".to_string(),
        false => endpoints(&slices, meant.map_or("", |port| as_text(&port["name"]))),
    };
    Ok(format!("{shown} ({endpoints})"))
}
