//! From what a user types (`po`, `deployments.apps`, `Widget`) to a kind.
//!
//! Built-in kinds are known without asking the server, which keeps commands fast; everything else comes from
//! discovery, in its aggregated form where the server has it.

use std::borrow::Cow;
use std::sync::Arc;

use api::json::{as_items, as_text};
use api::kinds::{self, KindRow, Scope, Subresource};
use serde_json::Value;

use crate::env::Env;
use crate::error::{Error, Result};
use crate::rest::Rest;

pub(crate) type Row = Arc<KindRow>;

/// Everything the server offers, in its order of preference.
pub(crate) struct Discovery {
    pub(crate) rows: Vec<Row>,
    /// `v1`, `apps/v1`, … in the server's order.
    pub(crate) versions: Vec<String>,
}

const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

impl Discovery {
    pub(crate) async fn fetch(rest: &Rest) -> Result<Self> {
        let mut found = Discovery { rows: Vec::new(), versions: Vec::new() };
        for root in ["/api", "/apis"] {
            let answer = rest.get_as(root, AGGREGATED).await?;
            match answer["kind"].as_str() {
                Some("APIGroupDiscoveryList") => found.add_aggregated(&answer),
                _ => found.add_legacy(rest, root, &answer).await?,
            }
        }
        Ok(found)
    }

    fn add_aggregated(&mut self, list: &Value) {
        for group in as_items(&list["items"]) {
            let name = text(&group["metadata"]["name"]);
            for version in as_items(&group["versions"]) {
                let version_name = text(&version["version"]);
                self.versions.push(group_version(&name, &version_name));
                let rows = as_items(&version["resources"]).iter();
                self.rows
                    .extend(rows.filter_map(|one| aggregated_row(&name, &version_name, one)).map(Arc::new));
            }
        }
    }

    async fn add_legacy(&mut self, rest: &Rest, root: &str, answer: &Value) -> Result<()> {
        let mut versions: Vec<(String, String)> = Vec::new();
        if root == "/api" {
            versions
                .extend(as_items(&answer["versions"]).iter().map(|version| (String::new(), text(version))));
        }
        for group in as_items(&answer["groups"]) {
            let name = text(&group["name"]);
            versions
                .extend(as_items(&group["versions"]).iter().map(|one| (name.clone(), text(&one["version"]))));
        }
        for (group, version) in versions {
            let path =
                if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
            let list = match rest.get(&path).await {
                Ok(list) => list,
                // An aggregated API that is down must not hide the others.
                Err(error) if error.api().is_some() => continue,
                Err(error) => return Err(error),
            };
            self.versions.push(group_version(&group, &version));
            self.rows.extend(legacy_rows(&group, &version, &list).into_iter().map(Arc::new));
        }
        Ok(())
    }
}

fn text(value: &Value) -> String {
    as_text(value).to_string()
}

fn texts(value: &Value) -> Cow<'static, [Cow<'static, str>]> {
    Cow::Owned(as_items(value).iter().map(|one| Cow::Owned(text(one))).collect())
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_string() } else { format!("{group}/{version}") }
}

fn aggregated_row(group: &str, version: &str, resource: &Value) -> Option<KindRow> {
    let subresource = |one: &Value| Subresource {
        name: text(&one["subresource"]).into(),
        group: text(&one["responseKind"]["group"]).into(),
        version: text(&one["responseKind"]["version"]).into(),
        kind: text(&one["responseKind"]["kind"]).into(),
        verbs: texts(&one["verbs"]),
    };
    Some(KindRow {
        group: group.to_string().into(),
        version: version.to_string().into(),
        kind: resource["responseKind"]["kind"].as_str()?.to_string().into(),
        plural: resource["resource"].as_str()?.to_string().into(),
        singular: text(&resource["singularResource"]).into(),
        scope: if resource["scope"] == "Namespaced" { Scope::Namespaced } else { Scope::Cluster },
        short_names: texts(&resource["shortNames"]),
        categories: texts(&resource["categories"]),
        verbs: texts(&resource["verbs"]),
        subresources: Cow::Owned(as_items(&resource["subresources"]).iter().map(subresource).collect()),
        storage: None,
        stored_as: None,
    })
}

