//! `Policy` of `audit.k8s.io/v1`: which requests are written down, and how much of them.

use api::validation::dns1123_subdomain;
use api::{FieldError, Identity};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why a policy is none.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("failed decoding: {0}")]
    Syntax(String),
    #[error("failed decoding: no kind {kind:?} is registered for version {version:?}")]
    Kind { kind: String, version: String },
    #[error("{0}")]
    Invalid(String),
    #[error("loaded illegal policy with 0 rules")]
    Empty,
}

/// How much of a request is written down; each includes what is before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Level {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub(super) const ALL: [(Level, &str); 4] = [
        (Level::None, "None"),
        (Level::Metadata, "Metadata"),
        (Level::Request, "Request"),
        (Level::RequestResponse, "RequestResponse"),
    ];
}

/// When in the course of a request an event is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    RequestReceived,
    /// The head of an answer without an end has been sent.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    const ALL: [(Stage, &str); 4] = [
        (Stage::RequestReceived, "RequestReceived"),
        (Stage::ResponseStarted, "ResponseStarted"),
        (Stage::ResponseComplete, "ResponseComplete"),
        (Stage::Panic, "Panic"),
    ];
}

/// A set of stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stages(u8);

impl Stages {
    pub(super) fn has(self, stage: Stage) -> bool {
        self.0 & (1 << stage as u8) != 0
    }

    fn and(self, other: Stages) -> Stages {
        Stages(self.0 | other.0)
    }

