//! Network policies: who may talk to the pods that are selected, and whom they may talk to.

use std::collections::HashSet;

use api::json::{items, text};
use api::validation::{
    Faults, Path, invalid_each, port_name, port_number, strict_cidr, validate_label_selector,
};
use api::{Cidr, FieldError};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use super::rules::one_of;
use super::typed;
use crate::printers;
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const TYPES: [&str; 2] = ["Ingress", "Egress"];
/// The two lists of rules, and what the peers are called in each.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

pub(super) struct NetworkPolicies;

fn port(port: &Value, at: &Path<'_>, faults: &mut Faults) {
    if let Some(protocol) = port["protocol"].as_str() {
        one_of(faults, &at.child("protocol"), protocol, &PROTOCOLS);
    }
    let (field, last) = (at.child("port"), at.child("endPort"));
    let end = port["endPort"].as_i64();
    match &port["port"] {
        Value::Null => {
            if let Some(end) = end {
                let message = "may not be specified when `port` is not specified";
                faults.push(FieldError::invalid(last, end, message));
            }
        }
        Value::String(name) => {
            if let Some(end) = end {
                let message = "may not be specified when `port` is non-numeric";
                faults.push(FieldError::invalid(last, end, message));
            }
            invalid_each(faults, &field, name, port_name(name));
        }
        number => {
            let first = number.as_i64().unwrap_or(0);
            let numbers = port_number(first);
            faults.extend(numbers.into_iter().map(|fault| FieldError::invalid(field, first, fault)));
            let Some(end) = end else { return };
            if end < first {
                // The value is the other field's upstream too.
                faults.push(FieldError::invalid(last, first, "must be greater than or equal to `port`"));
            }
            faults.extend(port_number(end).into_iter().map(|fault| FieldError::invalid(last, end, fault)));
        }
    }
}

/// `known` are ranges that were there before, which stay as they are.
fn peer(peer: &Value, known: &HashSet<&str>, at: &Path<'_>, faults: &mut Faults) {
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if !peer[field].is_null() {
            count += 1;
            selector(&peer[field], &at.child(field), faults);
        }
    }
    let block = &peer["ipBlock"];
    if !block.is_null() {
        count += 1;
        ip_block(block, known, &at.child("ipBlock"), faults);
    }
    if count == 0 {
        faults.push(FieldError::required(at, "must specify a peer"));
    } else if count > 1 && !block.is_null() {
        faults.push(FieldError::forbidden(at, "may not specify both ipBlock and another peer"));
    }
}

fn selector(value: &Value, at: &Path<'_>, faults: &mut Faults) {
    if let Some(selector) = typed::<LabelSelector>(value, at, faults) {
        validate_label_selector(&selector, at, faults);
    }
}

/// A range; the faults of one that is new are told.
fn range(value: &str, known: &HashSet<&str>, at: &Path<'_>, faults: &mut Faults) -> Option<Cidr> {
    match strict_cidr(value) {
        Ok(range) => Some(range),
        Err(wrong) => {
            if !known.contains(value) {
                invalid_each(faults, at, value, wrong);
            }
            value.parse().ok()
        }
    }
}

fn ip_block(block: &Value, known: &HashSet<&str>, at: &Path<'_>, faults: &mut Faults) {
    let all = text(block, "cidr");
    if all.is_empty() {
        return faults.push(FieldError::required(at.child("cidr"), ""));
    }
    let Some(all) = range(all, known, &at.child("cidr"), faults) else { return };
    let list = at.child("except");
    for (index, except) in items(block, "except").iter().filter_map(Value::as_str).enumerate() {
        let at = list.index(index);
        let Some(part) = range(except, known, &at, faults) else { continue };
        if !all.covers(&part) || all.prefix() >= part.prefix() {
            faults.push(FieldError::invalid(at, except, "must be a strict subset of `cidr`"));
        }
    }
}

fn validate(tree: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let spec = &tree["spec"];
    let known: HashSet<&str> = old.into_iter().flat_map(ranges).map(|(_, range)| range).collect();
    selector(&spec["podSelector"], &at.child("podSelector"), &mut faults);
    for (direction, peers) in DIRECTIONS {
        let list = at.child(direction);
        for (index, rule) in items(spec, direction).iter().enumerate() {
            let at = list.index(index);
            let ports = at.child("ports");
            for (index, one) in items(rule, "ports").iter().enumerate() {
                port(one, &ports.index(index), &mut faults);
            }
            let list = at.child(peers);
            for (index, one) in items(rule, peers).iter().enumerate() {
                peer(one, &known, &list.index(index), &mut faults);
            }
        }
    }
    let types = items(spec, "policyTypes");
    let list = at.child("policyTypes");
    if types.len() > TYPES.len() {
        faults.push(FieldError::invalid(list, types, "may not specify more than two policyTypes"));
        return faults;
    }
    for (index, kind) in types.iter().filter_map(Value::as_str).enumerate() {
        one_of(&mut faults, &list.index(index), kind, &TYPES);
    }
    faults
}

/// All ranges of a policy with their paths.
fn ranges(tree: &Value) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    for (direction, peers) in DIRECTIONS {
        for (rule, peer, block) in items(&tree["spec"], direction).iter().enumerate().flat_map(|(i, rule)| {
            items(rule, peers).iter().enumerate().map(move |(j, peer)| (i, j, &peer["ipBlock"]))
        }) {
            let at = format!("spec.{direction}[{rule}].{peers}[{peer}].ipBlock");
            found.extend(block["cidr"].as_str().map(|range| (format!("{at}.cidr"), range)));
            let except = items(block, "except").iter().filter_map(Value::as_str).enumerate();
            found.extend(except.map(|(index, range)| (format!("{at}.except[{index}]"), range)));
        }
    }
    found
}

/// A range that is good and yet not in the form it should have.
fn warning(at: &str, value: &str) -> Option<String> {
    let Ok(range) = strict_cidr(value) else {
        // It is an old one: its bits may go beyond its prefix, or its numbers begin with zeros.
        let range = value.parse::<Cidr>().ok()?;
        return Some(format!(
            "{at}: non-standard CIDR value {value:?} is invalid: use {:?}",
            range.to_string()
        ));
    };
    let form = range.to_string();
    let differs = !range.is_ipv4() && form != value;
    differs
        .then(|| format!("{at}: IPv6 CIDR value {value:?} should be in RFC 5952 canonical format ({form:?})"))
}

impl Strategy for NetworkPolicies {
    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree, None)
    }

    fn validate_update(&self, _ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        validate(new, Some(old))
    }

    fn warnings(&self, _ctx: &RequestContext<'_>, tree: &Value, _old: Option<&Value>) -> Vec<String> {
        ranges(tree).iter().filter_map(|(at, range)| warning(at, range)).collect()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &[Column] {
        printers::networking::NETWORK_POLICY
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::networking::network_policy(tree, now)
    }
}

#[cfg(test)]
mod tests;
