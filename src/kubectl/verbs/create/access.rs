//! Generators of RBAC objects.

use clap::Args;
use serde_json::{Map, Value, json};

use super::GeneratorArgs;
use crate::env::Env;
use crate::error::{Error, Result};

#[derive(Args)]
struct RuleArgs {
    /// Verbs that the rule allows
    #[arg(long, value_delimiter = ',')]
    verb: Vec<String>,
    /// Resources, as NAME, NAME.GROUP or NAME/SUBRESOURCE
    #[arg(long, value_delimiter = ',')]
    resource: Vec<String>,
    /// Names of objects the rule is limited to
    #[arg(long, value_delimiter = ',')]
    resource_name: Vec<String>,
}

/// Create a role with single rule
#[derive(Args)]
pub(crate) struct RoleArgs {
    name: String,
    #[command(flatten)]
    rule: RuleArgs,
    #[command(flatten)]
    generator: GeneratorArgs,
}

/// Create a cluster role
#[derive(Args)]
pub(crate) struct ClusterRoleArgs {
    name: String,
    #[command(flatten)]
    rule: RuleArgs,
    /// Paths that are no resources
    #[arg(long = "non-resource-url", value_delimiter = ',')]
    non_resource_urls: Vec<String>,
    /// Labels of cluster roles to gather rules from, KEY=VALUE,…
    #[arg(long, value_delimiter = ',')]
    aggregation_rule: Vec<String>,
    #[command(flatten)]
    generator: GeneratorArgs,
}

#[derive(Args)]
struct SubjectArgs {
    /// Users to bind
    #[arg(long, value_delimiter = ',')]
    user: Vec<String>,
    /// Groups to bind
    #[arg(long, value_delimiter = ',')]
    group: Vec<String>,
    /// Service accounts to bind, NAMESPACE:NAME
    #[arg(long, value_delimiter = ',')]
    serviceaccount: Vec<String>,
}

/// Create a role binding for a particular role or cluster role
#[derive(Args)]
pub(crate) struct RoleBindingArgs {
    name: String,
    #[arg(long)]
    clusterrole: Option<String>,
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    subjects: SubjectArgs,
    #[command(flatten)]
    generator: GeneratorArgs,
}

/// Create a cluster role binding for a particular cluster role
#[derive(Args)]
pub(crate) struct ClusterRoleBindingArgs {
    name: String,
    #[arg(long)]
    clusterrole: Option<String>,
    #[command(flatten)]
    subjects: SubjectArgs,
    #[command(flatten)]
    generator: GeneratorArgs,
}

const GROUP: &str = "rbac.authorization.k8s.io";
const VERSION: &str = "rbac.authorization.k8s.io/v1";

impl RuleArgs {
    /// One rule for each API group.
    async fn rules(&self, env: &Env) -> Result<Vec<Value>> {
        if self.verb.is_empty() {
            return Err(Error::message("at least one verb must be specified"));
        }
        if self.resource.is_empty() {
            return Err(Error::message("at least one resource must be specified"));
        }
        let verbs = if self.verb.iter().any(|verb| verb == "*") {
            vec!["*".to_string()]
        } else {
            deduped(&self.verb)
        };
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for resource in &self.resource {
            let (name, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let (group, plural) = if name == "*" {
                (String::new(), "*".to_string())
            } else {
                let row = env.resource(name).await?;
                (row.group.to_string(), row.plural.to_string())
            };
            let full = if subresource.is_empty() { plural } else { format!("{plural}/{subresource}") };
            match groups.iter_mut().find(|(known, _)| *known == group) {
                Some((_, resources)) if resources.contains(&full) => {}
                Some((_, resources)) => resources.push(full),
                None => groups.push((group, vec![full])),
            }
        }
        let names = &self.resource_name;
        let rule = |(group, resources): (String, Vec<String>)| {
            let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
            if !names.is_empty() {
                rule["resourceNames"] = json!(names);
            }
            rule
        };
        Ok(groups.into_iter().map(rule).collect())
    }
}

fn deduped(texts: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for text in texts {
        if !found.contains(text) {
            found.push(text.clone());
        }
    }
    found
}

pub(super) async fn role(env: &Env, args: RoleArgs) -> Result<(Value, GeneratorArgs)> {
    let rules = args.rule.rules(env).await?;
    let object =
        json!({"apiVersion": VERSION, "kind": "Role", "metadata": {"name": args.name}, "rules": rules});
    Ok((object, args.generator))
}

pub(super) async fn cluster_role(env: &Env, args: ClusterRoleArgs) -> Result<(Value, GeneratorArgs)> {
    let mut object = json!({"apiVersion": VERSION, "kind": "ClusterRole", "metadata": {"name": args.name}});
    if !args.aggregation_rule.is_empty() {
        let mut labels = Map::new();
        for pair in &args.aggregation_rule {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::message(format!("invalid aggregation rule {pair:?}")))?;
            labels.insert(key.to_string(), json!(value));
        }
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
        object["rules"] = Value::Null;
        return Ok((object, args.generator));
    }
    let mut rules = Vec::new();
    if !args.rule.resource.is_empty() {
        rules = args.rule.rules(env).await?;
    }
    if !args.non_resource_urls.is_empty() {
        if args.rule.verb.is_empty() {
            return Err(Error::message("at least one verb must be specified"));
        }
        rules.push(json!({"nonResourceURLs": args.non_resource_urls, "verbs": deduped(&args.rule.verb)}));
    }
    if rules.is_empty() {
        return Err(Error::message("one of resource or nonResourceURL must be specified"));
    }
    object["rules"] = Value::Array(rules);
    Ok((object, args.generator))
}

impl SubjectArgs {
    fn subjects(&self) -> Result<Vec<Value>> {
        let named =
            |kind: &'static str| move |name: &String| json!({"apiGroup": GROUP, "kind": kind, "name": name});
        let mut subjects: Vec<Value> = self.user.iter().map(named("User")).collect();
        subjects.extend(self.group.iter().map(named("Group")));
        for account in &self.serviceaccount {
            let (namespace, name) = account
                .split_once(':')
                .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
                .ok_or_else(|| Error::message("serviceaccount must be <namespace>:<name>"))?;
            subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
        }
        Ok(subjects)
    }
}

fn binding(kind: &str, name: &str, role: (&str, &str), subjects: Vec<Value>) -> Value {
    let (role_kind, role_name) = role;
    let mut object = json!({
        "apiVersion": VERSION, "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role_name},
    });
    if !subjects.is_empty() {
        object["subjects"] = Value::Array(subjects);
    }
    object
}

pub(super) fn role_binding(args: RoleBindingArgs) -> Result<(Value, GeneratorArgs)> {
    let role = match (&args.clusterrole, &args.role) {
        (Some(name), None) => ("ClusterRole", name.as_str()),
        (None, Some(name)) => ("Role", name.as_str()),
        _ => return Err(Error::message("exactly one of clusterrole or role must be specified")),
    };
    let object = binding("RoleBinding", &args.name, role, args.subjects.subjects()?);
    Ok((object, args.generator))
}

pub(super) fn cluster_role_binding(args: ClusterRoleBindingArgs) -> Result<(Value, GeneratorArgs)> {
    let Some(name) = &args.clusterrole else {
        return Err(Error::message("required flag(s) \"clusterrole\" not set"));
    };
    let object = binding("ClusterRoleBinding", &args.name, ("ClusterRole", name), args.subjects.subjects()?);
    Ok((object, args.generator))
}
