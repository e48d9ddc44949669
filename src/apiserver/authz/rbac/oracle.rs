//! What a user holds, told from the cached objects one after another: slow, and with nothing remembered.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use api::kinds::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING};
use api::{Identity, LabelSelector, Object};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};

use crate::cache::Caches;

/// Each role that the user is bound to: its rules in some order, or why there are none.
pub(super) fn grants(caches: &Caches, user: &Identity, namespace: Option<&str>) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for object in caches.list(&CLUSTER_ROLE_BINDING, None) {
        let binding = object.typed::<ClusterRoleBinding>().unwrap();
        if binding.subjects.iter().flatten().any(|subject| is(subject, user, None)) {
            found.insert(role(caches, &binding.role_ref, None));
        }
    }
    for object in namespace.map(|_| caches.list(&ROLE_BINDING, namespace)).unwrap_or_default() {
        let binding = object.typed::<RoleBinding>().unwrap();
        if binding.subjects.iter().flatten().any(|subject| is(subject, user, namespace)) {
            found.insert(role(caches, &binding.role_ref, namespace));
        }
    }
    found
}

fn is(subject: &Subject, user: &Identity, namespace: Option<&str>) -> bool {
    match &*subject.kind {
        "User" => subject.name == user.name,
        "Group" => user.groups.contains(&subject.name),
        "ServiceAccount" => {
            let namespace = subject.namespace.as_deref().or(namespace).unwrap_or("");
            user.name == format!("system:serviceaccount:{namespace}:{}", subject.name)
        }
        _ => false,
    }
}

fn role(caches: &Caches, name: &RoleRef, namespace: Option<&str>) -> Vec<String> {
    if name.kind == "Role" {
        let Some(object) = caches.get(&ROLE, namespace, &name.name) else {
            return vec![format!("role.rbac.authorization.k8s.io {:?} not found", name.name)];
        };
        return printed(object.typed::<Role>().unwrap().rules.as_deref().unwrap_or_default());
    }
    match caches.get(&CLUSTER_ROLE, None, &name.name) {
        Some(object) => printed(&cluster_rules(caches, object)),
        None => vec![format!("clusterrole.rbac.authorization.k8s.io {:?} not found", name.name)],
    }
}

pub(super) fn printed(rules: &[PolicyRule]) -> Vec<String> {
    let mut texts: Vec<String> = rules.iter().map(|rule| format!("{rule:?}")).collect();
    texts.sort_unstable();
    texts
}

fn cluster_rules(caches: &Caches, object: Arc<Object>) -> Vec<PolicyRule> {
    let mut rules = Vec::new();
    let mut seen = HashSet::from([object.name().to_string()]);
    let mut open = vec![object];
    while let Some(object) = open.pop() {
        let role = object.typed::<ClusterRole>().unwrap();
        for rule in role.rules.iter().flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
        let aggregation = role.aggregation_rule.as_ref();
        for selector in
            aggregation.and_then(|rule| rule.cluster_role_selectors.as_ref()).into_iter().flatten()
        {
            let selector = LabelSelector::from_meta(Some(selector));
            for other in caches.list(&CLUSTER_ROLE, None) {
                if selector.matches(&other.metadata().labels) && seen.insert(other.name().to_string()) {
                    open.push(other);
                }
            }
        }
    }
    rules
}
