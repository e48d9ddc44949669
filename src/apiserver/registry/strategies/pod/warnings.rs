//! What is accepted and probably not meant: `Warning` headers for pods and pod templates.

use std::collections::{HashMap, HashSet};

use api::json::{items, number, text};
use api::validation::dns1123_label;
use serde_json::Value;

/// Names become host names, which are labels.
pub(in crate::registry::strategies) fn name(tree: &Value, used_in: &str, warnings: &mut Vec<String>) {
    let faults = dns1123_label(text(tree, "metadata.name"));
    if !faults.is_empty() {
        let faults = faults.join(" ");
        warnings.push(format!(
            "metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is recommended: [{faults}]"
        ));
    }
}

pub(in crate::registry::strategies) fn spec(spec: &Value, at: &str, warnings: &mut Vec<String>) {
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        let message = "must be >= 0; negative values are invalid and will be treated as 1";
        warnings.push(format!("{at}.terminationGracePeriodSeconds: {message}"));
    }
    for list in ["containers", "initContainers"] {
        for (index, container) in items(spec, list).iter().enumerate() {
            let at = format!("{at}.{list}[{index}]");
            environment(container, &at, warnings);
            ports(container, &at, warnings);
        }
    }
    let mut seen = HashSet::new();
    for (index, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        let name = text(secret, "name");
        if !seen.insert(name) {
            warnings.push(format!("{at}.imagePullSecrets[{index}].name: duplicate name {name:?}"));
        }
    }
}

/// A later variable of the same name hides the earlier one, unless it is made from it.
fn environment(container: &Value, at: &str, warnings: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for (index, variable) in items(container, "env").iter().enumerate() {
        let name = text(variable, "name");
        let extends = || text(variable, "value").contains(&format!("$({name})"));
        if !seen.insert(name) && !extends() {
            let message =
                format!("hides previous definition of {name:?}, which may be dropped when using apply");
            warnings.push(format!("{at}.env[{index}]: {message}"));
        }
    }
}

fn ports(container: &Value, at: &str, warnings: &mut Vec<String>) {
    let mut seen: HashMap<(i64, &str, i64, &str), usize> = HashMap::new();
    for (index, port) in items(container, "ports").iter().enumerate() {
        let key = (
            number(port, "containerPort"),
            text(port, "protocol"),
            number(port, "hostPort"),
            text(port, "hostIP"),
        );
        match seen.get(&key) {
            Some(first) => {
                warnings
                    .push(format!("{at}.ports[{index}]: duplicate port definition with {at}.ports[{first}]"));
            }
            None => {
                seen.insert(key, index);
            }
        }
    }
}
