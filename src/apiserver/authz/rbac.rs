//! Role-based access control (`rbac.authorization.k8s.io/v1`).
//!
//! Bindings are indexed by subject, so that a request looks at its user's grants only. The index is derived
//! from the caches: it remembers the revisions of the four kinds and is built anew when one has moved.
//! Aggregated roles are evaluated while it is built, so a new role with the right label counts at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use api::kinds::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING};
use api::{Identity, LabelSelector, Object};
use arc_swap::ArcSwap;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use parking_lot::Mutex;

use super::Attributes;
use crate::cache::Caches;

/// Rules that a subject holds, everywhere or in one namespace.
#[derive(Clone)]
struct Grant {
    namespace: Option<Arc<str>>,
    rules: Result<Arc<[PolicyRule]>, Arc<str>>,
}

/// Revisions of the four kinds that an index was made from.
type Versions = [u64; 4];

#[derive(Default)]
struct Index {
    versions: Option<Versions>,
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

pub(crate) struct Rbac {
    caches: Arc<Caches>,
    index: ArcSwap<Index>,
    building: Mutex<()>,
}

impl Rbac {
    pub(super) fn new(caches: Arc<Caches>) -> Self {
        Rbac { caches, index: ArcSwap::default(), building: Mutex::new(()) }
    }

    /// `Err` holds what upstream adds to its refusal: bindings whose role does not exist.
    pub(super) fn authorize(&self, attributes: &Attributes<'_>) -> Result<(), String> {
        let index = self.current();
        let mut missing = Vec::new();
        for grant in index.grants(attributes.user, attributes.namespace) {
            match &grant.rules {
                Ok(rules) if rules.iter().any(|rule| allows(rule, attributes)) => return Ok(()),
                Ok(_) => {}
                Err(error) => missing.push(error.to_string()),
            }
        }
        match missing.as_slice() {
            [] => Err(String::new()),
            [one] => Err(format!("RBAC: {one}")),
            many => Err(format!("RBAC: [{}]", many.join(", "))),
        }
    }

    /// All rules that apply to a user in a namespace, or everywhere if none is given.
    pub(crate) fn rules(&self, user: &Identity, namespace: Option<&str>) -> Vec<PolicyRule> {
        let index = self.current();
        let granted = index.grants(user, namespace).filter_map(|grant| grant.rules.as_ref().ok());
        granted.flat_map(|rules| rules.iter().cloned()).collect()
    }

    /// The rules of a role as they count, aggregation included; none if there is no such role.
    pub(crate) fn role_rules(&self, role: &RoleRef, namespace: Option<&str>) -> Option<Arc<[PolicyRule]>> {
        resolve(&self.caches, role, namespace, &mut HashMap::new()).ok()
    }

    fn current(&self) -> Arc<Index> {
        let now = self.versions();
        let index = self.index.load_full();
        if index.versions == Some(now) {
            return index;
        }
        let _one_builder = self.building.lock();
        let index = self.index.load_full();
        let now = self.versions();
        if index.versions == Some(now) {
            return index;
        }
        let index = Arc::new(build(&self.caches, now));
        self.index.store(index.clone());
        index
    }

    fn versions(&self) -> Versions {
        [&CLUSTER_ROLE, &CLUSTER_ROLE_BINDING, &ROLE, &ROLE_BINDING].map(|row| self.caches.last_change(row))
    }
}

impl Index {
    /// Grants of a user that count in the namespace: cluster-wide ones, and the namespace's own.
    fn grants<'a>(
        &'a self,
        user: &'a Identity,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Grant> {
        let by_group = user.groups.iter().filter_map(|group| self.groups.get(group));
        let all = self.users.get(&user.name).into_iter().chain(by_group).flatten();
        all.filter(move |grant| grant.namespace.as_deref().is_none_or(|own| Some(own) == namespace))
    }

    fn add(&mut self, subjects: Option<&[Subject]>, grant: &Grant) {
        for subject in subjects.unwrap_or(&[]) {
            let (map, key) = match subject.kind.as_str() {
                "User" => (&mut self.users, subject.name.clone()),
                "Group" => (&mut self.groups, subject.name.clone()),
                "ServiceAccount" => {
                    let namespace = subject.namespace.as_deref().or(grant.namespace.as_deref()).unwrap_or("");
                    (&mut self.users, format!("system:serviceaccount:{namespace}:{}", subject.name))
                }
                _ => continue,
            };
            map.entry(key).or_default().push(grant.clone());
        }
    }
}

/// Cluster roles already resolved while one index is built.
type Resolved = HashMap<String, Arc<[PolicyRule]>>;

