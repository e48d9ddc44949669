//! CEL in admission: what expressions of webhooks and policies see of a request, and who answers for their
//! authorizer.

use std::sync::Arc;

use api::Identity;
use api::json::text;
use cel::{Activation, Budget, Check, Library, ParseError, Program, Value as CelValue};
use serde_json::Value;

use crate::authz::{Attributes, Authorizer, Decision};

/// Steps that all conditions of one webhook or policy may take together.
pub(crate) const CONDITIONS_BUDGET: u64 = 2_500_000;
/// Steps that all expressions of one policy may take together.
pub(crate) const POLICY_BUDGET: u64 = 10_000_000;

/// Names that every expression may use.
pub(crate) const NAMES: [&str; 4] = ["object", "oldObject", "request", "authorizer"];

/// What expressions see.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) object: &'a Value,
    pub(crate) old: &'a Value,
    /// The `AdmissionRequest` without its objects.
    pub(crate) request: &'a Value,
    pub(crate) namespace: Option<&'a Value>,
    pub(crate) params: Option<&'a Value>,
    pub(crate) authorizer: &'a Asker<'a>,
}

impl<'a> Inputs<'a> {
    pub(crate) fn activation(&self, budget: &'a Budget) -> Activation<'a> {
        let request = self.request;
        let part = |path: &str| text(request, path).to_string();
        let own = Check {
            group: part("resource.group"),
            resource: part("resource.resource"),
            subresource: part("subResource"),
            namespace: part("namespace"),
            name: part("name"),
            ..Check::default()
        };
        let null = &Value::Null;
        Activation::new(budget)
            .set("object", self.object)
            .set("oldObject", self.old)
            .set("request", request)
            .set("namespaceObject", self.namespace.unwrap_or(null))
            .set("params", self.params.unwrap_or(null))
            .set("authorizer", CelValue::authorizer(Check::default()))
            .set("authorizer.requestResource", CelValue::authorizer(own))
            .authorizer(self.authorizer)
    }
}

/// Answers for whoever makes the request.
pub(crate) struct Asker<'a> {
    pub(crate) authorizer: &'a Arc<Authorizer>,
    pub(crate) user: &'a Identity,
}

impl cel::Authorizer for Asker<'_> {
    fn check(&self, check: &Check) -> cel::Decision {
        let account = check.service_account.as_ref();
        let account = account.map(|(namespace, name)| Identity::service_account(namespace, name));
        let some = |text: &'_ str| (!text.is_empty()).then(|| text.to_string());
        let (subresource, namespace, name) =
            (some(&check.subresource), some(&check.namespace), some(&check.name));
        let decision = self.authorizer.authorize(&Attributes {
            user: account.as_ref().unwrap_or(self.user),
            verb: &check.verb,
            group: &check.group,
            resource: if check.path.is_some() { "" } else { &check.resource },
            subresource: subresource.as_deref(),
            namespace: namespace.as_deref(),
            name: name.as_deref(),
            fields: None,
            path: check.path.as_deref().unwrap_or(""),
        });
        match decision {
            Decision::Allow => cel::Decision { allowed: true, reason: String::new() },
            Decision::Deny(reason) => cel::Decision { allowed: false, reason },
        }
    }
}

/// A condition under which a webhook or a policy concerns a request.
pub(crate) struct Condition {
    pub(crate) name: String,
    /// What was stored before it was checked may be no expression.
    program: Result<Program, ParseError>,
}

/// What conditions come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Yes,
    No,
    /// None is false, and these could not be told.
    Unknown(String),
}

impl Condition {
    /// The `matchConditions` of a webhook or a policy.
    pub(crate) fn list(given: &[Value], names: &[&str], library: &Library) -> Vec<Condition> {
        let condition = |one: &Value| Condition {
            name: text(one, "name").to_string(),
            program: Program::compile_with(text(one, "expression").trim(), names, library),
        };
        given.iter().map(condition).collect()
    }
}

/// Whether all conditions hold; one that is false decides, whatever the others come to.
pub(crate) fn met<'a>(conditions: &'a [Condition], inputs: &Inputs<'a>, budget: &'a Budget) -> Met {
    if conditions.is_empty() {
        return Met::Yes;
    }
    let activation = inputs.activation(budget);
    let mut unknown = Vec::new();
    for condition in conditions {
        let holds = match &condition.program {
            Ok(program) => program.holds(&activation).map_err(|error| error.to_string()),
            Err(error) => Err(format!("compilation failed: {error}")),
        };
        match holds {
            Ok(true) => {}
            Ok(false) => return Met::No,
            Err(error) => {
                unknown.push(format!("expression '{}' resulted in error: {error}", condition.source()))
            }
        }
    }
    match &unknown[..] {
        [] => Met::Yes,
        [only] => Met::Unknown(only.clone()),
        many => Met::Unknown(format!("[{}]", many.join(", "))),
    }
}

impl Condition {
    fn source(&self) -> &str {
        self.program.as_ref().map_or(&self.name, |program| program.source())
    }
}
