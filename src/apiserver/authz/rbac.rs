//! Role-based access control (`rbac.authorization.k8s.io/v1`).
//!
//! A request looks at its user's grants only, in the index of the cluster and of its namespace ([`index`]).
//! The caches tell the index what changes before a write is acknowledged, and whoever asks next has it taken
//! in first, so a binding that can be read counts. A write takes its own changes in: it pays for their size,
//! and nobody else waits.

mod index;
mod roles;
mod scope;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use api::Identity;
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};

use super::{Attributes, Denied};
use crate::cache::Caches;
use index::{Found, Index};

pub(crate) struct Rbac {
    index: Arc<Index>,
}

impl Rbac {
    /// Over filled caches.
    pub(super) fn new(caches: &Caches) -> Self {
        Rbac { index: Index::over(caches) }
    }

    /// A refusal names the bindings whose role does not exist, as upstream's does.
    pub(super) fn authorize(&self, attributes: &Attributes<'_>) -> Result<(), Denied> {
        let (mut missing, mut seen) = (Vec::new(), HashSet::new());
        for found in self.index.grants(attributes.user, attributes.namespace) {
            match found {
                Found::Rules(rules) if rules.iter().any(|rule| allows(rule, attributes)) => return Ok(()),
                Found::Rules(_) => {}
                Found::Nothing(why) if seen.contains(&why) => {}
                Found::Nothing(why) => {
                    seen.insert(why.clone());
                    missing.push(why);
                }
            }
        }
        Err(Denied(refusal(&missing)))
    }

    /// All rules that apply to a user in a namespace, or everywhere if none is given.
    pub(crate) fn rules(&self, user: &Identity, namespace: Option<&str>) -> Vec<PolicyRule> {
        let granted = self.index.grants(user, namespace).into_iter().filter_map(Found::rules);
        granted.flat_map(|rules| rules.to_vec()).collect()
    }

    /// The rules of a role as they count, aggregation included; none if there is no such role.
    pub(crate) fn role_rules(&self, role: &RoleRef, namespace: Option<&str>) -> Option<Arc<[PolicyRule]>> {
        self.index.role(role, namespace).rules()
    }

    /// Takes in what a write has changed in its namespace, or in the cluster's part, at its expense.
    pub(crate) fn settle(&self, namespace: Option<&str>) {
        self.index.settle(namespace);
    }

    /// Takes in what nobody has asked for yet, so that no more than a while's changes wait.
    pub(crate) fn sweep(&self) {
        self.index.sweep();
    }
}

/// Bindings without a role that a refusal names; more are counted.
const NAMED: usize = 10;

/// What is said of the bindings whose role is missing. Upstream names all of them; a namespace's
/// administrator can make thousands, and others would pay for the text of each refusal.
fn refusal(missing: &[String]) -> String {
    let mut named: Vec<&str> = missing.iter().take(NAMED).map(String::as_str).collect();
    let more = missing.len().saturating_sub(NAMED);
    let rest = format!("and {more} more");
    if more > 0 {
        named.push(&rest);
    }
    match named.as_slice() {
        [] => String::new(),
        [one] => format!("RBAC: {one}"),
        many => format!("RBAC: [{}]", many.join(", ")),
    }
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
