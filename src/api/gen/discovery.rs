//! Makes `src/api/kinds/upstream.txt`, the list of what a Kubernetes release serves, from its discovery.
//!
//! `cargo run -p minik8s-api-gen -- FACTS discovery > src/api/kinds/upstream.txt`. FACTS holds
//! `discovery-aggregated-v2.json`, the groups that have a name, and `swagger.json`, whose paths tell of the
//! core group; names and categories of that are not in it and become `?`. A test holds our kinds against the
//! list.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::Result;
use serde_json::Value;

const CORE: &str = "/api/v1/";

pub(crate) fn write(discovery: &Value, paths: &BTreeMap<String, Value>) -> Result<()> {
    let mut lines = core(paths);
    for group in items(&discovery["items"]) {
        for version in items(&group["versions"]) {
            let at = format!("{}/{}", text(&group["metadata"]["name"]), text(&version["version"]));
            for resource in items(&version["resources"]) {
                lines.push(format!(
                    "{at} {} {} {} {} verbs={} short={} categories={}",
                    text(&resource["resource"]),
                    text(&resource["responseKind"]["kind"]),
                    text(&resource["scope"]),
                    text(&resource["singularResource"]),
                    joined(&resource["verbs"]),
                    joined(&resource["shortNames"]),
                    joined(&resource["categories"]),
                ));
                for sub in items(&resource["subresources"]) {
                    let name = format!("{}/{}", text(&resource["resource"]), text(&sub["subresource"]));
                    let kind = text(&sub["responseKind"]["kind"]);
                    lines.push(format!("{at} {name} {kind} verbs={}", joined(&sub["verbs"])));
                }
            }
        }
    }
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn joined(list: &Value) -> String {
    items(list).iter().map(text).collect::<Vec<_>>().join(",")
}

/// What the paths tell of a resource.
#[derive(Default)]
struct Found {
    kind: String,
    namespaced: bool,
    verbs: BTreeSet<&'static str>,
}

fn core(paths: &BTreeMap<String, Value>) -> Vec<String> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for (path, operations) in paths {
        let Some(rest) = path.strip_prefix(CORE) else { continue };
        let (rest, watch) = rest.strip_prefix("watch/").map_or((rest, false), |rest| (rest, true));
        let (rest, namespaced) =
            rest.strip_prefix("namespaces/{namespace}/").map_or((rest, false), |rest| (rest, true));
        let steps: Vec<&str> = rest.split('/').filter(|step| !step.starts_with('{')).collect();
        if steps.is_empty() || steps[0].is_empty() {
            continue;
        }
        let own = found.entry(steps.join("/")).or_default();
        own.namespaced |= namespaced;
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let action = text(&operation["x-kubernetes-action"]);
            let verb = match (action, method.as_str()) {
                _ if watch => "watch",
                ("list", _) => "list",
                ("deletecollection", _) => "deletecollection",
                (_, "get") => "get",
                (_, "post") => "create",
                (_, "put") => "update",
                (_, "patch") => "patch",
                (_, "delete") => "delete",
                _ => continue,
            };
            own.verbs.insert(verb);
            let kind = text(&operation["x-kubernetes-group-version-kind"]["kind"]);
            if !kind.is_empty() && own.kind.is_empty() {
                own.kind = kind.to_string();
            }
        }
    }
    let line = |(name, own): (String, Found)| {
        let verbs = own.verbs.into_iter().collect::<Vec<_>>().join(",");
        let scope = if own.namespaced { "Namespaced" } else { "Cluster" };
        match name.contains('/') {
            true => format!("/v1 {name} {} verbs={verbs}", own.kind),
            false => format!("/v1 {name} {} {scope} ? verbs={verbs} short=? categories=?", own.kind),
        }
    };
    found.into_iter().filter(|(_, own)| !own.verbs.is_empty()).map(line).collect()
}
