//! The policy every cluster starts with, from `manifests/bootstrap-rbac*.yaml`.
//!
//! At boot, missing objects are created and what is missing in existing ones is added; nothing that an
//! administrator added is taken away, and `rbac.authorization.kubernetes.io/autoupdate: "false"` keeps an
//! object as it is.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use api::kinds::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING};
use api::{ApiError, CreateOptions, DeleteOptions, KindRow, UpdateOptions};
use client::{ObjectApi, ObjectRef};
use futures::StreamExt;
use k8s_openapi::api::rbac::v1::{PolicyRule, Subject};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cover::not_covered;

const MANIFESTS: [&str; 2] = [
    include_str!("../../../manifests/bootstrap-rbac.yaml"),
    include_str!("../../../manifests/bootstrap-rbac-controllers.yaml"),
];
const GROUP: &str = "rbac.authorization.k8s.io";
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// Writes under way at once: they share the store's syncs.
const AT_ONCE: usize = 64;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Manifest {
    cluster_roles: BTreeMap<String, Entry>,
    /// Keys are `namespace/name`.
    roles: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Entry {
    /// The role that takes this one's rules in (`admin`, `edit`, `view`).
    aggregate_to: Option<String>,
    /// What this role takes in.
    aggregates: Vec<String>,
    /// Name of the binding, if it is not the role's.
    binding: Option<String>,
    /// The entry is a binding to this role, and no role itself.
    role: Option<String>,
    /// `Kind name`; absent means no binding.
    subjects: Option<Vec<String>>,
    rules: Vec<RuleEntry>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RuleEntry {
    groups: Option<Vec<String>>,
    resources: Option<Vec<String>>,
    names: Option<Vec<String>>,
    urls: Option<Vec<String>>,
    verbs: Vec<String>,
}

impl From<&RuleEntry> for PolicyRule {
    fn from(entry: &RuleEntry) -> PolicyRule {
        PolicyRule {
            api_groups: entry.groups.clone(),
            resources: entry.resources.clone(),
            resource_names: entry.names.clone(),
            non_resource_urls: entry.urls.clone(),
            verbs: entry.verbs.clone(),
        }
    }
}

/// An object of the policy: its kind, namespace and tree.
pub(crate) struct Wanted {
    pub row: &'static KindRow,
    pub namespace: Option<String>,
    pub tree: Value,
}

fn manifest() -> &'static Manifest {
    static PARSED: OnceLock<Manifest> = OnceLock::new();
    PARSED.get_or_init(|| {
        let mut all = Manifest::default();
        for text in MANIFESTS {
            let one: Manifest =
                serde_yaml::from_str(text).expect("the compiled-in policy parses: a test reads it");
            all.cluster_roles.extend(one.cluster_roles);
            all.roles.extend(one.roles);
        }
        all
    })
}

/// The rules of a bootstrap cluster role, aggregation included.
pub(crate) fn rules_of(cluster_role: &str) -> Vec<PolicyRule> {
    let roles = &manifest().cluster_roles;
    let Some(entry) = roles.get(cluster_role) else { return Vec::new() };
    let mut rules: Vec<PolicyRule> = entry.rules.iter().map(PolicyRule::from).collect();
    for (name, other) in roles {
        if other.aggregate_to.as_ref().is_some_and(|to| entry.aggregates.contains(to)) && name != cluster_role
        {
            for rule in rules_of(name) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    rules
}

/// All objects of the policy.
pub(crate) fn wanted() -> Vec<Wanted> {
    let mut all = Vec::new();
    for (name, entry) in &manifest().cluster_roles {
        add(&mut all, None, name, entry);
    }
    for (key, entry) in &manifest().roles {
        if let Some((namespace, name)) = key.split_once('/') {
            add(&mut all, Some(namespace), name, entry);
        }
    }
    all
}

fn add(all: &mut Vec<Wanted>, namespace: Option<&str>, name: &str, entry: &Entry) {
    let (role_row, binding_row): (&'static KindRow, &'static KindRow) =
        if namespace.is_some() { (&ROLE, &ROLE_BINDING) } else { (&CLUSTER_ROLE, &CLUSTER_ROLE_BINDING) };
    let base = |row: &KindRow, name: &str| {
        let mut tree = json!({
            "apiVersion": row.api_version(),
            "kind": row.kind,
            "metadata": {
                "name": name,
                "annotations": {AUTO_UPDATE: "true"},
                "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            },
        });
        if let Some(namespace) = namespace {
            tree["metadata"]["namespace"] = json!(namespace);
        }
        tree
    };
    let own = namespace.map(str::to_string);
    if entry.role.is_none() {
        let mut tree = base(role_row, name);
        tree["rules"] = match namespace {
            None => json!(rules_of(name)),
            Some(_) => json!(entry.rules.iter().map(PolicyRule::from).collect::<Vec<_>>()),
        };
        if let Some(to) = &entry.aggregate_to {
            tree["metadata"]["labels"][format!("{GROUP}/aggregate-to-{to}")] = json!("true");
        }
        if !entry.aggregates.is_empty() {
            let label =
                |one: &String| json!({"matchLabels": {format!("{GROUP}/aggregate-to-{one}"): "true"}});
            let selectors: Vec<Value> = entry.aggregates.iter().map(label).collect();
            tree["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
        }
        all.push(Wanted { row: role_row, namespace: own.clone(), tree });
    }
    if let Some(subjects) = &entry.subjects {
        let mut tree = base(binding_row, entry.binding.as_deref().unwrap_or(name));
        let role = entry.role.as_deref().unwrap_or(name);
        tree["roleRef"] = json!({"apiGroup": GROUP, "kind": role_row.kind, "name": role});
        tree["subjects"] = subjects.iter().filter_map(|text| subject(text)).collect();
        all.push(Wanted { row: binding_row, namespace: own, tree });
    }
}

/// `User NAME`, `Group NAME` or `ServiceAccount NAMESPACE/NAME`.
fn subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(' ')?;
    if kind == "ServiceAccount" {
        let (namespace, name) = name.split_once('/')?;
        return Some(json!({"kind": kind, "namespace": namespace, "name": name}));
    }
    Some(json!({"apiGroup": GROUP, "kind": kind, "name": name}))
}

/// What has to be done so that an existing object grants what is wanted.
#[derive(Debug, PartialEq)]
enum GrantStep {
    Nothing,
    Update(Value),
    /// The role of a binding cannot be changed.
    Replace,
}

fn step(mut have: Value, want: &Value) -> GrantStep {
    if have["metadata"]["annotations"][AUTO_UPDATE] == "false" {
        return GrantStep::Nothing;
    }
    if have["roleRef"] != want["roleRef"] {
        return GrantStep::Replace;
    }
    let list = |tree: &Value, field: &str| tree[field].as_array().cloned().unwrap_or_default();
    let mut changed = false;
    if want.get("roleRef").is_some() {
        let mut subjects = list(&have, "subjects");
        let known: Vec<Subject> =
            subjects.iter().filter_map(|one| serde_json::from_value(one.clone()).ok()).collect();
        for one in list(want, "subjects") {
            if serde_json::from_value::<Subject>(one.clone()).is_ok_and(|parsed| !known.contains(&parsed)) {
                subjects.push(one);
                changed = true;
            }
        }
        if changed {
            have["subjects"] = Value::Array(subjects);
        }
    } else {
        let parse = |rules: &[Value]| -> Vec<PolicyRule> {
            rules.iter().filter_map(|one| serde_json::from_value(one.clone()).ok()).collect()
        };
        let mut rules = list(&have, "rules");
        let wanted = parse(&list(want, "rules"));
        // Too many to compare: what is there twice does no harm.
        let missing = not_covered(&parse(&rules), &wanted, usize::MAX).unwrap_or(wanted);
        if !missing.is_empty() {
            rules.extend(missing.iter().map(|rule| json!(rule)));
            have["rules"] = Value::Array(rules);
            changed = true;
        }
        if let Some(rule) = want.get("aggregationRule").filter(|_| have["aggregationRule"].is_null()) {
            have["aggregationRule"] = rule.clone();
            changed = true;
        }
    }
    for part in ["labels", "annotations"] {
        for (key, value) in want["metadata"][part].as_object().into_iter().flatten() {
            if have["metadata"][part][key].is_null() {
                have["metadata"][part][key] = value.clone();
                changed = true;
            }
        }
    }
    if changed { GrantStep::Update(have) } else { GrantStep::Nothing }
}

/// Brings the cluster's policy up to date. The system namespaces must exist.
pub(crate) async fn ensure(api: &dyn ObjectApi) -> Result<(), ApiError> {
    let mut writes =
        futures::stream::iter(wanted()).map(|one| ensure_one(api, one)).buffer_unordered(AT_ONCE);
    while let Some(result) = writes.next().await {
        result?;
    }
    Ok(())
}

async fn ensure_one(api: &dyn ObjectApi, wanted: Wanted) -> Result<(), ApiError> {
    let Wanted { row, namespace, tree } = wanted;
    let name = tree["metadata"]["name"].as_str().unwrap_or("").to_string();
    let at = ObjectRef::new(namespace.as_deref(), &name);
    let have = match api.get(row, at).await {
        Ok(object) => object.tree().map_err(ApiError::internal)?,
        Err(error) if error.is_not_found() => {
            return ignore_race(api.create(row, namespace.as_deref(), tree, &CreateOptions::default()).await);
        }
        Err(error) => return Err(error),
    };
    match step(have, &tree) {
        GrantStep::Nothing => Ok(()),
        GrantStep::Update(new) => ignore_race(api.update(row, at, new, &UpdateOptions::default()).await),
        GrantStep::Replace => {
            api.delete(row, at, &DeleteOptions::default()).await?;
            ignore_race(api.create(row, namespace.as_deref(), tree, &CreateOptions::default()).await)
        }
    }
}

/// Another server of the cluster may be doing the same.
fn ignore_race<T>(result: Result<T, ApiError>) -> Result<(), ApiError> {
    match result {
        Err(error) if !error.is_already_exists() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

/// The role a binding of the policy refers to, for tests of its closure.
#[cfg(test)]
pub(super) fn role_ref(tree: &Value) -> Option<k8s_openapi::api::rbac::v1::RoleRef> {
    serde_json::from_value(tree.get("roleRef")?.clone()).ok()
}

#[cfg(test)]
pub(super) fn needs_update(have: Value, want: &Value) -> Option<Value> {
    match step(have, want) {
        GrantStep::Update(new) => Some(new),
        GrantStep::Nothing => None,
        GrantStep::Replace => Some(Value::Null),
    }
}