fn legacy_rows(group: &str, version: &str, list: &Value) -> Vec<KindRow> {
    let mut rows: Vec<KindRow> = Vec::new();
    for resource in as_items(&list["resources"]) {
        let name = text(&resource["name"]);
        let kind = text(&resource["kind"]);
        if let Some((parent, sub)) = name.split_once('/') {
            if let Some(row) = rows.iter_mut().find(|row| row.plural == parent) {
                row.subresources.to_mut().push(Subresource {
                    name: sub.to_string().into(),
                    group: text(&resource["group"]).into(),
                    version: text(&resource["version"]).into(),
                    kind: kind.into(),
                    verbs: texts(&resource["verbs"]),
                });
            }
            continue;
        }
        rows.push(KindRow {
            group: group.to_string().into(),
            version: version.to_string().into(),
            singular: Some(text(&resource["singularName"]))
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| kind.to_lowercase())
                .into(),
            kind: kind.into(),
            plural: name.into(),
            scope: if resource["namespaced"] == true { Scope::Namespaced } else { Scope::Cluster },
            short_names: texts(&resource["shortNames"]),
            categories: texts(&resource["categories"]),
            verbs: texts(&resource["verbs"]),
            subresources: Cow::Owned(Vec::new()),
            storage: None,
            stored_as: None,
        });
    }
    rows
}

/// A resource as typed: a name, perhaps with a version and a group behind it.
struct Wanted {
    name: String,
    group: Option<String>,
    version: Option<String>,
}

/// The readings of `a.b.c`: group `b.c`, or version `b` and group `c`.
fn readings(argument: &str) -> Vec<Wanted> {
    let lower = argument.to_lowercase();
    let Some((name, rest)) = lower.split_once('.') else {
        return vec![Wanted { name: lower, group: None, version: None }];
    };
    let mut readings = Vec::new();
    let looks_like_version = |text: &str| {
        text.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let (first, group) = rest.split_once('.').unwrap_or((rest, ""));
    if looks_like_version(first) {
        readings.push(Wanted {
            name: name.to_string(),
            group: Some(group.to_string()),
            version: Some(first.to_string()),
        });
    }
    readings.push(Wanted { name: name.to_string(), group: Some(rest.to_string()), version: None });
    readings
}

impl Wanted {
    fn matches(&self, row: &KindRow, by_short_name: bool) -> bool {
        let group_fits = self.group.as_ref().is_none_or(|group| *group == row.group);
        let version_fits = self.version.as_ref().is_none_or(|version| *version == row.version);
        let named = if by_short_name {
            row.short_names.iter().any(|short| *short == self.name)
        } else {
            row.plural == self.name || row.singular == self.name || row.kind.to_lowercase() == self.name
        };
        group_fits && version_fits && named
    }
}

fn listable(row: &KindRow) -> bool {
    row.allows("get") || row.allows("list")
}

impl Env {
    /// The kind of a resource argument.
    pub(crate) async fn resource(&self, argument: &str) -> Result<Row> {
        for wanted in readings(argument) {
            for by_short_name in [false, true] {
                if let Some(row) =
                    kinds::ALL.iter().find(|row| listable(row) && wanted.matches(row, by_short_name))
                {
                    return Ok(Arc::new((*row).clone()));
                }
            }
        }
        let discovery = self.discovery().await?;
        for wanted in readings(argument) {
            for by_short_name in [false, true] {
                if let Some(row) = discovery.rows.iter().find(|row| wanted.matches(row, by_short_name)) {
                    return Ok(row.clone());
                }
            }
        }
        Err(Error::message(format!("the server doesn't have a resource type {argument:?}")))
    }

    /// The kinds of a category such as `all`, or none if it is not one.
    pub(crate) async fn category(&self, name: &str) -> Result<Vec<Row>> {
        let discovery = self.discovery().await?;
        let mut rows: Vec<Row> = Vec::new();
        for row in &discovery.rows {
            let known = rows.iter().any(|own| own.plural == row.plural && own.group == row.group);
            if !known && row.allows("list") && row.categories.iter().any(|one| one == name) {
                rows.push(row.clone());
            }
        }
        Ok(rows)
    }

    /// The kind of an object.
    pub(crate) async fn kind_of(&self, api_version: &str, kind: &str) -> Result<Row> {
        if let Some(row) = kinds::by_kind(api_version, kind) {
            return Ok(Arc::new(row.clone()));
        }
        let discovery = self.discovery().await?;
        let found = discovery.rows.iter().find(|row| row.kind == kind && row.api_version() == api_version);
        found
            .cloned()
            .ok_or_else(|| Error::message(format!("no matches for kind {kind:?} in version {api_version:?}")))
    }
}
