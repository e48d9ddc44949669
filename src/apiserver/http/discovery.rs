//! Discovery: the groups, versions and resources that are served, in the old form and in the aggregated one.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;

use api::{ApiError, KindRow, Scope};
use axum::body::Body;
use http::header::{ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, Response};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::head::Head;
use super::{answer, negotiate, route};
use crate::aggregation::described::Described;
use crate::heavy::HEAVY;
use crate::registry::{self, Group, Resource, Resources};
use crate::server::ApiServer;

const AGGREGATED: [(&str, &str); 2] = [
    ("v2", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
    ("v2beta1", "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"),
];

/// Answers `/api`, `/apis` and what is below them and no resource.
pub(super) async fn answer(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    path: &str,
) -> Result<Response<Body>, ApiError> {
    let segments: Vec<&str> = path.split('/').collect();
    let resources = server.registry.resources.load();
    let tree = match segments[..] {
        [root @ ("api" | "apis")] => {
            let remote = if root == "api" { Vec::new() } else { remote_groups(server, &resources) };
            if let Some(form) = aggregated_wanted(head) {
                return match &remote[..] {
                    [] => aggregated(&resources, head, root == "api", form),
                    remote => with_remote(server, &resources, head, form, remote).await,
                };
            }
            if root == "api" { api_versions(server) } else { group_list(&resources, &remote) }
        }
        ["api", version] => resource_list(&resources, "", version)?,
        ["apis", group] => group_of(&resources, &remote_groups(server, &resources), group)?,
        ["apis", group, version] => resource_list(&resources, group, version)?,
        _ => return Err(route::unknown()),
    };
    Ok(answer::json(200, &tree, head))
}

/// The aggregated form that the client prefers to the old one, if it knows any.
fn aggregated_wanted(head: &Head<'_>) -> Option<usize> {
    let accept = negotiate::accept_header(&head.parts.headers);
    for range in negotiate::ranges(&accept) {
        if range.media != "application/json" {
            continue;
        }
        if range.parameter("as") == "APIGroupDiscoveryList" && range.parameter("g") == "apidiscovery.k8s.io" {
            let known = AGGREGATED.iter().position(|(version, _)| *version == range.parameter("v"));
            if known.is_some() {
                return known;
            }
        } else if range.parameter("as").is_empty() {
            return None;
        }
    }
    None
}

/// Groups that have a name, in the order of discovery.
fn named(resources: &Resources) -> impl Iterator<Item = &Group> {
    resources.groups().iter().map(|group| &**group).filter(|group| !group.name.is_empty())
}

fn api_versions(server: &ApiServer) -> Value {
    let config = &server.registry.config;
    let address =
        std::net::SocketAddr::new(*config.advertise_address.borrow(), config.advertise_port).to_string();
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
    })
}

