//! Rules of RBAC as sets of single permissions: what one list of rules grants that another does not.

use std::collections::BTreeMap;

use api::json::{as_items, as_text};
use serde_json::{Value, json};

/// One verb on one resource (or one of its objects), or on one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permission {
    pub(super) verb: String,
    pub(super) about: About,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum About {
    Resource { group: String, resource: String, name: Option<String> },
    Path(String),
}

fn texts(rule: &Value, field: &str) -> Vec<String> {
    as_items(&rule[field]).iter().map(|item| as_text(item).to_string()).collect()
}

/// A rule taken apart, in upstream's order.
pub(super) fn permissions(rule: &Value) -> Vec<Permission> {
    let (verbs, names) = (texts(rule, "verbs"), texts(rule, "resourceNames"));
    let names: Vec<Option<String>> =
        if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
    let mut all = Vec::new();
    for group in texts(rule, "apiGroups") {
        for resource in texts(rule, "resources") {
            for verb in &verbs {
                all.extend(names.iter().map(|name| Permission {
                    verb: verb.clone(),
                    about: About::Resource {
                        group: group.clone(),
                        resource: resource.clone(),
                        name: name.clone(),
                    },
                }));
            }
        }
    }
    for path in texts(rule, "nonResourceURLs") {
        all.extend(
            verbs.iter().map(|verb| Permission { verb: verb.clone(), about: About::Path(path.clone()) }),
        );
    }
    all
}

impl Permission {
    pub(super) fn rule(&self) -> Value {
        match &self.about {
            About::Path(path) => json!({"verbs": [self.verb], "nonResourceURLs": [path]}),
            About::Resource { group, resource, name } => {
                let mut rule = json!({"verbs": [self.verb], "apiGroups": [group], "resources": [resource]});
                if let Some(name) = name {
                    rule["resourceNames"] = json!([name]);
                }
                rule
            }
        }
    }

    fn is_granted_by(&self, rule: &Value) -> bool {
        let has = |field: &str, wanted: &str| {
            as_items(&rule[field]).iter().map(as_text).any(|one| one == "*" || one == wanted)
        };
        if !has("verbs", &self.verb) {
            return false;
        }
        match &self.about {
            About::Path(path) => as_items(&rule["nonResourceURLs"])
                .iter()
                .map(as_text)
                .any(|own| own == path || own.strip_suffix('*').is_some_and(|start| path.starts_with(start))),
            About::Resource { group, resource, name } => {
                let names = as_items(&rule["resourceNames"]);
                let is_named = match name {
                    None => names.is_empty(),
                    Some(name) => names.is_empty() || names.iter().map(as_text).any(|own| own == name),
                };
                let any_of_sub = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
                let resources = has("resources", resource)
                    || any_of_sub
                        .is_some_and(|any| as_items(&rule["resources"]).iter().any(|own| *own == any));
                is_named && has("apiGroups", group) && resources
            }
        }
    }
}

/// What the rules of `wanted` grant and those of `present` do not.
pub(super) fn missing(present: &Value, wanted: &Value) -> Vec<Permission> {
    let all = as_items(wanted).iter().flat_map(permissions);
    all.filter(|one| !as_items(present).iter().any(|rule| one.is_granted_by(rule))).collect()
}

/// Permissions on one resource become one rule, with the verbs in the order they came in.
pub(super) fn compact(permissions: Vec<Permission>) -> Vec<Value> {
    let mut rules: Vec<Value> = Vec::new();
    let mut at: BTreeMap<(String, String, Option<String>), usize> = BTreeMap::new();
    for permission in permissions {
        let About::Resource { group, resource, name } = &permission.about else {
            rules.push(permission.rule());
            continue;
        };
        let index = *at.entry((group.clone(), resource.clone(), name.clone())).or_insert(rules.len());
        match rules.get_mut(index).and_then(|rule| rule["verbs"].as_array_mut()) {
            Some(verbs) if verbs.contains(&json!(permission.verb)) => {}
            Some(verbs) => verbs.push(json!(permission.verb)),
            None => rules.push(permission.rule()),
        }
    }
    rules
}
