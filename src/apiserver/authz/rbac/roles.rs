//! Cluster roles and what aggregation makes of them.
//!
//! Which roles an aggregating role selects is kept role by role, in both directions, so that a change of one
//! role leads straight to those whose rules it changes. A selected role that aggregates itself (`edit` into
//! `admin`) is followed, each role once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use api::LabelSelector;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};

type Name = Arc<str>;

struct Entry {
    labels: BTreeMap<String, String>,
    own: Vec<PolicyRule>,
    selectors: Vec<LabelSelector>,
    /// Other roles that the selectors match.
    selected: BTreeSet<Name>,
    /// Other roles whose selectors match this one.
    selected_by: BTreeSet<Name>,
}

impl Entry {
    fn new(role: ClusterRole) -> Self {
        let selectors =
            role.aggregation_rule.and_then(|rule| rule.cluster_role_selectors).unwrap_or_default();
        Entry {
            labels: role.metadata.labels.unwrap_or_default(),
            own: role.rules.unwrap_or_default(),
            selectors: selectors.iter().map(|one| LabelSelector::from_meta(Some(one))).collect(),
            selected: BTreeSet::new(),
            selected_by: BTreeSet::new(),
        }
    }

    fn selects(&self, other: &Entry) -> bool {
        self.selectors.iter().any(|selector| selector.matches(&other.labels))
    }
}

#[derive(Default)]
pub(super) struct ClusterRoles {
    roles: HashMap<Name, Entry>,
    /// Those with selectors.
    aggregating: BTreeSet<Name>,
}

impl ClusterRoles {
    /// Puts a role in the place of the one of its name, and notes whose rules that changes. A role that
    /// cannot be read is there and has no rules.
    pub(super) fn put(&mut self, name: &Name, role: Option<ClusterRole>, changed: &mut BTreeSet<Name>) {
        self.remove(name, changed);
        let mut entry = Entry::new(role.unwrap_or_default());
        if !entry.selectors.is_empty() {
            let others = self.roles.iter().filter(|(_, other)| entry.selects(other));
            entry.selected = others.map(|(other, _)| other.clone()).collect();
            self.aggregating.insert(name.clone());
        }
        let selecting = self.aggregating.iter().filter_map(|one| self.roles.get_key_value(one));
        let selecting = selecting.filter(|(_, one)| one.selects(&entry));
        entry.selected_by = selecting.map(|(one, _)| one.clone()).collect();
        for other in &entry.selected {
            if let Some(other) = self.roles.get_mut(other) {
                other.selected_by.insert(name.clone());
            }
        }
        for other in &entry.selected_by {
            if let Some(other) = self.roles.get_mut(other) {
                other.selected.insert(name.clone());
            }
        }
        self.roles.insert(name.clone(), entry);
        self.note(name, changed);
    }

    pub(super) fn remove(&mut self, name: &Name, changed: &mut BTreeSet<Name>) {
        self.note(name, changed);
        let Some(entry) = self.roles.remove(name) else { return };
        self.aggregating.remove(name);
        for other in &entry.selected {
            if let Some(other) = self.roles.get_mut(other) {
                other.selected_by.remove(name);
            }
        }
        for other in &entry.selected_by {
            if let Some(other) = self.roles.get_mut(other) {
                other.selected.remove(name);
            }
        }
    }

    /// The role and all that take it in, directly or not.
    fn note(&self, name: &Name, changed: &mut BTreeSet<Name>) {
        let Some((name, _)) = self.roles.get_key_value(name) else { return };
        let mut open = vec![name];
        let mut seen = HashSet::from([name]);
        while let Some(name) = open.pop() {
            changed.insert(name.clone());
            let above = self.roles.get(name).into_iter().flat_map(|entry| &entry.selected_by);
            open.extend(above.filter(|one| seen.insert(one)));
        }
    }

    /// The rules of a role with those that it takes in, each once; and how many roles were looked at.
    pub(super) fn rules(&self, name: &str) -> Option<(Arc<[PolicyRule]>, usize)> {
        let mut rules = Vec::new();
        let mut known = HashSet::new();
        let (name, _) = self.roles.get_key_value(name)?;
        let mut seen = HashSet::from([name]);
        let mut open = vec![name];
        while let Some(entry) = open.pop().and_then(|name| self.roles.get(name)) {
            rules.extend(entry.own.iter().filter(|rule| known.insert(identity(rule))).cloned());
            open.extend(entry.selected.iter().filter(|one| seen.insert(one)));
        }
        Some((rules.into(), seen.len()))
    }
}

type Words<'a> = Option<&'a [String]>;

/// What makes a rule the same as another.
fn identity(rule: &PolicyRule) -> (&[String], [Words<'_>; 4]) {
    let lists = [&rule.api_groups, &rule.resources, &rule.resource_names, &rule.non_resource_urls];
    (&rule.verbs, lists.map(|list| list.as_deref()))
}
