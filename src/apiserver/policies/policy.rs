//! A policy and its bindings, read once.

use api::LabelSelector;
use api::json::{items, text};
use cel::{Library, ParseError, Program};
use k8s_openapi::apimachinery::pkg::apis::meta::v1;
use serde_json::Value;

use crate::expressions::Condition;
use crate::webhooks::{Rule, Selectors};

/// Names that expressions of a policy may use.
pub(crate) const NAMES: [&str; 7] =
    ["object", "oldObject", "request", "authorizer", "namespaceObject", "params", "variables"];

/// An expression; what was stored before it was checked may be none.
pub(crate) type Read = Result<Program, ParseError>;

fn read(source: &str, library: &Library) -> Read {
    Program::compile_with(source.trim(), &NAMES, library)
}

/// What a validation demands, and what is said when it does not hold.
pub(crate) struct Validation {
    pub(crate) expression: Read,
    pub(crate) source: String,
    pub(crate) message: String,
    pub(crate) message_expression: Option<Read>,
    pub(crate) reason: String,
}

/// How a policy changes an object.
pub(crate) enum Mutation {
    /// The fields of an object are applied.
    Apply(Read),
    /// Steps of a JSON patch.
    Patch(Read),
}

/// A policy.
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) fails_open: bool,
    /// `apiVersion` and kind of its parameters.
    pub(crate) param_kind: Option<(String, String)>,
    pub(crate) constraints: Match,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) variables: Vec<(String, Read)>,
    pub(crate) validations: Vec<Validation>,
    pub(crate) mutations: Vec<Mutation>,
    /// Keys and values for the audit log.
    pub(crate) annotations: Vec<(String, Read)>,
    pub(crate) reinvoked: bool,
}

impl Policy {
    pub(super) fn new(policy: &Value) -> Self {
        let spec = &policy["spec"];
        let kind = &spec["paramKind"];
        let library = &Library::default();
        let variable = |one: &Value| (text(one, "name").to_string(), read(text(one, "expression"), library));
        Policy {
            name: text(policy, "metadata.name").to_string(),
            fails_open: text(spec, "failurePolicy") == "Ignore",
            param_kind: kind
                .is_object()
                .then(|| (text(kind, "apiVersion").to_string(), text(kind, "kind").to_string())),
            constraints: Match::new(&spec["matchConstraints"]),
            conditions: Condition::list(items(spec, "matchConditions"), &NAMES, library),
            variables: items(spec, "variables").iter().map(variable).collect(),
            validations: items(spec, "validations").iter().map(|one| Validation::new(one, library)).collect(),
            mutations: items(spec, "mutations").iter().map(|one| Mutation::new(one, library)).collect(),
            annotations: items(spec, "auditAnnotations")
                .iter()
                .map(|one| (text(one, "key").to_string(), read(text(one, "valueExpression"), library)))
                .collect(),
            reinvoked: text(spec, "reinvocationPolicy") == "IfNeeded",
        }
    }
}

impl Validation {
    fn new(one: &Value, library: &Library) -> Self {
        let message = text(one, "messageExpression");
        Validation {
            expression: read(text(one, "expression"), library),
            source: text(one, "expression").trim().to_string(),
            message: text(one, "message").trim().to_string(),
            message_expression: (!message.is_empty()).then(|| read(message, library)),
            reason: text(one, "reason").to_string(),
        }
    }
}

impl Mutation {
    fn new(one: &Value, library: &Library) -> Self {
        match text(one, "patchType") {
            "JSONPatch" => Mutation::Patch(read(text(one, "jsonPatch.expression"), library)),
            _ => Mutation::Apply(read(text(one, "applyConfiguration.expression"), library)),
        }
    }
}

/// Which requests are meant.
#[derive(Clone)]
pub(crate) struct Match {
    pub(crate) rules: Vec<Rule>,
    pub(crate) excluded: Vec<Rule>,
    pub(crate) selectors: Selectors,
    pub(crate) equivalent: bool,
}

impl Match {
    fn new(given: &Value) -> Self {
        let rules = |name: &str| items(given, name).iter().map(Rule::new).collect();
        Match {
            rules: rules("resourceRules"),
            excluded: rules("excludeResourceRules"),
            selectors: Selectors::new(given),
            equivalent: text(given, "matchPolicy") != "Exact",
        }
    }
}

/// Which objects parametrise a policy.
#[derive(Clone)]
pub(crate) struct ParamRef {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) selector: Option<LabelSelector>,
    /// Whether it is an error that there are none.
    pub(crate) required: bool,
}

/// A binding.
#[derive(Clone)]
pub(crate) struct Binding {
    pub(crate) name: String,
    pub(crate) policy: String,
    pub(crate) param_ref: Option<ParamRef>,
    /// Narrows what the policy matches.
    pub(crate) resources: Option<Match>,
    pub(crate) denies: bool,
    pub(crate) warns: bool,
    /// Failures are told to the audit log.
    pub(crate) audits: bool,
    pub(crate) actions: Vec<String>,
}

impl Binding {
    pub(super) fn new(binding: &Value) -> Self {
        let spec = &binding["spec"];
        let given = &spec["paramRef"];
        let selector = serde_json::from_value::<v1::LabelSelector>(given["selector"].clone()).ok();
        let actions = items(spec, "validationActions");
        let does = |action: &str| actions.iter().any(|one| one == action);
        Binding {
            name: text(binding, "metadata.name").to_string(),
            policy: text(spec, "policyName").to_string(),
            param_ref: given.is_object().then(|| ParamRef {
                name: text(given, "name").to_string(),
                namespace: text(given, "namespace").to_string(),
                selector: selector.map(|selector| LabelSelector::from_meta(Some(&selector))),
                required: text(given, "parameterNotFoundAction") != "Allow",
            }),
            resources: spec["matchResources"].is_object().then(|| Match::new(&spec["matchResources"])),
            denies: does("Deny"),
            warns: does("Warn"),
            audits: does("Audit"),
            actions: actions.iter().filter_map(Value::as_str).map(str::to_string).collect(),
        }
    }
}