    /// Those of a list, which may name others.
    fn of(names: &[String]) -> Stages {
        let stages = Stage::ALL.iter().filter(|(_, name)| lists(names, name));
        Stages(stages.fold(0, |set, (stage, _)| set | 1 << *stage as u8))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Policy {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    api_version: String,
    kind: String,
    rules: Vec<Rule>,
    omit_stages: Vec<String>,
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    #[serde(rename = "level")]
    level_name: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
    /// What the names above mean, and what the policy says for all rules.
    #[serde(skip)]
    verdict: Verdict,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Resources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

const MEMBERS: [&str; 6] = ["apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"];
const RULE: [&str; 9] = [
    "level",
    "users",
    "userGroups",
    "verbs",
    "resources",
    "namespaces",
    "nonResourceURLs",
    "omitStages",
    "omitManagedFields",
];
const RESOURCES: [&str; 3] = ["group", "resources", "resourceNames"];

/// What a request is about, as a policy and an event see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) is_resource: bool,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What a policy says of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) level: Level,
    pub(crate) omit_stages: Stages,
    pub(crate) omit_managed_fields: bool,
}

impl Policy {
    /// As upstream reads it: what is unknown or there twice is warned of, what is wrong is refused.
    pub(crate) fn parse(text: &[u8]) -> Result<Policy, PolicyError> {
        let (tree, mut faults) = api::schema::decode_yaml(text)
            .map_err(|error| PolicyError::Syntax(error.message().to_string()))?;
        unknown(&tree, &mut faults);
        if !faults.is_empty() {
            let faults = faults.join(", ");
            tracing::warn!(faults, "audit policy contains errors, falling back to lenient decoding");
        }
        let file = File::deserialize(&tree).map_err(|error| PolicyError::Syntax(error.to_string()))?;
        if file.api_version != "audit.k8s.io/v1" || file.kind != "Policy" {
            return Err(PolicyError::Kind { kind: file.kind, version: file.api_version });
        }
        let faults = file.faults();
        if !faults.is_empty() {
            let faults: Vec<String> = faults.iter().map(|fault| fault.to_string()).collect();
            return Err(PolicyError::Invalid(faults.join(", ")));
        }
        if file.rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        let everywhere = Stages::of(&file.omit_stages);
        let omit_managed_fields = file.omit_managed_fields;
        let mut rules = file.rules;
        for rule in &mut rules {
            let level = Level::ALL.iter().find(|(_, name)| *name == rule.level_name);
            rule.verdict = Verdict {
                level: level.map_or(Level::None, |(level, _)| *level),
                omit_stages: everywhere.and(Stages::of(&rule.omit_stages)),
                omit_managed_fields: rule.omit_managed_fields.unwrap_or(omit_managed_fields),
            };
        }
        Ok(Policy { rules })
    }

    /// The first rule that is about the request decides.
    pub(crate) fn judge(&self, user: &Identity, what: &Attributes) -> Verdict {
        let rule = self.rules.iter().find(|rule| rule.is_about(user, what));
        rule.map_or(Verdict::default(), |rule| rule.verdict)
    }
}

/// Names members that a policy does not have.
fn unknown(tree: &Value, faults: &mut Vec<String>) {
    let mut look = |tree: &Value, at: &str, known: &[&str]| {
        let members = tree.as_object().into_iter().flatten().map(|(name, _)| name);
        let unknown = members.filter(|name| !known.contains(&name.as_str()));
        faults.extend(unknown.map(|name| format!("unknown field \"{at}{name}\"")));
    };
    look(tree, "", &MEMBERS);
    for (index, rule) in tree["rules"].as_array().into_iter().flatten().enumerate() {
        look(rule, &format!("rules[{index}]."), &RULE);
        for (inner, resources) in rule["resources"].as_array().into_iter().flatten().enumerate() {
            look(resources, &format!("rules[{index}].resources[{inner}]."), &RESOURCES);
        }
    }
}

impl File {
    fn faults(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        stage_faults(&self.omit_stages, "omitStages", &mut faults);
        for (index, rule) in self.rules.iter().enumerate() {
            rule.faults(&format!("rules[{index}]"), &mut faults);
        }
        faults
    }
}

fn stage_faults(stages: &[String], at: &str, faults: &mut Vec<FieldError>) {
    let known = Stage::ALL.map(|(_, name)| name);
    for (index, stage) in stages.iter().enumerate() {
        if !known.contains(&stage.as_str()) {
            let why = format!("allowed stages are {}", known.join(","));
            faults.push(FieldError::invalid(format!("{at}[{index}]"), stage, why));
        }
    }
}

impl Rule {
    fn faults(&self, at: &str, faults: &mut Vec<FieldError>) {
        let levels = Level::ALL.map(|(_, name)| name);
        match self.level_name.as_str() {
            "" => faults.push(FieldError::required(format!("{at}.level"), "")),
            name if levels.contains(&name) => {}
            name => faults.push(FieldError::not_supported(
                format!("{at}.level"),
                name,
                &["Metadata", "None", "Request", "RequestResponse"],
            )),
        }
        let urls = format!("{at}.nonResourceURLs");
        for (index, url) in self.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
            let mut refuse = |why: &str| {
                faults.push(FieldError::invalid(format!("{urls}[{index}]"), url, why));
            };
            if !url.starts_with('/') {
                refuse("non-resource URL rules must begin with a '/' character");
            }
            if url.strip_suffix('*').unwrap_or(url).contains('*') {
                refuse("non-resource URL wildcards '*' must be the final character of the rule");
            }
        }
        for resources in &self.resources {
            if !matches!(resources.group.as_str(), "" | "*") {
                let why = dns1123_subdomain(&resources.group);
                if !why.is_empty() {
                    let at = format!("{at}.resources.group");
                    faults.push(FieldError::invalid(at, &resources.group, why.join(",")));
                }
            }
            if !resources.resource_names.is_empty() && resources.resources.is_empty() {
                let why = "using resourceNames requires at least one resource";
                let at = format!("{at}.resources.resourceNames");
                faults.push(FieldError::invalid(at, &resources.resource_names, why));
            }
        }
        stage_faults(&self.omit_stages, &format!("{at}.omitStages"), faults);
        let both = !(self.resources.is_empty() && self.namespaces.is_empty());
        if both && !self.non_resource_urls.is_empty() {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            faults.push(FieldError::invalid(urls, &self.non_resource_urls, why));
        }
    }

    fn is_about(&self, user: &Identity, what: &Attributes) -> bool {
        if !self.users.is_empty() && !lists(&self.users, &user.name) {
            return false;
        }
        if !self.user_groups.is_empty() && !self.user_groups.iter().any(|group| user.in_group(group)) {
            return false;
        }
        if !self.verbs.is_empty() && !lists(&self.verbs, &what.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return what.is_resource
                && (self.namespaces.is_empty() || lists(&self.namespaces, &what.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|one| one.has(what)));
        }
        if !self.non_resource_urls.is_empty() {
            return !what.is_resource && self.non_resource_urls.iter().any(|url| is_path(&what.path, url));
        }
        true
    }
}

fn lists(list: &[String], value: &str) -> bool {
    list.iter().any(|one| one == value)
}

fn is_path(path: &str, url: &str) -> bool {
    url == "*" || url == path || url.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

impl Resources {
    fn has(&self, what: &Attributes) -> bool {
        if self.group != what.group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !lists(&self.resource_names, &what.name) {
            return false;
        }
        self.resources.iter().any(|resource| match resource.split_once('/') {
            _ if resource == "*" => true,
            Some(("*", sub)) => !what.subresource.is_empty() && what.subresource == sub,
            Some((resource, "*")) => resource == what.resource,
            Some((resource, sub)) => resource == what.resource && sub == what.subresource,
            None => what.subresource.is_empty() && *resource == what.resource,
        })
    }
}

#[cfg(test)]
mod tests;
