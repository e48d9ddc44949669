//! Rules: which operations on which resources are meant.

use api::json::items;
use serde_json::Value;

use super::attributes::{Attributes, Gvr, Operation};

/// A rule of a webhook or a policy.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource.
    resources: Vec<(String, String)>,
    scope: String,
    /// Names that are meant; all if there are none. Of policies only.
    names: Vec<String>,
}

impl Rule {
    pub(crate) fn new(rule: &Value) -> Self {
        let list = |name: &str| -> Vec<String> {
            items(rule, name).iter().filter_map(Value::as_str).map(str::to_string).collect()
        };
        let split = |resource: String| match resource.split_once('/') {
            Some((resource, part)) => (resource.to_string(), part.to_string()),
            None => (resource, String::new()),
        };
        Rule {
            operations: list("operations"),
            groups: list("apiGroups"),
            versions: list("apiVersions"),
            resources: list("resources").into_iter().map(split).collect(),
            scope: rule["scope"].as_str().unwrap_or("*").to_string(),
            names: list("resourceNames"),
        }
    }

    /// Whether a request is meant; `resource` is its own or an equivalent one.
    pub(crate) fn matches(&self, request: &Attributes<'_>, resource: &Gvr) -> bool {
        self.has_operation(request.operation)
            && self.has_scope(request)
            && has(&self.groups, &resource.group)
            && has(&self.versions, &resource.version)
            && self.has_resource(&resource.resource, request.subresource)
            && (self.names.is_empty() || self.names.iter().any(|name| name == request.name))
    }

    fn has_operation(&self, operation: Operation) -> bool {
        has(&self.operations, operation.name())
    }

    fn has_resource(&self, resource: &str, part: &str) -> bool {
        let is = |one: &str, wanted: &str| one == "*" || one == wanted;
        self.resources.iter().any(|(own, own_part)| is(own, resource) && is(own_part, part))
    }

    /// A namespace counts as a resource of the cluster.
    fn has_scope(&self, request: &Attributes<'_>) -> bool {
        let of_cluster = request.is_namespace() || request.namespace.is_empty();
        match self.scope.as_str() {
            "Namespaced" => !of_cluster,
            "Cluster" => of_cluster,
            _ => true,
        }
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

/// The first of the resources that a rule names: the request's own if one does, else an equivalent one if
/// those count. Earlier rules go first.
pub(crate) fn find<'r, R>(
    rules: &[Rule],
    request: &Attributes<'_>,
    equivalents: Option<&'r [R]>,
    resource_of: impl Fn(&R) -> Gvr,
) -> Option<Option<&'r R>> {
    if rules.iter().any(|rule| rule.matches(request, &request.resource)) {
        return Some(None);
    }
    let equivalents = equivalents?;
    rules
        .iter()
        .find_map(|rule| equivalents.iter().find(|one| rule.matches(request, &resource_of(one))).map(Some))
}
