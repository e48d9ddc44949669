//! Validation of what tells the scheduler where a pod may go.

use std::collections::HashSet;

use api::FieldError;
use api::validation::{
    Faults, Path, dns1123_label, invalid_each, label_value, qualified_name, validate_label_selector,
    validate_set_operator,
};
use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration,
    TopologySpreadConstraint, WeightedPodAffinityTerm,
};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const OPERATORS: [&str; 2] = ["Equal", "Exists"];
const UNSATISFIABLE: [&str; 2] = ["DoNotSchedule", "ScheduleAnyway"];

pub(super) fn validate(spec: &PodSpec, at: &Path<'_>, faults: &mut Faults) {
    if let Some(affinity) = &spec.affinity {
        validate_affinity(affinity, &at.child("affinity"), faults);
    }
    tolerations(spec.tolerations.as_deref().unwrap_or(&[]), &at.child("tolerations"), faults);
    let constraints = spec.topology_spread_constraints.as_deref().unwrap_or(&[]);
    spread(constraints, &at.child("topologySpreadConstraints"), faults);
}

pub(in crate::registry::strategies) fn tolerations(list: &[Toleration], at: &Path<'_>, faults: &mut Faults) {
    for (index, toleration) in list.iter().enumerate() {
        let at = at.index(index);
        let key = toleration.key.as_deref().unwrap_or("");
        let value = toleration.value.as_deref().unwrap_or("");
        let operator = toleration.operator.as_deref().unwrap_or("");
        let effect = toleration.effect.as_deref().unwrap_or("");
        if !key.is_empty() {
            invalid_each(faults, &at.child("key"), key, qualified_name(key));
        } else if operator != "Exists" {
            let message =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            faults.push(FieldError::invalid(at.child("operator"), operator, message));
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            let message = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            faults.push(FieldError::invalid(at.child("effect"), effect, message));
        }
        match operator {
            "Equal" | "" => invalid_each(faults, &at.child("operator"), value, label_value(value)),
            "Exists" if !value.is_empty() => {
                let message = "value must be empty when `operator` is 'Exists'";
                faults.push(FieldError::invalid(at.child("operator"), toleration, message));
            }
            "Exists" => {}
            other => faults.push(FieldError::not_supported(at.child("operator"), other, &OPERATORS)),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            faults.push(FieldError::not_supported(at.child("effect"), effect, &EFFECTS));
        }
    }
}

fn validate_affinity(affinity: &Affinity, at: &Path<'_>, faults: &mut Faults) {
    if let Some(node) = &affinity.node_affinity {
        node_affinity(node, &at.child("nodeAffinity"), faults);
    }
    if let Some(pod) = &affinity.pod_affinity {
        let at = at.child("podAffinity");
        pod_terms(pod.required_during_scheduling_ignored_during_execution.as_deref(), &at, faults);
        weighted_terms(pod.preferred_during_scheduling_ignored_during_execution.as_deref(), &at, faults);
    }
    if let Some(pod) = &affinity.pod_anti_affinity {
        let at = at.child("podAntiAffinity");
        pod_terms(pod.required_during_scheduling_ignored_during_execution.as_deref(), &at, faults);
        weighted_terms(pod.preferred_during_scheduling_ignored_during_execution.as_deref(), &at, faults);
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn node_affinity(affinity: &NodeAffinity, at: &Path<'_>, faults: &mut Faults) {
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        node_selector(required, &at.child(REQUIRED), faults);
    }
    let list = at.child(PREFERRED);
    for (index, term) in
        affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten().enumerate()
    {
        let at = list.index(index);
        weight(term.weight, &at, faults);
        node_term(&term.preference, &at.child("preference"), faults);
    }
}

/// A choice of nodes, a pod's or a volume's.
pub(in crate::registry::strategies) fn node_selector(
    selector: &NodeSelector,
    at: &Path<'_>,
    faults: &mut Faults,
) {
    let list = at.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        faults.push(FieldError::required(list, "must have at least one node selector term"));
    }
    for (index, term) in selector.node_selector_terms.iter().enumerate() {
        node_term(term, &list.index(index), faults);
    }
}

fn weight(weight: i32, at: &Path<'_>, faults: &mut Faults) {
    if !(1..=100).contains(&weight) {
        faults.push(FieldError::invalid(at.child("weight"), weight, "must be in the range 1-100"));
    }
}

