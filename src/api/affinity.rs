//! Which nodes a pod asks for: `nodeSelector` and node affinity, compiled once per pod and then matched
//! against many nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

use crate::selector::{Operator, Requirement};

type Labels = BTreeMap<String, String>;

/// A conjunction over labels and over the fields (only `metadata.name`) of a node. Without any requirement it
/// matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
    valid: bool,
}

/// What a pod requires of its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredNodes {
    selector: Vec<(String, String)>,
    /// At least one must match; none means that nothing is required.
    terms: Option<Vec<Term>>,
}

/// What a pod prefers, with weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreferredNodes {
    terms: Vec<(i64, Term)>,
}

impl Term {
    pub fn compile(term: &NodeSelectorTerm) -> Self {
        let mut valid = true;
        let mut compile = |list: &Option<Vec<NodeSelectorRequirement>>| -> Vec<Requirement> {
            let one = |requirement: &NodeSelectorRequirement| match compile_requirement(requirement) {
                Some(requirement) => Some(requirement),
                None => {
                    valid = false;
                    None
                }
            };
            list.iter().flatten().filter_map(one).collect()
        };
        let labels = compile(&term.match_expressions);
        let fields = compile(&term.match_fields);
        Term { labels, fields, valid }
    }

    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        if !self.valid || (self.labels.is_empty() && self.fields.is_empty()) {
            return false;
        }
        if !self.labels.iter().all(|one| one.matches(labels)) {
            return false;
        }
        self.fields.is_empty() || {
            let fields = Labels::from([("metadata.name".to_string(), name.to_string())]);
            self.fields.iter().all(|one| one.matches(&fields))
        }
    }

    /// The node names this term is confined to by `matchFields`, if it is.
    fn names(&self) -> Option<&[String]> {
        let confining = |one: &&Requirement| one.key == "metadata.name" && one.operator == Operator::In;
        self.fields.iter().find(confining).map(|one| one.values.as_slice())
    }
}

fn compile_requirement(requirement: &NodeSelectorRequirement) -> Option<Requirement> {
    let operator = match requirement.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return None,
    };
    let mut values = requirement.values.clone().unwrap_or_default();
    values.sort();
    values.dedup();
    Some(Requirement { key: requirement.key.clone(), operator, values })
}

impl RequiredNodes {
    pub fn of(spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        let selector =
            spec.node_selector.iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        let terms = required.map(|required| required.node_selector_terms.iter().map(Term::compile).collect());
        RequiredNodes { selector, terms }
    }

    /// Nothing is required.
    pub fn is_empty(&self) -> bool {
        self.selector.is_empty() && self.terms.is_none()
    }

    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }

    /// The only nodes that can match, if every term names its nodes: daemon pods do.
    pub fn names(&self) -> Option<Vec<&str>> {
        let mut names = Vec::new();
        for term in self.terms.as_ref()? {
            names.extend(term.names()?.iter().map(String::as_str));
        }
        Some(names)
    }
}

impl PreferredNodes {
    pub fn of(spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let preferred =
            affinity.map(|affinity| &affinity.preferred_during_scheduling_ignored_during_execution);
        let terms = preferred.into_iter().flatten().flatten();
        let weighted = terms.filter(|one| one.weight != 0);
        PreferredNodes {
            terms: weighted.map(|one| (i64::from(one.weight), Term::compile(&one.preference))).collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The weights of the terms that match. A preference without requirements matches every node.
    pub fn weight(&self, name: &str, labels: &Labels) -> i64 {
        let matching = self.terms.iter().filter(|(_, term)| {
            (term.valid && term.labels.is_empty() && term.fields.is_empty()) || term.matches(name, labels)
        });
        matching.map(|(weight, _)| weight).sum()
    }
}

#[cfg(test)]
mod tests;
