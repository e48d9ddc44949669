//! Nobody grants more than he holds: a role may contain, and a binding may give, only rules its author has
//! himself, unless he may `escalate` or `bind` that role. Upstream checks this in the storage of the RBAC
//! kinds.
//!
//! Every update is checked but those that only the garbage collector makes, also where rules and subjects
//! stay as they are: a label is enough to have an aggregating role take a role in.

use api::{ApiError, Identity};
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};
use serde_json::Value;

use super::request::{Operation, Request};
use crate::authz::cover::not_covered;
use crate::authz::{Attributes, Authorizer, Decision};
use api::json::items;

const GROUP: &str = "rbac.authorization.k8s.io";
/// Permissions that a refusal names.
const MAX_TOLD: usize = 200;

pub(super) fn validate(authorizer: &Authorizer, request: &Request<'_>, new: &Value) -> Result<(), ApiError> {
    let row = request.ctx.row;
    let write = matches!(request.operation, Operation::Create | Operation::Update);
    if row.group != GROUP || !write || request.ctx.user.in_group(api::identity::GROUP_MASTERS) {
        return Ok(());
    }
    match &*row.plural {
        "roles" | "clusterroles" => role(authorizer, request, new),
        _ => binding(authorizer, request, new),
    }
}

fn rules_in(tree: &Value) -> Vec<PolicyRule> {
    let rules = tree["rules"].as_array().into_iter().flatten();
    rules.filter_map(|rule| serde_json::from_value(rule.clone()).ok()).collect()
}

/// Whether an update changes only what the garbage collector does, to let the object go in the end.
fn only_for_collection(request: &Request<'_>, new: &Value) -> bool {
    if request.old.is_none() {
        return false;
    }
    let bare = |mut tree: Value| {
        if let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) {
            for part in ["ownerReferences", "finalizers", "selfLink", "managedFields", "resourceVersion"] {
                metadata.remove(part);
            }
        }
        tree
    };
    bare(new.clone()) == bare(request.old_tree())
}

fn role(authorizer: &Authorizer, request: &Request<'_>, new: &Value) -> Result<(), ApiError> {
    // A name in the body of a create is not one that the request was authorized for.
    let name = Some(request.name).filter(|_| request.operation == Operation::Update);
    if may(authorizer, request, "escalate", &request.ctx.row.plural, name)
        || only_for_collection(request, new)
    {
        return Ok(());
    }
    check(authorizer, request, &rules_in(new))?;
    // The selectors decide about rules that do not exist yet, and can keep others from taking rules away.
    let old = request.old_tree();
    let aggregates =
        [new, &old].iter().any(|tree| !items(tree, "aggregationRule.clusterRoleSelectors").is_empty());
    if aggregates && !holds_everything(authorizer, request.ctx.user) {
        return Err(request.forbidden("must have cluster-admin privileges to use the aggregationRule"));
    }
    Ok(())
}

fn holds_everything(authorizer: &Authorizer, user: &Identity) -> bool {
    let all = |list: &str| vec![list.to_string()];
    let everything = [
        PolicyRule {
            api_groups: Some(all("*")),
            resources: Some(all("*")),
            verbs: all("*"),
            ..PolicyRule::default()
        },
        PolicyRule { non_resource_urls: Some(all("*")), verbs: all("*"), ..PolicyRule::default() },
    ];
    not_covered(&authorizer.rbac().rules(user, None), &everything, 1).is_ok_and(|missing| missing.is_empty())
}

fn binding(authorizer: &Authorizer, request: &Request<'_>, new: &Value) -> Result<(), ApiError> {
    if only_for_collection(request, new) {
        return Ok(());
    }
    let Ok(role) = serde_json::from_value::<RoleRef>(new["roleRef"].clone()) else { return Ok(()) };
    let (row, namespace) = match role.kind.as_str() {
        "Role" => (&api::kinds::ROLE, request.ctx.namespace),
        _ => (&api::kinds::CLUSTER_ROLE, None),
    };
    if may(authorizer, request, "bind", &row.plural, Some(&role.name)) {
        return Ok(());
    }
    match authorizer.rbac().role_rules(&role, namespace) {
        Some(rules) => check(authorizer, request, &rules),
        None => Err(ApiError::not_found(row, &role.name)),
    }
}

fn may(
    authorizer: &Authorizer,
    request: &Request<'_>,
    verb: &str,
    resource: &str,
    name: Option<&str>,
) -> bool {
    let attributes = Attributes {
        user: request.ctx.user,
        verb,
        group: GROUP,
        resource,
        subresource: None,
        namespace: request.ctx.namespace,
        name,
        fields: None,
        path: "",
    };
    authorizer.authorize(&attributes) == Decision::Allow
}

fn check(authorizer: &Authorizer, request: &Request<'_>, wanted: &[PolicyRule]) -> Result<(), ApiError> {
    let user = request.ctx.user;
    let missing = not_covered(&authorizer.rbac().rules(user, request.ctx.namespace), wanted, MAX_TOLD)
        .map_err(|error| request.forbidden(&error.to_string()))?;
    if missing.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = missing.iter().map(printed).collect();
    lines.sort_unstable();
    let groups = quoted(&user.groups, " ");
    Err(request.forbidden(&format!(
        "user {:?} (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        lines.join("\n")
    )))
}

fn quoted(list: &[String], separator: &str) -> String {
    list.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(separator)
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`.
fn printed(rule: &PolicyRule) -> String {
    let lists = [
        ("APIGroups", rule.api_groups.as_deref()),
        ("Resources", rule.resources.as_deref()),
        ("ResourceNames", rule.resource_names.as_deref()),
        ("NonResourceURLs", rule.non_resource_urls.as_deref()),
        ("Verbs", Some(rule.verbs.as_slice())),
    ];
    let some =
        lists.iter().filter_map(|(name, list)| list.filter(|list| !list.is_empty()).map(|list| (name, list)));
    let parts: Vec<String> = some.map(|(name, list)| format!("{name}:[{}]", quoted(list, " "))).collect();
    format!("{{{}}}", parts.join(", "))
}