fn build(caches: &Caches, versions: Versions) -> Index {
    let mut index = Index { versions: Some(versions), ..Index::default() };
    let mut resolved = Resolved::new();
    for object in caches.list(&CLUSTER_ROLE_BINDING, None) {
        let Ok(binding) = object.typed::<ClusterRoleBinding>() else { continue };
        let rules = resolve(caches, &binding.role_ref, None, &mut resolved);
        index.add(binding.subjects.as_deref(), &Grant { namespace: None, rules });
    }
    for object in caches.list(&ROLE_BINDING, None) {
        let Ok(binding) = object.typed::<RoleBinding>() else { continue };
        let rules = resolve(caches, &binding.role_ref, object.namespace(), &mut resolved);
        let namespace = Some(Arc::from(object.namespace().unwrap_or("")));
        index.add(binding.subjects.as_deref(), &Grant { namespace, rules });
    }
    index
}

fn resolve(
    caches: &Caches,
    role: &RoleRef,
    namespace: Option<&str>,
    resolved: &mut Resolved,
) -> Result<Arc<[PolicyRule]>, Arc<str>> {
    let missing = |row: &api::KindRow| Arc::from(format!("{} {:?} not found", singular(row), role.name));
    if role.kind == "Role" {
        let object = caches.get(&ROLE, namespace, &role.name).ok_or_else(|| missing(&ROLE))?;
        let role = object.typed::<Role>().map_err(|error| Arc::from(error.to_string()))?;
        return Ok(role.rules.clone().unwrap_or_default().into());
    }
    if let Some(rules) = resolved.get(&role.name) {
        return Ok(rules.clone());
    }
    let object = caches.get(&CLUSTER_ROLE, None, &role.name).ok_or_else(|| missing(&CLUSTER_ROLE))?;
    let rules: Arc<[PolicyRule]> = cluster_rules(caches, &object).into();
    resolved.insert(role.name.clone(), rules.clone());
    Ok(rules)
}

fn singular(row: &api::KindRow) -> String {
    format!("{}.{}", row.singular, row.group)
}

/// Own rules of a cluster role and, if it aggregates, those of the roles it selects. A selected role that
/// aggregates itself (`edit` into `admin`) is followed, each role once.
fn cluster_rules(caches: &Caches, object: &Arc<Object>) -> Vec<PolicyRule> {
    let mut rules = Vec::new();
    let mut known = HashSet::new();
    let mut seen = HashSet::from([object.name().to_string()]);
    let mut open = vec![object.clone()];
    while let Some(object) = open.pop() {
        let Ok(role) = object.typed::<ClusterRole>() else { continue };
        for rule in role.rules.iter().flatten() {
            if known.insert(identity(rule)) {
                rules.push(rule.clone());
            }
        }
        let selectors =
            role.aggregation_rule.iter().filter_map(|one| one.cluster_role_selectors.as_ref()).flatten();
        for selector in selectors.map(|one| LabelSelector::from_meta(Some(one))) {
            for other in caches.list(&CLUSTER_ROLE, None) {
                if !seen.contains(other.name()) && selector.matches(&other.metadata().labels) {
                    seen.insert(other.name().to_string());
                    open.push(other);
                }
            }
        }
    }
    rules
}

type Words = Option<Vec<String>>;

/// What makes a rule the same as another.
fn identity(rule: &PolicyRule) -> (Vec<String>, [Words; 4]) {
    let lists = [&rule.api_groups, &rule.resources, &rule.resource_names, &rule.non_resource_urls];
    (rule.verbs.clone(), lists.map(Clone::clone))
}

/// Whether a rule allows a request.
pub(crate) fn allows(rule: &PolicyRule, attributes: &Attributes<'_>) -> bool {
    let verb = has(Some(&rule.verbs), attributes.verb);
    if attributes.resource.is_empty() {
        return verb && rule.non_resource_urls.iter().flatten().any(|url| url_matches(url, attributes.path));
    }
    verb && has(rule.api_groups.as_ref(), attributes.group)
        && rule.resources.iter().flatten().any(|own| resource_matches(own, attributes))
        && name_matches(rule, attributes.name)
}

fn has(list: Option<&Vec<String>>, value: &str) -> bool {
    list.is_some_and(|list| list.iter().any(|own| own == "*" || own == value))
}

fn resource_matches(own: &str, attributes: &Attributes<'_>) -> bool {
    match (own, attributes.subresource) {
        ("*", _) => true,
        (own, None) => own == attributes.resource,
        (own, Some(sub)) => match own.split_once('/') {
            Some((resource, own_sub)) => {
                own_sub == sub && (resource == "*" || resource == attributes.resource)
            }
            None => false,
        },
    }
}

fn name_matches(rule: &PolicyRule, name: Option<&str>) -> bool {
    match rule.resource_names.as_deref() {
        None | Some([]) => true,
        Some(names) => name.is_some_and(|name| names.iter().any(|own| own == name)),
    }
}

fn url_matches(own: &str, path: &str) -> bool {
    match own.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => own == path,
    }
}