fn node_term(term: &NodeSelectorTerm, at: &Path<'_>, faults: &mut Faults) {
    let list = at.child("matchExpressions");
    for (index, expression) in term.match_expressions.iter().flatten().enumerate() {
        let at = list.index(index);
        let values = expression.values.as_deref().unwrap_or(&[]);
        match expression.operator.as_str() {
            "Gt" | "Lt" if values.len() != 1 => {
                let message = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                faults.push(FieldError::required(at.child("values"), message));
            }
            "Gt" | "Lt" => {}
            other if validate_set_operator(other, values, &at, faults) => {}
            other => {
                faults.push(FieldError::invalid(at.child("operator"), other, "not a valid selector operator"))
            }
        }
        invalid_each(faults, &at.child("key"), &expression.key, qualified_name(&expression.key));
    }
    let list = at.child("matchFields");
    for (index, field) in term.match_fields.iter().flatten().enumerate() {
        let at = list.index(index);
        let values = field.values.as_deref().unwrap_or(&[]);
        match field.operator.as_str() {
            "In" | "NotIn" if values.len() != 1 => {
                let message =
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                faults.push(FieldError::required(at.child("values"), message));
            }
            "In" | "NotIn" => {}
            other => {
                faults.push(FieldError::invalid(at.child("operator"), other, "not a valid selector operator"))
            }
        }
        if field.key != "metadata.name" {
            faults.push(FieldError::invalid(at.child("key"), &field.key, "not a valid field selector key"));
        }
    }
}

fn pod_terms(terms: Option<&[PodAffinityTerm]>, at: &Path<'_>, faults: &mut Faults) {
    let list = at.child(REQUIRED);
    for (index, term) in terms.unwrap_or(&[]).iter().enumerate() {
        pod_term(term, &list.index(index), faults);
    }
}

fn weighted_terms(terms: Option<&[WeightedPodAffinityTerm]>, at: &Path<'_>, faults: &mut Faults) {
    let list = at.child(PREFERRED);
    for (index, term) in terms.unwrap_or(&[]).iter().enumerate() {
        let at = list.index(index);
        weight(term.weight, &at, faults);
        pod_term(&term.pod_affinity_term, &at.child("podAffinityTerm"), faults);
    }
}

fn pod_term(term: &PodAffinityTerm, at: &Path<'_>, faults: &mut Faults) {
    if let Some(selector) = &term.label_selector {
        validate_label_selector(selector, &at.child("labelSelector"), faults);
    }
    if let Some(selector) = &term.namespace_selector {
        validate_label_selector(selector, &at.child("namespaceSelector"), faults);
    }
    for name in term.namespaces.iter().flatten() {
        invalid_each(faults, &at.child("namespace"), name, dns1123_label(name));
    }
    match term.topology_key.as_str() {
        "" => faults.push(FieldError::required(at.child("topologyKey"), "can not be empty")),
        key => invalid_each(faults, &at.child("topologyKey"), key, qualified_name(key)),
    }
}

fn spread(constraints: &[TopologySpreadConstraint], at: &Path<'_>, faults: &mut Faults) {
    let mut seen = HashSet::new();
    for (index, one) in constraints.iter().enumerate() {
        let at = at.index(index);
        if one.max_skew <= 0 {
            faults.push(FieldError::invalid(at.child("maxSkew"), one.max_skew, "must be greater than zero"));
        }
        match one.topology_key.as_str() {
            "" => faults.push(FieldError::required(at.child("topologyKey"), "can not be empty")),
            key => invalid_each(faults, &at.child("topologyKey"), key, qualified_name(key)),
        }
        if !UNSATISFIABLE.contains(&one.when_unsatisfiable.as_str()) {
            let field = at.child("whenUnsatisfiable");
            faults.push(FieldError::not_supported(field, &one.when_unsatisfiable, &UNSATISFIABLE));
        }
        if let Some(domains) = one.min_domains {
            if domains <= 0 {
                faults.push(FieldError::invalid(
                    at.child("minDomains"),
                    domains,
                    "must be greater than zero",
                ));
            }
            if one.when_unsatisfiable != "DoNotSchedule" {
                let message = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ";
                let message = format!("{message}{}", one.when_unsatisfiable);
                faults.push(FieldError::invalid(at.child("minDomains"), domains, message));
            }
        }
        let pair = (one.topology_key.as_str(), one.when_unsatisfiable.as_str());
        if !seen.insert(pair) {
            let field = at.child("{topologyKey, whenUnsatisfiable}");
            faults.push(FieldError::duplicate(field, format!("{{{}, {}}}", pair.0, pair.1)));
        }
        if let Some(selector) = &one.label_selector {
            validate_label_selector(selector, &at.child("labelSelector"), faults);
        }
    }
}