fn group_list(resources: &Resources, remote: &[Remotes]) -> Value {
    let mut groups: Vec<Value> = named(resources).map(group_tree).collect();
    for other in remote {
        match groups.iter_mut().find(|group| group["name"] == other.name) {
            Some(group) => other.add_to(group),
            None => groups.push(other.tree()),
        }
    }
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

fn group_of(resources: &Resources, remote: &[Remotes], group: &str) -> Result<Value, ApiError> {
    let remote = remote.iter().find(|other| other.name == group);
    let own = resources.group(group).filter(|_| !group.is_empty()).map(|group| group_tree(group));
    let members = match (own, remote) {
        (Some(mut own), Some(remote)) => {
            remote.add_to(&mut own);
            own
        }
        (Some(own), None) => own,
        (None, Some(remote)) => remote.tree(),
        (None, None) => return Err(route::unknown()),
    };
    let mut tree = json!({ "kind": "APIGroup", "apiVersion": "v1" });
    if let (Some(tree), Value::Object(members)) = (tree.as_object_mut(), members) {
        tree.extend(members);
    }
    Ok(tree)
}

fn group_tree(group: &Group) -> Value {
    let name = &group.name;
    let version = |version: &str| json!({ "groupVersion": format!("{name}/{version}"), "version": version });
    let versions: Vec<Value> = group.versions().into_iter().map(|(one, _)| version(one)).collect();
    json!({ "name": name, "versions": versions, "preferredVersion": versions.first() })
}

/// A group of which other servers have versions, the preferred first, with what those say of themselves.
struct Remotes {
    name: String,
    versions: Vec<(String, Arc<Described>)>,
}

impl Remotes {
    fn versions(&self) -> Vec<Value> {
        let name = &self.name;
        let version =
            |version: &str| json!({ "groupVersion": format!("{name}/{version}"), "version": version });
        self.versions.iter().map(|(one, _)| version(one)).collect()
    }

    fn tree(&self) -> Value {
        let versions = self.versions();
        json!({ "name": self.name, "versions": versions, "preferredVersion": versions.first() })
    }

    /// Adds the versions to those of a group that this server has, too.
    fn add_to(&self, group: &mut Value) {
        if let Some(versions) = group["versions"].as_array_mut() {
            versions.extend(self.versions());
        }
    }

    /// The versions in the aggregated form.
    fn aggregated(&self) -> String {
        let versions: Vec<&str> = self.versions.iter().map(|(_, described)| &*described.version).collect();
        versions.join(",")
    }
}

/// The groups that other servers have, if those are available.
fn remote_groups(server: &ApiServer, resources: &Resources) -> Vec<Remotes> {
    let aggregation = &server.registry.aggregation;
    let mut groups: Vec<Remotes> = Vec::new();
    for remote in aggregation.remotes().iter() {
        let own = resources.group(&remote.group);
        if own.is_some_and(|own| own.versions().iter().any(|(version, _)| *version == remote.version)) {
            continue;
        }
        let Some(described) = aggregation.described(remote) else { continue };
        let version = (remote.version.clone(), described);
        match groups.iter_mut().find(|group| group.name == remote.group) {
            Some(group) => group.versions.push(version),
            None => groups.push(Remotes { name: remote.group.clone(), versions: vec![version] }),
        }
    }
    groups
}

/// The aggregated form with what other servers have, made once for each state of all of them.
async fn with_remote(
    server: &ApiServer,
    resources: &Arc<Resources>,
    head: &Head<'_>,
    form: usize,
    remote: &[Remotes],
) -> Result<Response<Body>, ApiError> {
    let merged = server.registry.aggregation.merged(resources);
    let (version, media) = AGGREGATED[form];
    let answer = &merged.answers[form];
    let weight = if answer.get().is_none() { HEAVY } else { 0 };
    let work = pin!(async {
        kept(answer.get_or_init(|| registry::Answer::new(merge(resources, version, remote))), head, media)
    });
    server.registry.turns.run(&head.user.name, weight, work).await
}

fn merge(resources: &Resources, version: &str, remote: &[Remotes]) -> String {
    let mut others: HashMap<&str, &Remotes> = remote.iter().map(|other| (&*other.name, other)).collect();
    let own = named(resources).map(|group| {
        let entry = group.discovery(|group| aggregated_group(group).to_string());
        match (others.remove(&*group.name), entry.strip_suffix("]}")) {
            (Some(other), Some(open)) => {
                let comma = if open.ends_with('[') { "" } else { "," };
                format!("{open}{comma}{}]}}", other.aggregated())
            }
            _ => entry.to_string(),
        }
    });
    let mut items: Vec<String> = own.collect();
    let new = remote.iter().filter(|other| others.contains_key(&*other.name));
    items.extend(new.map(|other| {
        format!(r#"{{"metadata":{{"name":{}}},"versions":[{}]}}"#, json!(other.name), other.aggregated())
    }));
    list_of(version, &items.join(","))
}

/// The whole in the aggregated form.
fn list_of(version: &str, items: &str) -> String {
    format!(
        "{{\"apiVersion\":\"apidiscovery.k8s.io/{version}\",\"items\":[{items}],\"kind\":\"APIGroupDiscoveryList\",\"metadata\":{{}}}}\n"
    )
}

fn resource_list(resources: &Resources, group: &str, version: &str) -> Result<Value, ApiError> {
    let all = resources.group(group).ok_or_else(route::unknown)?.versions();
    let (_, resources) = all.into_iter().find(|(one, _)| *one == version).ok_or_else(route::unknown)?;
    // Clients do not care about the order; upstream's is alphabetical.
    let mut entries: BTreeMap<String, Value> = BTreeMap::new();
    for resource in resources {
        let row = &resource.row;
        entries.insert(row.plural.to_string(), resource_entry(row));
        for sub in row.subresources.iter() {
            let name = format!("{}/{}", row.plural, sub.name);
            let mut entry = json!({
                "name": name, "singularName": "", "namespaced": row.namespaced(),
                "kind": sub.kind, "verbs": sub.verbs,
            });
            if !sub.version.is_empty() {
                entry["group"] = json!(sub.group);
                entry["version"] = json!(sub.version);
            }
            entries.insert(name, entry);
        }
    }
    let group_version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
    Ok(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": entries.into_values().collect::<Vec<_>>(),
    }))
}

fn resource_entry(row: &KindRow) -> Value {
    let mut entry = Map::new();
    entry.insert("name".into(), json!(row.plural));
    entry.insert("singularName".into(), json!(row.singular));
    entry.insert("namespaced".into(), json!(row.namespaced()));
    entry.insert("kind".into(), json!(row.kind));
    entry.insert("verbs".into(), json!(row.verbs));
    if !row.short_names.is_empty() {
        entry.insert("shortNames".into(), json!(row.short_names));
    }
    if !row.categories.is_empty() {
        entry.insert("categories".into(), json!(row.categories));
    }
    if row.storage.is_some() {
        let stored = row.stored_as.as_deref().map_or_else(|| row.api_version(), str::to_string);
        let hash = Sha256::digest(format!("{stored}/{}", row.kind));
        entry.insert("storageVersionHash".into(), json!(base64_of(&hash[..8])));
    }
    Value::Object(entry)
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Made once for each set of resources, from entries that each group keeps: what a change of one kind costs
/// those who look again is its own group's part.
fn aggregated(
    resources: &Resources,
    head: &Head<'_>,
    core: bool,
    form: usize,
) -> Result<Response<Body>, ApiError> {
    let (version, media) = AGGREGATED[form];
    let answer = resources.derived.discovery[usize::from(core)][form].get_or_init(|| {
        let groups = resources.groups().iter().filter(|group| group.name.is_empty() == core);
        let entries: Vec<&str> =
            groups.map(|group| group.discovery(|group| aggregated_group(group).to_string())).collect();
        registry::Answer::new(list_of(version, &entries.join(",")))
    });
    kept(answer, head, media)
}

/// An answer that clients keep by its hash.
pub(super) fn kept(
    answer: &registry::Answer,
    head: &Head<'_>,
    media: &'static str,
) -> Result<Response<Body>, ApiError> {
    let mut response = if head.header(IF_NONE_MATCH) == answer.etag {
        answer::response(304, media, Body::empty())
    } else {
        answer::response(200, media, answer.bytes()?)
    };
    if let Ok(etag) = HeaderValue::from_str(&answer.etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

fn aggregated_group(group: &Group) -> Value {
    let version = |(version, resources): (&str, Vec<&Resource>)| {
        let resources: Vec<Value> = resources.into_iter().map(|one| aggregated_resource(&one.row)).collect();
        json!({ "version": version, "resources": resources, "freshness": "Current" })
    };
    let versions: Vec<Value> = group.versions().into_iter().map(version).collect();
    let metadata = if group.name.is_empty() { json!({}) } else { json!({ "name": group.name }) };
    json!({ "metadata": metadata, "versions": versions })
}

fn kind_of(group: &str, version: &str, kind: &str) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}

fn aggregated_resource(row: &KindRow) -> Value {
    let scope = match row.scope {
        Scope::Namespaced => "Namespaced",
        Scope::Cluster => "Cluster",
    };
    let mut entry = json!({
        "resource": row.plural,
        "responseKind": kind_of(&row.group, &row.version, &row.kind),
        "scope": scope,
        "singularResource": row.singular,
        "verbs": row.verbs,
    });
    if !row.short_names.is_empty() {
        entry["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        entry["categories"] = json!(row.categories);
    }
    let sub = |sub: &api::Subresource| {
        let (group, version) =
            if sub.version.is_empty() { (&row.group, &row.version) } else { (&sub.group, &sub.version) };
        json!({
            "subresource": sub.name, "responseKind": kind_of(group, version, &sub.kind), "verbs": sub.verbs,
        })
    };
    if !row.subresources.is_empty() {
        entry["subresources"] = row.subresources.iter().map(sub).collect();
    }
    entry
}

#[cfg(test)]
mod tests;
